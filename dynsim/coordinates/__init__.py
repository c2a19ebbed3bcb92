"""Coordinates of any model: recorded while it trains, and checked against a parametrization."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
