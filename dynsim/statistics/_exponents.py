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

from ._intervals import Estimate, Resamples, bootstraps, interval_text, jackknives

Floats = NDArray[np.float64]

UNBOUNDED_SLOPE = 100.0  # a slope beyond counts as infinite


@dataclass(frozen=True, repr=False)
class ExponentFit(Estimate):
    """An exponent, and whether the local slopes run away from it.

    - `drift`: the fit without the smallest size minus the fit with all (NaN below three sizes).
    - `last`: the slope between the two largest sizes, with its 95 % interval over the same seeds
      (None below three sizes).
    """

    drift: float = math.nan
    last: Estimate | None = None

    def __repr__(self) -> str:
        last = "none" if self.last is None else interval_text(self.last)
        return summary(
            "ExponentFit", exponent=interval_text(self), drift=self.drift, last_slope=last
        )


def fit_exponent(
    sizes: ArrayLike,
    samples: Sequence[Floats],
    *,
    power: float = 1.0,
    log_value: Callable[[Floats], Floats] | None = None,
    resamples: int = Resamples.PRECISE,
    by_jackknife: bool = False,
) -> ExponentFit:
    """Exponent x of y ~ size^x, y = (mean over seeds of a cell's samples)^power.

    Least squares of log y on log size; interval by bootstrap over seeds within each cell, or
    `by_jackknife` (then NaN where every cell has a single seed).
    `samples[k]` are the seeds of the cell of `sizes[k]`, smallest size first. For an RMS give the
    squares and `power` = 1/2. For any other y give `log_value`, which takes a cell (..., S) or its
    resamples (..., R, S) to log y, a number or shape (R,).

    **Example:**

    >>> import numpy as np
    >>> from dynsim import fit_exponent
    >>> widths = np.array([64, 128, 256])
    >>> samples = [np.array([0.99, 1.0, 1.01]) * width**0.5 for width in widths]  # three seeds each
    >>> fit = fit_exponent(widths, samples)
    >>> f"{fit.value:.2f}, inside [{fit.low:.2f}, {fit.high:.2f}]"
    '0.50, inside [0.49, 0.51]'
    """
    of_cell = log_value or (lambda cell: power * np.log(np.mean(cell, axis=-1)))

    def log_values(*cells: Floats, axis: int = -1) -> Floats:
        return np.array([of_cell(cell) for cell in cells])

    return exponent_of(
        sizes,
        samples,
        log_values,
        resamples=resamples,
        vectorized=True,
        by_jackknife=by_jackknife,
    )


def exponent_of(
    sizes: ArrayLike,
    samples: Sequence[Floats],
    log_values: Callable[..., Floats],
    *,
    resamples: int = Resamples.PRECISE,
    vectorized: bool = False,
    by_jackknife: bool = False,
) -> ExponentFit:
    """`fit_exponent` where samples and sizes need not belong together one by one.

    `log_values(*samples, axis=-1)` returns log y at every size, smallest first, shape (K,); with
    `vectorized` it takes resamples too, and returns shape (K, R). Samples are as in `bootstrap`;
    `by_jackknife` gives the intervals of `jackknife`.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import exponent_of
    >>> widths = np.array([64, 128])
    >>> samples = [np.array([0.9, 1.0, 1.1]) * width**0.5 for width in widths]
    >>> def log_values(*samples, axis=-1):
    ...     return np.log([sample.mean(axis=axis) for sample in samples])
    ...
    >>> round(exponent_of(widths, samples, log_values).value, 3)
    0.5
    """
    log_size = np.log(np.asarray(sizes, dtype=np.float64))

    def slopes(*chosen: Floats, axis: int = -1) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):  # of what is zero at a size: no slope
            logs = log_values(*chosen, axis=axis)
            return np.array([log_slope(log_size[k:], logs[k:]) for k in (0, -2)])

    if by_jackknife:
        fit, last = jackknives(slopes, samples, vectorized=vectorized)
    else:
        fit, last = bootstraps(slopes, samples, resamples=resamples, vectorized=vectorized)
    if len(log_size) < 3:
        return ExponentFit(fit.value, fit.low, fit.high)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = log_slope(log_size[1:], np.asarray(log_values(*samples, axis=-1))[1:])
    return ExponentFit(fit.value, fit.low, fit.high, float(rest) - fit.value, last)


def log_slope(log_size: Floats, log_value: Floats) -> Floats:
    """Least-squares slope of log_value on log_size, along the first axis of log_value.

    Shapes: `log_size` (K,), `log_value` (K, ...); the result is (...).

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import log_slope
    >>> log_size = np.log([64.0, 128.0, 256.0])
    >>> float(log_slope(log_size, 0.5 * log_size).round(6))
    0.5
    """
    centred = log_size - log_size.mean()
    return centred @ (log_value - np.mean(log_value, axis=0)) / (centred @ centred)


def median_slope(log_size: Floats, log_value: Floats) -> float:
    """Median of all pairs' slopes (Theil and Sen).

    Shapes: `log_size` and `log_value` (K,).

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import median_slope
    >>> log_size = np.log([64.0, 128.0, 256.0])
    >>> round(median_slope(log_size, 0.5 * log_size), 6)
    0.5
    """
    from scipy.stats import theilslopes

    return float(theilslopes(log_value, log_size).slope)


def compatible_slopes(log_size: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[float, float]:
    """Smallest and largest slope of a line a + b x that passes through all intervals [low, high].

    Two linear programs in (a, b); ends may be infinite. (NaN, NaN) if there is no such line;
    a slope beyond ±100 counts as infinite.

    Shapes: all three (K,).

    **Example:**

    >>> from dynsim.statistics import compatible_slopes
    >>> low, high = compatible_slopes([0.0, 1.0], [-0.1, 0.9], [0.1, 1.1])
    >>> round(low, 2), round(high, 2)
    (0.8, 1.2)
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
