"""The finite-width laboratory: toy networks, their training over grids, and coordinate checks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
