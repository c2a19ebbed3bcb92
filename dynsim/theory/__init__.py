"""Theory: the first step, the life of the LV regime, mean field, gradient flow, linearisation."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
