"""Token laws: frequencies of token types, from formulas, counts and texts."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
