"""Where a measured curve passes a level, and how well curves fall on one another."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def unit_crossing(rank: NDArray[np.float64], ratio: NDArray[np.float64]) -> float:
    """Rank at which a decreasing, noisy ratio passes 1, without assuming its shape.

    Isotonic regression of the ratio over rank, then interpolation in log rank between the
    centres of the two level stretches on either side of 1. NaN where the ratio never crosses.

    Shapes: `rank` and `ratio` (K,).

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import unit_crossing
    >>> rank = np.arange(1.0, 101.0)
    >>> round(unit_crossing(rank, 20 / rank), 1)
    20.0
    """
    from scipy.optimize import isotonic_regression

    smooth = isotonic_regression(ratio, increasing=False)
    starts = smooth.blocks[:-1]
    centres = np.add.reduceat(np.log(rank), starts) / np.diff(smooth.blocks)
    levels = smooth.x[starts]
    if not levels[0] > 1 > levels[-1]:
        return math.nan
    return float(np.exp(np.interp(-1.0, -levels, centres)))


def first_passage(values: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """The place along the first axis, interpolated, at which values (T, ...) first reach a level.

    Shape (...). NaN where they never do, and where they are there from the start.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import first_passage
    >>> float(first_passage(np.array([0.0, 1.0, 3.0]), level=2.0))
    1.5
    """
    reached = values >= level
    first = np.maximum(reached.argmax(axis=0), 1)
    before, after = (
        np.take_along_axis(values, place[None], axis=0)[0] for place in (first - 1, first)
    )
    known = reached.any(axis=0) & ~reached[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = first - 1 + (level - before) / (after - before)
    return np.where(known, place, np.nan)


def collapse_spread(
    scaled_size: NDArray[np.float64], value: NDArray[np.float64], *, degree: int = 7
) -> float:
    """How far values are from one common curve of the scaled size: 0 is a perfect collapse.

    RMS deviation of log(value) from the polynomial in log(scaled_size) of the given degree that
    fits all cells best: about the relative error with which the scaled size predicts the value.

    Shapes: `scaled_size` and `value` (cells,), both positive.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import collapse_spread
    >>> size = np.geomspace(1, 100, 20)
    >>> round(collapse_spread(size, np.sqrt(1 + size)), 3)  # one curve: a collapse
    0.0
    """
    x, y = np.log(scaled_size), np.log(value)
    x = (x - x.mean()) / (x.std() or 1)
    return float(np.sqrt(np.mean((y - np.polyval(np.polyfit(x, y, degree), x)) ** 2)))
