"""Coordinates of any model: recorded while it trains, and checked against a parametrization."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
