"""Learning-rate rules for a model of given width and vocabulary, and their export to trainers."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
