"""Maps of regimes: a quantity of theory over two axes, with its boundaries and networks."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
