"""Figures of results, in one style: what `.plot()` draws, and how a figure is written."""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
