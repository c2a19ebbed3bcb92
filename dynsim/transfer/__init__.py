"""How well learning rates transfer across widths: joint fits and their metrics."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
