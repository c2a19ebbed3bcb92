"""Which features make a matrix coherent at every vocabulary, and what takes that away?"""
