"""Sizes that grow together: paths, quantities along them, and their exponents."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
