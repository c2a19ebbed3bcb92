"""The finite-width laboratory: toy networks, their training over grids, and coordinate checks."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
