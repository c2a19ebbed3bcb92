"""Whose learning restores the alignment of the matrices above the embedding?"""
