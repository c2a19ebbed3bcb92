"""Searches for optimal learning rates, in theory or in trained networks."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
