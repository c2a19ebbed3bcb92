"""Searches for optimal learning rates, in theory or in trained networks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
