"""Powers of the width from few runs: least squares, and intervals from pooled scatter."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynsim.statistics._intervals import Estimate

Floats = NDArray[np.float64]
SOME = 4  # degrees of freedom from which a term's own scatter counts where it is larger
ENOUGH = 8  # and from which it is used alone


@dataclass(frozen=True)
class Line:
    """ln size against ln width: slope, the sum of squared residuals and what it has left.

    `spread` is the sum of squared deviations of ln width.
    """

    slope: float
    squares: float
    freedom: int
    spread: float


def fitted_line(log_width: Floats, log_size: Floats) -> Line:
    """Least squares over all runs; each run is a point."""
    centred = log_width - log_width.mean()
    spread = float(centred @ centred)
    slope = float(centred @ log_size) / spread
    rest = log_size - log_size.mean() - slope * centred
    return Line(slope, float(rest @ rest), len(log_size) - 2, spread)


def pooled_intervals(
    lines: Mapping[Hashable, Line], group: Mapping[Hashable, Hashable]
) -> dict[Hashable, Estimate]:
    """95 % intervals of all slopes, Student's with the residual scatter of each line.

    A line with fewer than 8 degrees of freedom of its own takes the scatter of its whole group (the
    same term of modules of the same label), and from 4 on its own if that makes the wider interval:
    what reads few directions, such as the projection after attention, scatters more than others do.
    Modules share their runs, so that their residuals
    are not independent: a pool counts half of its degrees of freedom, and at least a line's own.
    The residuals hold the bend of a curve that is no pure power as well, which widens the interval.
    Without any degree of freedom the ends are NaN.
    """
    from scipy.stats import t

    pools: dict[Hashable, list[Line]] = {}
    for key, line in lines.items():
        pools.setdefault(group[key], []).append(line)
    found = {}
    for key, line in lines.items():
        squares, freedom, counted = line.squares, line.freedom, float(line.freedom)
        if freedom < ENOUGH:
            pool = pools[group[key]]
            squares, freedom = sum(x.squares for x in pool), sum(x.freedom for x in pool)
            counted = max(counted, freedom / 2)
        if freedom < 1:
            found[key] = Estimate(line.slope, math.nan, math.nan)
            continue
        half = float(t.ppf(0.975, counted)) * math.sqrt(squares / freedom / line.spread)
        if SOME <= line.freedom < ENOUGH:
            own = math.sqrt(line.squares / line.freedom / line.spread)
            half = max(half, float(t.ppf(0.975, line.freedom)) * own)
        found[key] = Estimate(line.slope, line.slope - half, line.slope + half)
    return found
