"""How do the steps that a bigram task takes grow with the vocabulary?"""
