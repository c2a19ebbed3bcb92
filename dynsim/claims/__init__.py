"""Claims: what a measurement says of a prediction, by one rule for every claim."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
