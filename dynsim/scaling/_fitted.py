"""The exponent that measured cells have: fit, interval, drift, local slopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dynsim._summary import summary
from dynsim.statistics import Estimate, ExponentFit, Resamples, bootstrap, exponent_of

from ._quantity import Floats, Sampled

ONE_VALUE = "the networks of a size measure one value, which has no interval"
NOT_POSITIVE = (
    "the quantity is no positive number in some resamples of the networks, so that it has no "
    "interval: take more `seeds`"
)


@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """A quantity of trained networks at growing sizes, and the power law through it.

    - `sizes`, `samples`: every size, and what its networks measured, seeds last.
    - `fit`: least squares over the sizes at which the quantity is finite; None below two.
    - `used`: which sizes these are, shape (K,).
    - `values`, `low`, `high`: the quantity and its 95 % interval, shape (K,).
    - `diverged`: networks that are not finite, shape (K,).
    - `local`: slopes between neighbouring sizes that are used.
    """

    sizes: NDArray[np.int64]
    samples: tuple[Floats, ...]
    fit: ExponentFit | None
    used: NDArray[np.bool_]
    values: Floats
    low: Floats
    high: Floats
    diverged: NDArray[np.int64]
    local: tuple[Estimate, ...]

    def __repr__(self) -> str:
        return summary("Fitted", sizes=self.sizes, values=self.values, fit=self.fit)


def no_interval(estimate: Estimate, seeds: int) -> str | None:
    """Why a measured exponent has no interval; None where it has one."""
    if estimate.low < estimate.high:
        return None
    if not math.isfinite(estimate.low) or not math.isfinite(estimate.high):
        return NOT_POSITIVE
    return ONE_VALUE if seeds > 1 else f"{ONE_VALUE}: take more `seeds`"


def fitted(sizes: Sequence[int], cells: Sequence[Sampled]) -> Fitted:
    """The power law through the cells of these sizes, by bootstrap over seeds in each cell."""
    with np.errstate(all="ignore"):
        logs = np.array([float(cell.log_value(cell.samples)) for cell in cells])
        used = np.isfinite(logs)
        diverged = np.array(
            [_diverged(cell, bool(good)) for cell, good in zip(cells, used, strict=True)]
        )
        values = np.where(used, np.exp(logs), np.nan)
        low, high = values.copy(), values.copy()
        kept = [cell for cell, good in zip(cells, used, strict=True) if good]
        known = np.asarray(sizes, dtype=np.int64)[used]
        samples = [cell.samples for cell in kept]

        def log_values(*chosen: Floats, axis: int = -1) -> Floats:
            return np.array([cell.log_value(one) for cell, one in zip(kept, chosen, strict=True)])

        fit: ExponentFit | None = None
        local: tuple[Estimate, ...] = ()
        if len(kept) >= 2:
            fit = exponent_of(known, samples, log_values, vectorized=True)
            # Each with the degrees of freedom of the networks that it is about, not of all sizes.
            alone = [interval_of([cell], lambda logs: logs[0]) for cell in kept]
            low[used], high[used] = np.exp([[one.low, one.high] for one in alone]).T
            steps = np.diff(np.log(known.astype(float)))
            local = tuple(
                interval_of(pair, lambda logs, step=step: (logs[1] - logs[0]) / step)
                for pair, step in zip(pairwise(kept), steps, strict=True)
            )
    return Fitted(
        np.asarray(sizes, dtype=np.int64),
        tuple(cell.samples for cell in cells),
        fit,
        used,
        values,
        low,
        high,
        diverged,
        local,
    )


def interval_of(cells: Sequence[Sampled], of: Callable[[Sequence[Floats]], Floats]) -> Estimate:
    """A function of the logarithms of the quantity in some cells, with its interval."""

    def statistic(*chosen: Floats, axis: int = -1) -> Floats:
        return of([cell.log_value(one) for cell, one in zip(cells, chosen, strict=True)])

    samples = [cell.samples for cell in cells]
    return bootstrap(statistic, samples, resamples=Resamples.QUICK, vectorized=True)


def _diverged(cell: Sampled, finite: bool) -> int:
    """Networks that are not finite. (Of a grid of learning rates some points may diverge.)"""
    if finite and cell.samples.ndim > 1:
        return 0
    lost = ~np.isfinite(cell.samples)
    return int(np.sum(lost.any(axis=tuple(range(lost.ndim - 1)))))
