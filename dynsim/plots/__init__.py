"""Figures of results, in one style: what `.plot()` draws, and how a figure is written."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
