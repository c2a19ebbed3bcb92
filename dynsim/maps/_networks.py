"""Trained networks at points of a map, with their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError
from dynsim._initial import network_bytes
from dynsim._runs import device_memory, seed_labels
from dynsim._setup import Setup
from dynsim._summary import summary
from dynsim.scaling._measured import Measure, measured_cells
from dynsim.scaling._quantity import Quantity, Sampled, Unavailable
from dynsim.statistics import Estimate, Resamples, bootstrap

from ._axes import Floats
from ._colours import Colour
from ._mean_field import beside
from ._plane import Plane

MOST_WEIGHTS = 2**24  # of the embedding of one network
MOST_OPERATIONS = 2e10  # multiplications of all seeds and steps at a point
MEMORY_SHARE = 0.25
Progress = Callable[[float], object]
Theory = Callable[[Sequence[Setup], int, int], float]
"""The map's value for the setups of a point, which is cell (row, column)."""


@dataclass(frozen=True, eq=False, repr=False)
class MapNetworks:
    """What trained networks measured at points of a map, arrays of shape (points,).

    - `x`, `y`: where; `value`, `low`, `high`: the colour with its 95 % interval over seeds.
    - `theory`: the map's theory for what was measured (a local exponent is a slope between two
      widths); NaN where there is none.
    - `seeds`: labels of the networks; `left_out`: reasons and how many points they left out.
    """

    x: Floats
    y: Floats
    value: Floats
    low: Floats
    high: Floats
    theory: Floats
    seeds: NDArray[np.int64]
    left_out: dict[str, int]

    @property
    def misses(self) -> NDArray[np.bool_]:
        """Where the interval does not hold the theory's value."""
        known = np.isfinite(self.theory) & np.isfinite(self.low)
        return known & ((self.theory < self.low) | (self.theory > self.high))

    def __repr__(self) -> str:
        left_out = [f"{count} points: {reason}" for reason, count in self.left_out.items()]
        return summary(
            "Networks",
            points=len(self.x),
            seeds=len(self.seeds),
            value=self.value,
            outside_interval=int(self.misses.sum()),
            left_out="; ".join(left_out) or None,
        )


def counts(text: str | tuple[int, int]) -> tuple[int, int]:
    """Points along x and y from a text such as 5x4. Raises `InputError`."""
    allowed = "must be points along x and y, such as 5x4, from 1x1 to 50x50"
    try:
        parts = text.lower().split("x") if isinstance(text, str) else list(text)
        first, second = (int(part) for part in parts)
    except (ValueError, TypeError, AttributeError):
        raise InputError("networks", text, allowed) from None
    if not (1 <= first <= 50 and 1 <= second <= 50):
        raise InputError("networks", text, allowed)
    return first, second


def trained(
    plane: Plane,
    colour: Colour,
    points: tuple[int, int],
    seeds: int | ArrayLike,
    theory: Theory,
    measure: Measure | None,
    progress: Progress,
) -> MapNetworks:
    """Networks at evenly spread points; what is too large to train is left out and counted.

    Raises `InputError` for a colour that networks do not have, and where no point can be trained.
    """
    written = f"{points[0]}x{points[1]}"
    quantity = _quantity(colour, written)
    labels = seed_labels(seeds)
    left_out: Counter[str] = Counter()
    places, cells = [], []
    for row in plane.y.spread(points[1]):
        for column in plane.x.spread(points[0]):
            try:
                setup = plane.setup(plane.x.values[column], plane.y.values[row])
                group = beside(setup) if colour.slope else [setup]
                for one in group:
                    quantity.check(one)
                    _check_trainable(one, len(labels))
            except InputError as error:
                left_out[_reason(error)] += 1
                continue
            places.append((row, column))
            cells.append(group)
    if not cells:
        reasons = "; ".join(left_out)
        raise InputError("networks", written, f"can train no point: {reasons}")
    setups = [setup for group in cells for setup in group]
    try:
        sampled = measured_cells(quantity, setups, labels, measure=measure, progress=progress)
    except Unavailable as reason:
        allowed = f"must be left out: {reason}"
        raise InputError("networks", written, allowed) from None
    found, finites = [], []
    for group in cells:
        own, sampled = sampled[: len(group)], sampled[len(group) :]
        found.append(_estimate(own, group))
        finites.append(all(np.isfinite(one.samples).all() for one in own))
    theories = [theory(group, *place) for group, place in zip(cells, places, strict=True)]
    kept = np.array([np.isfinite(one.value) for one in found])
    for finite, good in zip(finites, kept, strict=True):
        if not good:
            left_out[quantity.no_value if finite else "the networks diverged"] += 1
    table = np.array([(one.value, one.low, one.high) for one in found]).T
    rows, numbers = np.array(places).T
    where = plane.x.values[numbers], plane.y.values[rows]
    x, y, value, low, high, expected = (
        np.asarray(one)[kept] for one in (*where, *table, np.array(theories))
    )
    return MapNetworks(x, y, value, low, high, expected, labels, dict(left_out))


def _quantity(colour: Colour, written: str) -> Quantity:
    from dynsim.scaling._exponent import named_quantity

    if colour.quantity is None:
        raise InputError("networks", written, f"must be left out: {colour.name} is not measured")
    return named_quantity(colour.quantity)


def _reason(error: InputError) -> str:
    return f"`{error.field}` {error.allowed}"


def _check_trainable(setup: Setup, seeds: int) -> None:
    """Raises `InputError` for networks that are too large to train as one point of many."""
    weights = setup.vocab_size * setup.width
    work = float(seeds) * setup.steps * weights * setup.output_count
    too_large = weights > MOST_WEIGHTS or work > MOST_OPERATIONS
    if too_large or network_bytes(setup) > MEMORY_SHARE * device_memory():
        raise InputError("networks", weights, "too large to train at this point")


def _estimate(own: Sequence[Sampled], group: Sequence[Setup]) -> Estimate:
    """The colour and its interval over seeds: a value, or the slope between two widths."""
    octave = np.log(group[-1].width / group[0].width) if len(group) > 1 else 1.0

    def statistic(*chosen: Floats, axis: int = -1) -> Floats:
        logs = [one.log_value(samples) for one, samples in zip(own, chosen, strict=True)]
        return np.asarray((logs[1] - logs[0]) / octave if len(logs) > 1 else np.exp(logs[0]))

    with np.errstate(all="ignore"):
        samples = [one.samples for one in own]
        if not np.isfinite(statistic(*samples)):
            return Estimate(np.nan, np.nan, np.nan)
        if samples[0].shape[-1] < 2:  # one network has no interval
            return Estimate(float(statistic(*samples)), np.nan, np.nan)
        return bootstrap(statistic, samples, resamples=Resamples.QUICK, vectorized=True)
