"""Claims: what a measurement says of a prediction, by one rule for every claim."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
