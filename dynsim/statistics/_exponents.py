"""Exponents of power laws: least squares of logarithms, and what else the data allow.

Three routes to a slope, for three questions: `log_slope` (least squares) is the value that is
quoted; `median_slope` (Theil and Sen) shows whether single sizes carry it; `compatible_slopes` says
which slopes the near-optimal intervals leave open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._summary import summary

from ._intervals import Estimate, Resamples, bootstrap, interval_text

Floats = NDArray[np.float64]

UNBOUNDED_SLOPE = 100.0  # a slope beyond counts as infinite


@dataclass(frozen=True, repr=False)
class ExponentFit(Estimate):
    """An exponent and its `drift`: the fit without the smallest size minus the fit with all."""

    drift: float = math.nan

    def __repr__(self) -> str:
        return summary("ExponentFit", exponent=interval_text(self), drift=self.drift)


def fit_exponent(
    sizes: ArrayLike,
    samples: Sequence[Floats],
    *,
    power: float = 1.0,
    log_value: Callable[[Floats], Floats] | None = None,
    resamples: int = Resamples.PRECISE,
) -> ExponentFit:
    """Exponent x of y ~ size^x, y = (mean over seeds of a cell's samples)^power.

    Least squares of log y on log size; interval by bootstrap over seeds within each cell.
    `samples[k]` are the seeds of the cell of `sizes[k]`. For an RMS give the squares and
    `power` = 1/2. For any other y give `log_value`, which takes a cell (..., S) or its resamples
    (..., R, S) to log y, a number or shape (R,).
    """
    log_size = np.log(np.asarray(sizes, dtype=np.float64))
    of_cell = log_value or (lambda cell: power * np.log(np.mean(cell, axis=-1)))

    def slope(*cells: Floats, axis: int = -1) -> Floats:
        return log_slope(log_size, np.array([of_cell(cell) for cell in cells]))

    estimate = bootstrap(slope, samples, resamples=resamples, vectorized=True)
    drift = math.nan
    if len(samples) > 2:
        values = np.array([of_cell(cell) for cell in samples[1:]])
        drift = float(log_slope(log_size[1:], values) - estimate.value)
    return ExponentFit(estimate.value, estimate.low, estimate.high, drift)


def log_slope(log_size: Floats, log_value: Floats) -> Floats:
    """Least-squares slope of log_value on log_size, along the first axis of log_value."""
    centred = log_size - log_size.mean()
    return centred @ (log_value - np.mean(log_value, axis=0)) / (centred @ centred)


def median_slope(log_size: Floats, log_value: Floats) -> float:
    """Median of all pairs' slopes (Theil and Sen)."""
    from scipy.stats import theilslopes

    return float(theilslopes(log_value, log_size).slope)


def compatible_slopes(log_size: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[float, float]:
    """Smallest and largest slope of a line a + b x that passes through all intervals [low, high].

    Two linear programs in (a, b); ends may be infinite. (NaN, NaN) if there is no such line;
    a slope beyond ±100 counts as infinite.
    """
    from scipy.optimize import linprog

    x, low, high = (np.asarray(a, dtype=np.float64) for a in (log_size, low, high))
    lines = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    rows, bounds = np.concatenate([lines, -lines]), np.concatenate([high, -low])
    known = np.isfinite(bounds)

    def extreme(sign: float) -> float:
        found = linprog(
            [0.0, sign],
            A_ub=rows[known],
            b_ub=bounds[known],
            bounds=[(None, None), (-UNBOUNDED_SLOPE, UNBOUNDED_SLOPE)],
        )
        if not found.success:
            return math.nan
        slope = float(found.x[1])
        return slope if abs(slope) < UNBOUNDED_SLOPE - 1e-6 else math.copysign(math.inf, slope)

    return extreme(1.0), extreme(-1.0)
