"""A sweep's runs sorted by width: which learning rates count, and resamples of their seeds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError

from ._fit import Points, parabolas

Floats = NDArray[np.float64]

OK = "ok"
PARABOLA_POINTS = 3


@dataclass(frozen=True, eq=False)
class WidthRuns:
    """The runs of one width: `losses` of shape (rates, seeds), NaN where a seed was not run.

    Learning rates at which a seed diverged are left out; `diverged` says whether there are any.
    `seeds` are the seeds' labels.
    """

    width: float
    learning_rates: Floats
    losses: Floats
    factor: float
    seeds: tuple[object, ...]
    diverged: bool

    @property
    def sample(self) -> str:
        """A name of what is resampled, which fits of the same width and seeds share."""
        return repr((self.width, self.seeds))

    @cached_property
    def means(self) -> Floats:
        """Mean loss over seeds, shape (rates,)."""
        return np.nanmean(self.losses, axis=1) if self.losses.size else np.empty(0)

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """Learning rates within the factor of the lowest loss, in one stretch around it."""
        if not self.means.size:
            return np.zeros(0, dtype=bool)
        within = self.means <= self.factor * self.means.min()
        stretch = np.cumsum(~within)
        return within & (stretch == stretch[np.argmin(self.means)])

    @cached_property
    def status(self) -> str:
        """ "ok", or why there is no optimum to be seen."""
        rates = len(self.learning_rates)
        if rates < PARABOLA_POINTS:
            remaining = " without divergence" if self.diverged else ""
            return f"{_learning_rates(rates)}{remaining}, needs {PARABOLA_POINTS}"
        best = int(np.argmin(self.means))
        if best in (0, rates - 1):
            side = "smallest" if best == 0 else "largest"
            remaining = " that did not diverge" if self.diverged else ""
            return f"lowest loss at the {side} learning rate{remaining}"
        if self.near.sum() < PARABOLA_POINTS:
            count = _learning_rates(int(self.near.sum()))
            return f"{count} within the factor, needs {PARABOLA_POINTS}"
        rate, _, curvature = parabolas(self.points(), self.means[self.near])[0]
        lowest, *_, largest = np.log(self.learning_rates[self.near])
        if not curvature > 0 or not lowest <= rate <= largest:
            return "the parabola has no minimum among its points"
        return OK

    def points(self, number: int = 0) -> Points:
        """The points near the optimum, as those of width `number`."""
        counts = np.isfinite(self.losses[self.near]).sum(axis=1)
        size = len(counts)
        return Points(
            np.full(size, number),
            np.full(size, np.log(self.width)),
            np.log(self.learning_rates[self.near]),
            np.sqrt(counts) / self.means[self.near],
        )

    def resampled_means(self, times: NDArray[np.int64]) -> Floats:
        """Means near the optimum if seed s counts times[..., s] times, shape (..., near).

        A learning rate that none of these seeds has keeps its own mean.
        """
        losses = self.losses[self.near]
        present = np.isfinite(losses)
        total = times @ np.where(present, losses, 0).T
        count = times @ present.T
        return np.where(count > 0, total / np.maximum(count, 1), self.means[self.near])


def _learning_rates(count: int) -> str:
    return "1 learning rate" if count == 1 else f"{count} learning rates"


@dataclass(frozen=True, eq=False)
class Resampled:
    """A statistic of the data and of resamples of their seeds.

    **Fields:** `value`, shape (...); `draws`, of bootstrap resamples, shape (resamples, ...);
    `left_out`, by sample (the seeds of a width) the values without each of its seeds, shape
    (seeds, ...), none where a sample has a single seed.
    """

    value: Floats
    draws: Floats
    left_out: Mapping[str, Floats]

    @property
    def alone(self) -> bool:
        """Whether a single seed somewhere leaves nothing to resample."""
        return min(map(len, self.left_out.values()), default=1) < 2

    @cached_property
    def variances(self) -> Floats:
        """Each sample's part of the variance by the jackknife, shape (samples, ...)."""
        with np.errstate(invalid="ignore"):
            parts = [np.var(own, axis=0) * (len(own) - 1) for own in self.left_out.values()]
        return np.array(parts)

    def at(self, *index: Any) -> Resampled:
        """The statistic's entries at an index into its value."""
        left_out = {sample: own[:, *index] for sample, own in self.left_out.items()}
        return Resampled(self.value[*index], self.draws[:, *index], left_out)

    def interval(self) -> Floats:
        """Ends of the 95 % interval, shape (2, ...): percentiles, drawn out for few seeds.

        The distances of the percentiles from the value are multiplied by the ratio of Student's to
        the normal quantile, with the degrees of freedom of Welch and Satterthwaite, and by the
        root of S/(S - 1), which resampled means of S seeds lack. Both are 1 for many seeds. A
        single seed somewhere gives no interval: the value twice.
        """
        from scipy.stats import norm, t

        if self.alone:
            return np.stack([self.value, self.value])
        # The nearest draw rather than a mean of two, one of which may be infinite.
        ends = np.quantile(self.draws, [0.025, 0.975], axis=0, method="nearest")
        counts = np.array([len(own) for own in self.left_out.values()])
        counts = counts.reshape(-1, *[1] * self.value.ndim)
        with np.errstate(all="ignore"):
            parts = self.variances / self.variances.sum(axis=0)
            freedom = 1 / np.sum(parts**2 / (counts - 1), axis=0)
            missing = np.sum(parts * (counts - 1) / counts, axis=0)
            stretch = t.ppf(0.975, freedom) / norm.ppf(0.975) / np.sqrt(missing)
            # Without any variance, and where limits are infinite, there is nothing to draw out.
            drawn_out = self.value + (ends - self.value) * stretch
        return np.where(np.isfinite(drawn_out), drawn_out, ends)

    def __sub__(self, other: Resampled) -> Resampled:
        """The difference of statistics: paired in the samples that both have.

        A sample's seeds are drawn alike in every statistic, and those of different samples
        independently. Draws that are infinite in both have no difference, and count as the value.
        """
        own, others = self.left_out, other.left_out
        with np.errstate(invalid="ignore"):
            value, draws = self.value - other.value, self.draws - other.draws
            left_out = {
                sample: own.get(sample, self.value) - others.get(sample, other.value)
                for sample in {**own, **others}
            }
        return Resampled(value, np.where(np.isnan(draws), value, draws), left_out)


class SeedResamples:
    """Mean losses of the data, of bootstrap resamples and with each seed left out, as rows."""

    def __init__(self, runs: Sequence[WidthRuns], resamples: int):
        self.samples = {one.sample: len(one.seeds) for one in runs}
        self.alone = min(self.samples.values(), default=1) < 2
        self.resamples = 0 if self.alone else resamples
        means, first = [], 0
        for one in runs:
            seeds = len(one.seeds)
            times = np.ones((1, seeds), dtype=np.int64)
            if not self.alone:
                random = np.random.default_rng(zlib.crc32(one.sample.encode()))
                drawn = random.multinomial(seeds, np.full(seeds, 1 / seeds), resamples)
                left_out = np.ones((sum(self.samples.values()), seeds), dtype=np.int64)
                left_out[first : first + seeds] -= np.eye(seeds, dtype=np.int64)
                times = np.concatenate([times, drawn, left_out])
            means.append(one.resampled_means(times))
            first += seeds
        self.rows = np.concatenate(means, axis=1) if means else np.empty((1, 0))

    @property
    def left_out(self) -> Floats:
        """The data and the rows with a seed left out: what variances need."""
        return np.concatenate([self.rows[:1], self.rows[1 + self.resamples :]])

    def of(self, statistics: ArrayLike) -> Resampled:
        """A statistic from its values for every row (or those of `left_out`), shape (rows, ...)."""
        values = np.asarray(statistics, dtype=np.float64)
        if self.alone:
            return Resampled(values[0], values[1:], dict.fromkeys(self.samples, values[1:]))
        counts = list(self.samples.values())
        drawn = len(values) - sum(counts)
        left_out = np.split(values[drawn:], np.cumsum(counts)[:-1])
        return Resampled(values[0], values[1:drawn], dict(zip(self.samples, left_out, strict=True)))


def runs_by_width(
    widths: ArrayLike, learning_rates: ArrayLike, seeds: ArrayLike, losses: ArrayLike, factor: float
) -> tuple[list[WidthRuns], int]:
    """The runs of each width, narrowest first, and how many runs diverged (loss not finite).

    Raises `InputError` for values that are not positive and for a run that occurs twice.
    """
    width, rate, loss = (
        np.asarray(one, dtype=np.float64) for one in (widths, learning_rates, losses)
    )
    labels, seed_index = np.unique(np.asarray(seeds), return_inverse=True)
    if np.issubdtype(labels.dtype, np.number):
        labels = labels.astype(np.float64)  # 1 and 1.0 are the same seed
    if not width.shape == rate.shape == loss.shape == seed_index.shape or width.ndim != 1:
        raise InputError("losses", loss.shape, "must be one per width, learning rate and seed")
    if not width.size:
        raise InputError("losses", None, "must hold at least one run")
    for name, values in (("width", width), ("learning rate", rate)):
        bad = values[~(np.isfinite(values) & (values > 0))]
        if bad.size:
            raise InputError(name, bad[0], "must be a positive number")
    if np.any(loss <= 0):
        raise InputError("loss", loss[loss <= 0][0], "must be positive: errors are relative to it")
    runs = np.stack([width, rate, seed_index])
    unique, counts = np.unique(runs, axis=1, return_counts=True)
    if np.any(counts > 1):
        size, lr, _ = unique[:, np.argmax(counts)]
        raise InputError(
            "seed", f"of width {size:g}, learning rate {lr:g}", "occurs more than once"
        )
    found = []
    for one in np.unique(width):
        here = width == one
        rates, rate_index = np.unique(rate[here], return_inverse=True)
        own_seeds, own_index = np.unique(seed_index[here], return_inverse=True)
        table = np.full((len(rates), len(own_seeds)), np.nan)
        table[rate_index, own_index] = loss[here]
        diverged = np.zeros(len(rates), dtype=bool)
        diverged[rate_index[~np.isfinite(loss[here])]] = True
        kept = rates[~diverged], table[~diverged]
        labelled = tuple(labels[own_seeds].tolist())
        found.append(WidthRuns(float(one), *kept, factor, labelled, bool(diverged.any())))
    return found, int(np.sum(~np.isfinite(loss)))
