"""Theory: the first step, the life of the LV regime, mean field, gradient flow, linearisation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
