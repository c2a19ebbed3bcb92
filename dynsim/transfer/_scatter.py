"""Intervals of a sweep with one seed: from the scatter of its points about the fit.

Two kinds of noise are told apart. A point's own noise shows as scatter about its width's parabola.
Noise that a seed puts on a whole curve (initial weights, order of batches) does not show there; it
shows as scatter of the widths' levels about the power law of the loss, of which there are only as
many values as widths, less three. Both are drawn anew about the fit (a residual bootstrap), and the
percentiles are drawn out by Student's quantile with the degrees of freedom of Welch and
Satterthwaite.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim.statistics._intervals import ENDS, Resampled

from ._surface import Points, Surface

Floats = NDArray[np.float64]

VARIANCE_DRAWS = 60  # of each kind of noise by itself, for degrees of freedom
LOSS_LAW = 3  # parameters of L*(N)
SURFACE = 8  # parameters of the joint fit
CURVE = 3  # of a parabola


@dataclass(frozen=True)
class Part:
    """Draws of a statistic with one kind of noise alone, and that noise's degrees of freedom."""

    draws: Floats
    freedom: float

    @property
    def variance(self) -> Floats:
        """Its part of the statistic's variance."""
        with np.errstate(invalid="ignore"):
            return self.draws.var(axis=0)


@dataclass(frozen=True, eq=False, repr=False)
class Scattered:
    """A statistic of the data and of draws of their scatter; stands where `Resampled` does."""

    value: Floats
    draws: Floats
    parts: Mapping[str, Part]

    alone = False

    @property
    def variances(self) -> Floats:
        """Each part of the variance, shape (parts, ...)."""
        return np.array([one.variance for one in self.parts.values()])

    def at(self, *index: Any) -> Scattered:
        """The statistic's entries at an index into its value."""
        parts = {name: Part(one.draws[:, *index], one.freedom) for name, one in self.parts.items()}
        return Scattered(self.value[*index], self.draws[:, *index], parts)

    def map(self, function: Callable[[Floats], Floats]) -> Scattered:
        """A function of the statistic, which acts on arrays with any leading axes."""
        parts = {n: Part(function(one.draws), one.freedom) for n, one in self.parts.items()}
        return Scattered(function(self.value), function(self.draws), parts)

    def interval(self) -> Floats:
        """Ends of the 95 % interval, shape (2, ...): percentiles, drawn out for few degrees of
        freedom."""
        from scipy.stats import norm, t

        ends = np.quantile(self.draws, ENDS, axis=0, method="nearest")
        freedom = np.array([one.freedom for one in self.parts.values()])
        freedom = freedom.reshape(-1, *[1] * self.value.ndim)
        with np.errstate(all="ignore"):
            shares = self.variances / self.variances.sum(axis=0)
            together = 1 / np.sum(shares**2 / freedom, axis=0)
            stretch = t.ppf(ENDS[1], together) / norm.ppf(ENDS[1])
            drawn_out = self.value + (ends - self.value) * stretch
        return np.where(np.isfinite(drawn_out), drawn_out, ends)

    def __sub__(self, other: Scattered | Resampled) -> Scattered:
        """The difference of statistics, as independent."""
        return _difference(self, _as_scattered(other))

    def __rsub__(self, other: Resampled) -> Scattered:
        return _difference(_as_scattered(other), self)


def _difference(one: Scattered, other: Scattered) -> Scattered:
    with np.errstate(invalid="ignore"):
        value, draws = one.value - other.value, one.draws - other.draws
    return Scattered(value, np.where(np.isnan(draws), value, draws), {**one.parts, **other.parts})


def _as_scattered(statistic: Scattered | Resampled) -> Scattered:
    """Resamples of seeds as draws of the same spread, with a part for each sample of seeds."""
    if isinstance(statistic, Scattered):
        return statistic
    counts = np.array([len(own) for own in statistic.left_out.values()])
    counts = counts.reshape(-1, *[1] * statistic.value.ndim)
    with np.errstate(all="ignore"):
        shares = statistic.variances / statistic.variances.sum(axis=0)
        missing = np.sum(shares * (counts - 1) / counts, axis=0)
        draws = statistic.value + (statistic.draws - statistic.value) / np.sqrt(missing)
    parts = {  # two values at a distance of one standard deviation have this variance
        name: Part(np.stack([-np.sqrt(variance), np.sqrt(variance)]), len(own) - 1)
        for (name, own), variance in zip(
            statistic.left_out.items(), statistic.variances, strict=True
        )
    }
    return Scattered(statistic.value, np.where(np.isfinite(draws), draws, statistic.draws), parts)


@dataclass(frozen=True)
class Noise:
    """Relative noise of a point with one seed, and common to a width, with degrees of freedom.

    `residuals` are what the first was found from, of unit variance; 0 degrees of freedom: unknown.
    """

    own: float
    own_freedom: float
    common: float
    common_freedom: float
    residuals: Floats


def noise_of(points: Points, loss: Floats, curves: Floats, surface: Surface | None) -> Noise:
    """The noise of points about the parabolas (widths, 3) of their widths and about the surface."""
    fitted = on_parabolas(points, curves)
    count = np.bincount(points.width)
    seeds = (points.weight * loss) ** 2  # how many seeds a point has
    residuals, freedom = points.weight * (loss - fitted), float(np.sum(count - CURVE))
    off = np.zeros_like(loss)
    if surface is not None:
        off = (loss - surface.loss(points.log_width, points.log_rate)) / loss
        if freedom <= 0:  # every parabola goes through its points
            residuals, freedom = np.sqrt(seeds) * off, float(len(loss) - SURFACE)
    if freedom <= 0:
        return Noise(0.0, 0.0, 0.0, 0.0, np.zeros(1))
    own = float(np.sqrt(np.sum(residuals**2) / freedom))
    scale = np.sqrt(np.mean(residuals**2))
    unit = residuals / scale if scale > 0 else np.zeros_like(residuals)
    common_freedom = float(len(count) - LOSS_LAW) if surface is not None else 0.0
    if common_freedom <= 0:
        return Noise(own, freedom, 0.0, 0.0, unit)
    level = np.bincount(points.width, off) / count
    between = np.sum(level**2) / common_freedom
    within = own**2 * np.mean(1 / np.bincount(points.width, seeds))
    return Noise(own, freedom, float(np.sqrt(max(between - within, 0.0))), common_freedom, unit)


def on_parabolas(points: Points, curves: Floats) -> Floats:
    """L* + H/2 (ln η - ln η*)² of each point's width, from rows (ln η*, L*, H)."""
    place, lowest, curvature = curves[points.width].T
    return lowest + curvature / 2 * (points.log_rate - place) ** 2


class ScatterResamples:
    """Draws of noise, a row each: none (the data), both kinds, and each kind by itself."""

    alone = False

    def __init__(self, points: Points, loss: Floats, noise: Noise, resamples: int):
        self.noise, self.resamples, self.loss = noise, int(resamples), loss
        random = np.random.default_rng(zlib.crc32(loss.tobytes()))
        rows = self.resamples + 2 * VARIANCE_DRAWS
        seeds = points.weight * loss  # root of their number
        sign = random.choice([-1.0, 1.0], (rows, len(loss)))
        own = noise.own * sign * random.choice(noise.residuals, (rows, len(loss))) / seeds
        widths = int(points.width.max()) + 1
        common = noise.common * random.normal(size=(rows, widths))[:, points.width]
        own[self.resamples + VARIANCE_DRAWS :] = 0
        common[self.resamples : self.resamples + VARIANCE_DRAWS] = 0
        self.relative = own + common
        self.name = f"{zlib.crc32(loss.tobytes()):08x}"

    def rows(self, fitted: Floats) -> Floats:
        """The data, and their fit with every draw of the noise."""
        drawn = fitted * np.maximum(1 + self.relative, np.finfo(float).tiny)
        return np.concatenate([self.loss[None, :], drawn])

    def without_draws(self, rows: Floats) -> Floats:
        """The rows of the data and of each kind of noise by itself: what variances need."""
        return np.concatenate([rows[:1], rows[1 + self.resamples :]])

    def of(self, statistics: ArrayLike) -> Scattered:
        """A statistic from its values for every row (or `without_draws`), shape (rows, ...)."""
        values = np.asarray(statistics, dtype=np.float64)
        drawn = len(values) - 2 * VARIANCE_DRAWS
        own, common = np.split(values[drawn:], 2)
        levels = self.noise.common_freedom or self.noise.own_freedom
        parts = {
            f"{self.name} own": Part(own, self.noise.own_freedom),
            f"{self.name} common": Part(common, levels),
        }
        return Scattered(values[0], values[1:drawn], parts)
