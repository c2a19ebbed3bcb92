"""What do hidden layers do to the ratio of the embedding's learning rate to theirs?"""
