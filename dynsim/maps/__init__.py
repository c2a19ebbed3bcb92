"""Maps of regimes: a quantity of theory over two axes, with its boundaries and networks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
