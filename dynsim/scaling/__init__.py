"""Sizes that grow together: paths, quantities along them, and their exponents."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
