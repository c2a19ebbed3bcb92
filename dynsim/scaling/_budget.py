"""Sizes and seeds that a time budget allows on this machine."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim.statistics._intervals import jackknife_variances

from ._family import Family
from ._measured import SIDE_BY_SIDE, cost
from ._quantity import AnySetup, Floats, Quantity, Unavailable

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BUDGET = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([a-z]*)")
LEAST_SECONDS, MOST_SECONDS = 1.0, 1e7
PILOT_SEEDS, LEAST_SEEDS, MOST_SEEDS = 4, 8, 256
LEAST_SIZES = 3  # the verdict looks at the drift
PILOT = 0.2  # of the budget: if the first cell takes more, no second one is timed
USED = 0.75  # of the budget is planned, the rest is for theory, bootstrap and what costs more
FIRST, LAST = 64, 2**14  # sizes that double; between them the budget chooses


@dataclass(frozen=True)
class Plan:
    """Sizes and seeds for a budget.

    - `seconds`: the budget; `expected_seconds`: what the networks should take.
    - `sizes`: of the growing size; `seeds`: networks at each.
    - `half_width`: of the 95 % interval that this should give, if the scatter of networks is a
      power of the size between the two cells that were timed, and beyond them as it was there; if
      one was timed, as it was there at all sizes.
    """

    seconds: float
    expected_seconds: float
    sizes: tuple[int, ...]
    seeds: int
    half_width: float

    def __str__(self) -> str:
        sizes = " ".join(map(str, self.sizes))
        if self.expected_seconds > self.seconds:
            return (
                f"budget {self.seconds:g} s is too short: even {self.seeds} networks at each of "
                f"the sizes {sizes} take about {self.expected_seconds:.0f} s; these are trained, "
                f"and the 95 % interval should be ± {self.half_width:.2g}"
            )
        return (
            f"budget {self.seconds:g} s: sizes {sizes} with {self.seeds} networks each, about "
            f"{self.expected_seconds:.0f} s; the 95 % interval should be ± {self.half_width:.2g}"
        )


def budget_seconds(budget: float | str) -> float:
    """Seconds from a number or a text such as 60s or 10m. Raises `InputError`."""
    allowed = "must be a time such as 60s or 10m, at least 1 s"
    if isinstance(budget, str):
        match = _BUDGET.fullmatch(budget.strip().lower())
        if match is None or match[2] not in UNITS:
            raise InputError("budget", budget, allowed)
        seconds = float(match[1]) * UNITS[match[2]]
    elif isinstance(budget, bool) or not isinstance(budget, int | float):
        raise InputError("budget", budget, allowed)
    else:
        seconds = float(budget)
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise InputError("budget", budget, allowed)
    return seconds


def planned(
    quantity: Quantity, family: Family, seconds: float, *, fixed: bool, start: float
) -> Plan:
    """Measures two cells, and chooses sizes and seeds that take `seconds`.

    The sizes of the family are those among which to choose (`choices`); with `fixed` they stay. The
    time of a cell is that of compiling it and a time for each network in proportion to its
    multiplications. `start` is when the budget began, by `time.perf_counter`: what came before,
    such as the derived columns, is part of it.
    """
    sizes, before = list(family.sizes), time.perf_counter()
    if quantity.measurement is None:
        raise Unavailable("it is not measured")
    pilots = sizes[0], sizes[min(2, len(sizes) - 1)]
    first, second = map(family.setup, pilots)
    compiling, running, scatter = _timed(quantity, first)
    compiling_more, running_more = compiling, running * cost(second) / cost(first)
    scatter_more = scatter
    if time.perf_counter() - before < PILOT * seconds:
        compiling_more, running_more, scatter_more = _timed(quantity, second)
        scatter_more = scatter if math.isnan(scatter_more) else scatter_more
    compiling = max(compiling, compiling_more)
    work = np.array([cost(family.setup(size)) for size in sizes])
    per_work = max(running_more / (PILOT_SEEDS * cost(second)), 1e-15)
    least = running / PILOT_SEEDS
    left = USED * seconds - (time.perf_counter() - start)

    def expected(count: int, seeds: int) -> float:
        networks = seeds * np.maximum(least, per_work * work[:count])
        return float(np.sum(compiling / SIDE_BY_SIDE + networks))

    fewest = len(sizes) if fixed else min(LEAST_SIZES, len(sizes))
    counts = range(fewest, len(sizes) + 1)
    count = max((one for one in counts if expected(one, LEAST_SEEDS) <= left), default=fewest)
    per_seed = expected(count, 1) - expected(count, 0)
    most = (left - expected(count, 0)) / per_seed
    seeds = int(np.clip(most, 2, MOST_SEEDS))
    chosen = tuple(sizes[:count])
    scatters = _between(pilots, (scatter, scatter_more), chosen)
    return Plan(
        seconds,
        expected(count, seeds) + time.perf_counter() - start,
        chosen,
        seeds,
        _half_width(chosen, seeds, scatters),
    )


def choices(family_at: Callable[[Sequence[int]], Family], sizes: Sequence[int] | None) -> Family:
    """The family at the sizes among which to choose: those given, or all powers of two, from 64 on,
    at which it exists."""
    if sizes is not None:
        return family_at(sizes)
    doubling = [FIRST * 2**power for power in range(int(math.log2(LAST // FIRST)) + 1)]
    last: InputError | None = None
    for begin in range(len(doubling) - 1):
        for end in range(len(doubling), begin + 1, -1):
            try:
                return family_at(doubling[begin:end])
            except InputError as error:
                last = error
    assert last is not None
    raise last


def _timed(quantity: Quantity, setup: AnySetup) -> tuple[float, float, float]:
    """Seconds of compiling a cell and of running it, and the variance of one network's log."""
    measurement = quantity.measurement
    assert measurement is not None
    times: list[float] = []
    variances: list[float] = []
    for part in range(2):
        labels = np.arange(PILOT_SEEDS, dtype=np.int64) + PILOT_SEEDS * part
        start = time.perf_counter()
        arrays = measurement.run(setup, labels, lambda part: None)
        times.append(time.perf_counter() - start)
        cell = quantity.sampled(setup, arrays)
        with np.errstate(all="ignore"):
            left_out = np.array([float(cell.log_value(one)) for one in _without_each(cell.samples)])
        variances.append(float(jackknife_variances([left_out])[0]) * PILOT_SEEDS)
    return max(times[0] - times[1], 0.0), times[1], float(np.mean(variances))


def _without_each(samples: Floats) -> list[Floats]:
    return [np.delete(samples, seed, axis=-1) for seed in range(samples.shape[-1])]


def _between(pilots: Sequence[int], scatters: Sequence[float], sizes: Sequence[int]) -> Floats:
    """Variances at some sizes: a power law between the pilots', beyond them that of the nearest."""
    logs: Floats = np.log(np.maximum(scatters, 1e-300))
    return np.exp(np.interp(np.log(sizes), np.log(pilots), logs))


def _half_width(sizes: Sequence[int], seeds: int, scatters: Floats) -> float:
    """Of the 95 % interval of a slope through these sizes, from the variances of one network."""
    from scipy.stats import t

    logs: NDArray[np.float64] = np.log(np.asarray(sizes, dtype=float))
    away = logs - logs.mean()
    variance = float(np.sum(away**2 * scatters)) / float(np.sum(away**2)) ** 2 / seeds
    freedom = max(len(sizes) * (seeds - 1), 1)
    return float(t.ppf(0.975, freedom) * math.sqrt(variance))
