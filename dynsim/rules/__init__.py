"""Learning-rate rules for a model of given width and vocabulary, and their export to trainers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
