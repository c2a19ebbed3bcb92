"""Optimal learning rates, searched on grids: in theory or in trained networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError, check_choice, check_integer
from dynsim._initial import MAX_SEEDS
from dynsim._results import Declared, Result
from dynsim._setup import Setup
from dynsim._summary import summary
from dynsim.laboratory._linear_training import train_linear
from dynsim.statistics._optimum import (
    EXCESS,
    Floats,
    JointOptimum,
    Optimum,
    bounded,
    joint_optimum,
    mean_and_error,
    optima_ratio,
    rate_optimum,
)
from dynsim.theory._first_step import optimal_learning_rates
from dynsim.theory.mean_field._predict import predict

How = Literal["layerwise", "joint"]
Source = Literal["theory", "networks"]

LARGEST_EXCESS = 0.2  # on the fine grid, as a share of what training removes
MOST_SHIFTS = 6  # of a window's ends
OCTAVES_A_SHIFT = 3
THEORY_REPLICAS = 2

Window = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class OptimalRates(Result):
    """Optimal learning rates at every horizon, a number of training steps.

    - `setup`, `how`, `source`, `seeds`: what was asked for.
    - `horizons`: shape (H,); `embedding`, `projection`, `ratio`: H optima each. Layer-wise, the
      other layer is frozen and the ratio is the quotient of both optima, its interval that of all
      quotients of near-optimal rates.
    - `initial_loss`: before the first step, mean over seeds.
    """

    arrays: ClassVar[Declared] = {
        "embedding_optimal_lr": ("horizon", lambda found: _of(found.embedding, "value")),
        "embedding_optimal_lr_low": ("horizon", lambda found: _of(found.embedding, "low")),
        "embedding_optimal_lr_high": ("horizon", lambda found: _of(found.embedding, "high")),
        "embedding_optimal_lr_status": ("horizon", lambda found: _of(found.embedding, "status")),
        "projection_optimal_lr": ("horizon", lambda found: _of(found.projection, "value")),
        "projection_optimal_lr_low": ("horizon", lambda found: _of(found.projection, "low")),
        "projection_optimal_lr_high": ("horizon", lambda found: _of(found.projection, "high")),
        "projection_optimal_lr_status": ("horizon", lambda found: _of(found.projection, "status")),
        "optimal_rate_ratio": ("horizon", lambda found: _of(found.ratio, "value")),
        "optimal_rate_ratio_low": ("horizon", lambda found: _of(found.ratio, "low")),
        "optimal_rate_ratio_high": ("horizon", lambda found: _of(found.ratio, "high")),
        "optimal_rate_ratio_status": ("horizon", lambda found: _of(found.ratio, "status")),
        "horizon": ("horizon", "horizons"),
    }

    setup: Setup
    how: How
    source: Source
    seeds: int
    horizons: tuple[int, ...]
    embedding: tuple[Optimum, ...]
    projection: tuple[Optimum, ...]
    ratio: tuple[Optimum, ...]
    initial_loss: float

    def __repr__(self) -> str:
        return summary(
            "OptimalRates",
            setup=self.setup,
            how=self.how,
            source=self.source,
            seeds=self.seeds,
            initial_loss=self.initial_loss,
            **{
                f"{horizon} steps": f"embedding {self.embedding[k]}; "
                f"projection {self.projection[k]}; ratio {self.ratio[k]}"
                for k, horizon in enumerate(self.horizons)
            },
        )


def _of(optima: Sequence[Optimum], part: str) -> list[Any]:
    """A part of each optimum: its value, the ends of its interval, or its status as text."""
    found = [getattr(one, part) for one in optima]
    return [str(one) for one in found] if part == "status" else found


def optimal_rates(
    setup: Setup,
    horizons: Sequence[int] | NDArray[np.integer],
    *,
    how: How = "layerwise",
    source: Source = "theory",
    seeds: int = 8,
    excess: float = EXCESS,
    particles: int | None = None,
) -> OptimalRates:
    """Searches the learning rates with the lowest loss after each number of steps in `horizons`.

    A grid of one rate an octave around the first step's closed-form optimum is moved outwards
    until no lowest loss lies at its end (at most six times), cut to the region of low loss and
    refined to a rate every quarter (joint: half) octave. Losses are means over `seeds` tasks,
    each with its own targets and weights: the seeds from `setup.seed` on.

    **Arguments:**

    - `how`: `layerwise`, one layer trained and the other frozen; `joint`, both together.
    - `source`: `theory`, the mean-field solver (`particles` as in `predict`); `networks`, finite
      networks of the setup's size.
    - `seeds`: at least 2; their spread is the error in `rate_optimum`.

    Learning rates and steps of the setup are not used; its schedule must be constant, because the
    horizons are read from one run. Raises `InputError` for bad arguments, and what `predict` and
    `train` raise. Source: docs/theory/learning_rates.md#greedy-ratio.

    Shapes: `horizons` (H,), increasing; the result holds one optimum a horizon.

    **Example:**

    >>> from dynsim import Setup, optimal_rates
    >>> setup = Setup(width=16, vocab_size=32, optimizer="sign")
    >>> found = optimal_rates(setup, [1], seeds=2, particles=64)
    >>> found.embedding[0].low < found.embedding[0].value < found.embedding[0].high
    True
    """
    check_choice("how", how, get_args(How))
    check_choice("source", source, get_args(Source))
    check_integer("seeds", seeds, 2, MAX_SEEDS)
    horizons = np.atleast_1d(np.asarray(horizons)).tolist()
    if setup.schedule != "constant":
        raise InputError("schedule", setup.schedule, "must be constant: the horizons share one run")
    if not horizons:
        raise InputError("horizons", None, "must be given, in training steps")
    for horizon in horizons:
        check_integer("horizons", horizon, 1)
    longest = replace(setup, steps=max(horizons) + 1)
    centres = [
        float(rate) for rate in optimal_learning_rates(setup.width, setup.law(), init=setup.init)
    ]

    def measure(windows: Sequence[Window], per_octave: int) -> _Surface:
        axes = [
            np.append(0.0, centre * 2.0 ** (np.arange(*window * per_octave + [0, 1]) / per_octave))
            if len(window)
            else np.zeros(1)
            for centre, window in zip(centres, windows, strict=True)
        ]
        pairs = [grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")]
        loss = _losses(longest, pairs, source, seeds, particles)
        loss = loss.reshape(seeds, len(axes[0]), len(axes[1]), longest.steps)
        return _Surface(axes, loss[..., list(horizons)], float(loss[:, 0, 0, 0].mean()))

    start = np.array([-math.ceil(math.log2(longest.steps)) - 1, 2])
    frozen = np.array([], dtype=int)
    if how == "joint":
        surface = _search(measure, (start, start), 2, excess)
        found = [surface.joint(horizon, excess) for horizon in range(len(horizons))]
        embedding, projection, ratio = (
            tuple(getattr(one, name) for one in found)
            for name in ("embedding", "projection", "ratio")
        )
    else:
        surface = _search(measure, (start, frozen), 4, excess)
        embedding = tuple(surface.alone(0, horizon, excess) for horizon in range(len(horizons)))
        surface = _search(measure, (frozen, start), 4, excess)
        projection = tuple(surface.alone(1, horizon, excess) for horizon in range(len(horizons)))
        ratio = tuple(map(optima_ratio, embedding, projection))
    return OptimalRates(
        setup,
        how,
        source,
        seeds,
        tuple(horizons),
        embedding,
        projection,
        ratio,
        surface.initial_loss,
    )


@dataclass(frozen=True, eq=False)
class _Surface:
    """Losses (S, K_E, K_W, H) over learning rates that begin with 0, of S seeds at H horizons."""

    axes: Sequence[Floats]
    loss: Floats
    initial_loss: float

    def alone(self, axis: int, horizon: int, excess: float) -> Optimum:
        """Optimum of one layer, the other frozen."""
        loss, error = mean_and_error(self.loss[..., horizon])
        line = (slice(None), 0) if axis == 0 else (0, slice(None))
        options = {"initial_loss": self.initial_loss, "error": error[line], "excess": excess}
        return rate_optimum(self.axes[axis], loss[line], **options)

    def joint(self, horizon: int, excess: float) -> JointOptimum:
        loss, error = mean_and_error(self.loss[..., horizon])
        options = {"initial_loss": self.initial_loss, "error": error, "excess": excess}
        return joint_optimum(self.axes[0], self.axes[1], loss, **options)

    def profiles(self, axis: int) -> list[Floats]:
        """At every horizon, by how much each rate's lowest loss exceeds the lowest of all, as a
        share of what training removes; where nothing is removed, only the frozen layer is low."""
        mean = bounded(self.loss.mean(axis=0), self.initial_loss).min(axis=1 - axis)  # (K, H)
        above, removed = mean - mean.min(axis=0), self.initial_loss - mean.min(axis=0)
        still = np.where(np.arange(len(mean)) == 0, 0.0, np.inf)[:, None]
        return list(np.where(removed > 0, above / np.where(removed > 0, removed, 1), still).T)


def _losses(
    setup: Setup, pairs: Sequence[Floats], source: Source, seeds: int, particles: int | None
) -> Floats:
    """Loss at every pair of rates and step, shape (seeds, L, T)."""
    rates: Any = {"embedding_lrs": pairs[0], "projection_lrs": pairs[1]}
    tasks = [replace(setup, seed=setup.seed + seed) for seed in range(seeds)]
    if source == "networks":
        return np.stack(
            [train_linear(task, 1, **rates, record_updates=False).loss[:, 0] for task in tasks]
        )
    rates |= {"particles": particles, "replicas": THEORY_REPLICAS, "error_estimate": False}
    return np.stack([predict(task, **rates).loss for task in tasks])


def _search(
    measure: Callable[[Sequence[Window], int], _Surface],
    windows: Sequence[Window],
    per_octave: int,
    excess: float,
) -> _Surface:
    """The fine surface of the region of low loss. Windows are in octaves, empty where frozen."""
    shifts = 0
    while True:
        surface = measure(windows, 1)
        profiles = [surface.profiles(axis) for axis in (0, 1)]
        wider = [_widened(*each, excess) for each in zip(windows, profiles, strict=True)]
        if shifts == MOST_SHIFTS or all(map(np.array_equal, wider, windows)):
            return measure(list(map(_cut, windows, profiles)), per_octave)
        windows, shifts = wider, shifts + 1


def _widened(window: Window, profiles: Sequence[Floats], excess: float) -> Window:
    """Three octaves more on each side where the optimum, or the end of its interval, may lie."""
    if not len(window):
        return window
    below = above = False
    for profile in profiles:
        frozen, first, *_ = near = profile <= excess
        best = int(np.argmin(profile))
        above |= bool(near[-1])
        below |= bool(first and not frozen) or bool(frozen and best == 0 and not first)
    return window + OCTAVES_A_SHIFT * np.array([-int(below), int(above)])


def _cut(window: Window, profiles: Sequence[Floats]) -> Window:
    """The window's part of low loss at any horizon, and an octave around it."""
    if not len(window):
        return window
    low = np.any([profile[1:] <= LARGEST_EXCESS for profile in profiles], axis=0)
    places = window[0] + np.flatnonzero(low)
    if not len(places):
        return window
    return np.array([max(window[0], places[0] - 1), min(window[1], places[-1] + 1)])
