"""Intervals, exponents, optima and crossings from few samples.

One module for each: `_parabola` (every fit of a parabola or quadratic form), `_intervals` (every
interval from few seeds), `_exponents`, `_optimum` (rates on a grid), `_loss_surface` (both rates of
a network size), `_rate_exponents`, `_crossings`. Which of them is used when, and why, is a table of
the page docs/statistics.md.
"""

from dynsim._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
