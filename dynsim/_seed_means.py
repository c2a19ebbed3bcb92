"""Means over seeds with Student's 95 % interval: of a curve, and of a root mean square."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95


class Band(NamedTuple):
    """A mean and the ends of its 95 % interval, NaN for a single seed."""

    mean: Floats
    low: Floats
    high: Floats


def seed_mean(samples: ArrayLike, axis: int = -1) -> Band:
    """Mean over seeds, and mean +- t_{S-1} s / sqrt(S): Student's interval."""
    from scipy.stats import t

    values = np.asarray(samples, np.float64)
    count = values.shape[axis]
    with np.errstate(all="ignore"):
        mean = values.mean(axis=axis)
        if count < 2:
            return Band(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
        error = values.std(axis=axis, ddof=1) / np.sqrt(count)
        half = t.ppf((1 + LEVEL) / 2, count - 1) * error
        return Band(mean, mean - half, mean + half)


def seed_rms(samples: ArrayLike, axis: int = -1) -> Band:
    """Root of the mean square over seeds, with the roots of the ends of that mean's interval.

    An end below 0, where few seeds leave the mean square open, counts as 0.
    """
    with np.errstate(all="ignore"):
        squares = seed_mean(np.asarray(samples, np.float64) ** 2, axis)
        return Band(*(np.sqrt(np.maximum(part, 0)) for part in squares))
