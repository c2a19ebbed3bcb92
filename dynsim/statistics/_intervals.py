"""Intervals from few seeds: what each route assumes and what it is for.

Every statistic here is repeated on other choices of the seeds. Two choices are made:

- *resamples* (`bootstrap`, `SeedResamples`): as many seeds as there are, drawn with replacement.
  They follow a statistic that is not smooth (a lowest point, a crossing). With S seeds their spread
  is too small by the root of (S - 1)/S, and their percentiles know nothing of Student's t.
- *one seed left out* (`jackknife`): S choices. It gives a variance, and degrees of freedom, for
  statistics that are smooth in means.

For few seeds all of them are brought to Student's interval, which is exact for a mean of normal
samples: `bootstrap` by the level of its percentiles, `Resampled.interval` by the distance of its
percentiles from the value, `jackknife` by its quantile. All resamples lie between the lowest and
the highest seed, so that no level is high enough for two or three seeds: there `bootstrap` is the
jackknife (`resamples_suffice`).
"""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._summary import summary

Floats = NDArray[np.float64]

ENDS = (0.025, 0.975)  # quantiles between which 95 % lie
RESAMPLES_AT_A_TIME = 200  # of samples with leading axes, to spare memory


class Resamples(IntEnum):
    """How many resamples an interval takes.

    The ends of an interval are quantiles of the resamples, and have an error of their own.
    """

    PRECISE = 2000
    """one interval that is quoted; the error of an end is about 3 % of the half width"""
    QUICK = 500
    """hundreds of intervals, or a search for a fit in every resample; the error is about 6 %"""


@dataclass(frozen=True, repr=False)
class Estimate:
    """A value with its confidence interval [low, high] (95 % unless said otherwise)."""

    value: float
    low: float
    high: float

    def __repr__(self) -> str:
        return f"{type(self).__name__}({interval_text(self)})"


def interval_text(estimate: Estimate) -> str:
    """`value [low, high]`, and the value alone where there is no interval."""
    if math.isnan(estimate.low) and math.isnan(estimate.high):
        return f"{estimate.value:.6g}"
    return f"{estimate.value:.6g} [{estimate.low:.6g}, {estimate.high:.6g}]"


def bootstrap(
    statistic: Callable[..., Floats],
    samples: Sequence[Floats],
    *,
    resamples: int = Resamples.PRECISE,
    vectorized: bool = False,
) -> Estimate:
    """95 % expanded percentile bootstrap of `statistic(*samples)`, each sample resampled by itself.

    A sample is a cell's seeds along its last axis (leading axes are resampled together, so that
    a curve over learning rates stays one seed's curve). Uses scipy's bootstrap with a fixed
    seed; with a single seed or identical samples the interval shrinks to the value. Few seeds make
    plain percentiles too narrow (4 seeds cover 81 % for 95 %); their level is raised to what makes
    the interval of a mean that of Student's t, with the degrees of freedom of all samples
    (Hesterberg, What teachers should know about the bootstrap, 2015). Where the seeds are too few
    for any level (`resamples_suffice`), the interval is that of `jackknife`.

    With `vectorized` the statistic takes samples (..., resamples, seeds) as well and returns one
    value each resample. A statistic that is no number in some resample has no interval: its ends
    are NaN.

    Shapes: samples (..., S) of S seeds; the statistic has the keyword `axis` and gives a number.

    **Example:**

    >>> import numpy as np
    >>> from dynsim import bootstrap
    >>> seeds = np.array([1.0, 1.2, 0.9, 1.1])
    >>> mean = bootstrap(lambda sample, axis=-1: sample.mean(axis=axis), [seeds])
    >>> f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]"
    '1.05 [0.84, 1.26]'
    """

    def alone(*chosen: Floats, axis: int = -1) -> Floats:
        return np.asarray(statistic(*chosen, axis=axis), dtype=np.float64)[None]

    return bootstraps(alone, samples, resamples=resamples, vectorized=vectorized)[0]


def bootstraps(
    statistics: Callable[..., Floats],
    samples: Sequence[Floats],
    *,
    resamples: int = Resamples.PRECISE,
    vectorized: bool = False,
) -> tuple[Estimate, ...]:
    """`bootstrap` of several numbers of the same samples, from the same resamples.

    `statistics(*samples)` returns them, shape (K,); with `vectorized` shape (K, resamples).

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import bootstraps
    >>> seeds = np.array([1.0, 1.2, 0.9, 1.1])
    >>> def both(sample, axis=-1):
    ...     return np.stack([sample.mean(axis=axis), sample.max(axis=axis)])
    ...
    >>> [round(found.value, 2) for found in bootstraps(both, [seeds])]
    [1.05, 1.2]
    """
    from scipy.stats import DegenerateDataWarning
    from scipy.stats import bootstrap as scipy_bootstrap

    values = [float(value) for value in statistics(*samples, axis=-1)]
    indices = tuple(np.arange(sample.shape[-1]) for sample in samples)
    counts = [len(index) for index in indices]
    if max(counts) < 2:
        return tuple(Estimate(value, value, value) for value in values)
    if not resamples_suffice(counts):
        return _jackknives(values, statistics, samples, vectorized)

    def of_indices(*chosen: NDArray[np.int64], axis: int = -1) -> Floats:
        if not vectorized and chosen[0].ndim > 1:
            each = zip(*chosen, strict=True)
            return np.stack([of_indices(*one) for one in each], axis=-1)
        resampled = [sample[..., pick] for sample, pick in zip(samples, chosen, strict=True)]
        return np.asarray(statistics(*resampled, axis=-1))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # NaN ends say it
        interval = scipy_bootstrap(
            indices,
            of_indices,
            vectorized=True,
            paired=False,
            n_resamples=int(resamples),
            batch=RESAMPLES_AT_A_TIME if vectorized and max(map(np.ndim, samples)) > 1 else None,
            confidence_level=1 - 2 * _expanded_tail(counts),
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    ends = zip(values, interval.low, interval.high, strict=True)
    return tuple(Estimate(value, float(low), float(high)) for value, low, high in ends)


def jackknife(statistic: Callable[..., ArrayLike], samples: Sequence[Floats]) -> Estimate:
    """95 % interval of `statistic(*samples)` by leaving out one seed at a time.

    The interval is the value +- t_nu sqrt(V), V = sum over samples of (S - 1)/S sum_s (theta_s -
    mean theta)^2, theta_s without seed s, and nu the degrees of freedom of Welch and Satterthwaite.
    For a mean this is Student's interval, which the percentiles of resamples of three or four seeds
    cannot reach (all of them lie between the lowest and the highest seed); for a statistic that is
    smooth in means it is the same to first order (Efron and Stein, 1981).

    Samples are as in `bootstrap`: seeds along the last axis, the statistic with `axis`. A single
    seed in every sample leaves no interval (NaN).

    Shapes: samples (..., S) of S seeds.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import jackknife
    >>> seeds = np.array([1.0, 1.2, 0.9, 1.1])
    >>> mean = jackknife(lambda sample, axis=-1: sample.mean(axis=axis), [seeds])
    >>> f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]"  # Student's interval
    '1.05 [0.84, 1.26]'
    """

    def alone(*chosen: Floats, axis: int = -1) -> Floats:
        return np.asarray(statistic(*chosen, axis=axis), dtype=np.float64)[None]

    return jackknives(alone, samples)[0]


def jackknives(
    statistics: Callable[..., Floats], samples: Sequence[Floats], *, vectorized: bool = False
) -> tuple[Estimate, ...]:
    """`jackknife` of several numbers of the same samples.

    `statistics(*samples)` returns them, shape (K,); with `vectorized` it takes C choices of seeds
    side by side, samples (..., C, S), and returns shape (K, C). A single seed in every sample
    leaves no interval (NaN).

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import jackknives
    >>> seeds = np.array([1.0, 1.2, 0.9, 1.1])
    >>> def both(sample, axis=-1):
    ...     return np.stack([sample.mean(axis=axis), sample.max(axis=axis)])
    ...
    >>> [round(found.value, 2) for found in jackknives(both, [seeds], vectorized=True)]
    [1.05, 1.2]
    """
    values = [float(value) for value in statistics(*samples, axis=-1)]
    return _jackknives(values, statistics, samples, vectorized)


def _jackknives(
    values: Sequence[float],
    statistics: Callable[..., Floats],
    samples: Sequence[Floats],
    vectorized: bool,
) -> tuple[Estimate, ...]:
    left_out = [
        _without_each_seed(statistics, samples, number, vectorized)
        for number, sample in enumerate(samples)
        if sample.shape[-1] > 1
    ]
    return tuple(
        jackknife_interval(value, [one[k] for one in left_out]) for k, value in enumerate(values)
    )


def _without_each_seed(
    statistics: Callable[..., Floats], samples: Sequence[Floats], number: int, vectorized: bool
) -> Floats:
    """Statistics (K, S) without one of the S seeds of a sample at a time."""
    count = samples[number].shape[-1]
    without = [np.delete(samples[number], seed, axis=-1) for seed in range(count)]
    if vectorized:
        choices = [np.repeat(sample[..., None, :], count, axis=-2) for sample in samples]
        choices[number] = np.stack(without, axis=-2)
        return np.asarray(statistics(*choices, axis=-1), dtype=np.float64)
    others = [(*samples[:number], own, *samples[number + 1 :]) for own in without]
    return np.stack([np.asarray(statistics(*one, axis=-1), np.float64) for one in others], axis=-1)


def jackknife_interval(value: float, left_out: Collection[Floats]) -> Estimate:
    """The interval of `jackknife` from a statistic's values without one seed at a time, one array
    of shape (S,) each sample.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import jackknife_interval
    >>> seeds = np.array([1.0, 1.2, 0.9, 1.1])
    >>> without_one = (seeds.sum() - seeds) / 3
    >>> interval = jackknife_interval(seeds.mean(), [without_one])
    >>> f"[{interval.low:.2f}, {interval.high:.2f}]"
    '[0.84, 1.26]'
    """
    several = [own for own in left_out if np.size(own) > 1]
    if not several:
        return Estimate(value, math.nan, math.nan)
    variances = jackknife_variances(several)
    total = variances.sum()
    if total == 0:
        return Estimate(value, value, value)
    freedom = _welch_freedom(variances, np.array([len(own) - 1 for own in several]))
    half_width = float(_student_quantile(freedom) * np.sqrt(total))
    return Estimate(value, value - half_width, value + half_width)


def jackknife_variances(left_out: Collection[Floats]) -> Floats:
    """Each sample's part of a statistic's variance, from its values without one seed at a time."""
    return np.array([np.var(own, axis=0) * (len(own) - 1) for own in left_out])


def _welch_freedom(variances: Floats, freedoms: NDArray[np.int64]) -> Floats:
    """Degrees of freedom of a sum (first axis) of variances, by Welch and Satterthwaite."""
    parts = variances / variances.sum(axis=0)
    return 1 / np.sum(parts**2 / freedoms, axis=0)


def _student_quantile(freedom: Any) -> Any:
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, a thousand times as quick

    return stdtrit(freedom, ENDS[1])


def resamples_suffice(seeds: Sequence[int]) -> bool:
    """Whether percentiles of resamples can have the level of Student's interval.

    `seeds`: how many each sample has. The most extreme resample has the same seed throughout, in
    every sample, with probability prod_k S_k^(-S_k). A tail below that holds no resample.

    **Example:**

    >>> from dynsim.statistics import resamples_suffice
    >>> [resamples_suffice([seeds] * 3) for seeds in (2, 3, 8)]  # at each of three widths
    [False, True, True]
    """
    return _expanded_tail(seeds) > math.prod(float(count) ** -count for count in seeds)


def _expanded_tail(sizes: Sequence[int]) -> float:
    """Level of the lower percentile at which a mean of normal samples has a 95 % interval."""
    from scipy.stats import norm

    freedom = sum(size - 1 for size in sizes)
    shrunk = freedom / (freedom + len(sizes))  # variance of a resampled mean over the unbiased one
    return float(norm.cdf(-_student_quantile(freedom) / math.sqrt(shrunk)))


@dataclass(frozen=True, eq=False, repr=False)
class Resampled:
    """A statistic of the data and of resamples of their seeds.

    **Fields:** `value`, shape (...); `draws`, of bootstrap resamples, shape (resamples, ...);
    `left_out`, by sample (say, the seeds of a width) the values without each of its seeds, shape
    (seeds, ...), none where a sample has a single seed.

    Differences of two such statistics are paired: see `__sub__`.
    """

    value: Floats
    draws: Floats
    left_out: Mapping[str, Floats]

    def __repr__(self) -> str:
        seeds = {name: len(own) for name, own in self.left_out.items()}
        return summary("Resampled", value=self.value, draws=self.draws, seeds=seeds)

    @property
    def alone(self) -> bool:
        """Whether a single seed somewhere leaves nothing to resample."""
        return min(map(len, self.left_out.values()), default=1) < 2

    @cached_property
    def variances(self) -> Floats:
        """Each sample's part of the variance by the jackknife, shape (samples, ...)."""
        with np.errstate(invalid="ignore"):
            return jackknife_variances(self.left_out.values())

    def at(self, *index: Any) -> Resampled:
        """The statistic's entries at an index into its value."""
        left_out = {sample: own[:, *index] for sample, own in self.left_out.items()}
        return Resampled(self.value[*index], self.draws[:, *index], left_out)

    def map(self, function: Callable[[Floats], Floats]) -> Resampled:
        """A function of the statistic, which acts on arrays with any leading axes."""
        left_out = {sample: function(own) for sample, own in self.left_out.items()}
        return Resampled(function(self.value), function(self.draws), left_out)

    def interval(self) -> Floats:
        """Ends of the 95 % interval, shape (2, ...): percentiles, drawn out for few seeds.

        The distances of the percentiles from the value are multiplied by the ratio of Student's to
        the normal quantile, with the degrees of freedom of Welch and Satterthwaite, and by the
        root of S/(S - 1), which resampled means of S seeds lack. Both are 1 for many seeds. A
        single seed somewhere gives no interval: the value twice.
        """
        from scipy.stats import norm

        if self.alone:
            return np.stack([self.value, self.value])
        # The nearest draw rather than a mean of two, one of which may be infinite.
        ends = np.quantile(self.draws, ENDS, axis=0, method="nearest")
        counts = np.array([len(own) for own in self.left_out.values()])
        counts = counts.reshape(-1, *[1] * self.value.ndim)
        with np.errstate(all="ignore"):
            parts = self.variances / self.variances.sum(axis=0)
            freedom = _welch_freedom(self.variances, counts - 1)
            missing = np.sum(parts * (counts - 1) / counts, axis=0)
            stretch = _student_quantile(freedom) / norm.ppf(ENDS[1]) / np.sqrt(missing)
            # Without any variance, and where limits are infinite, there is nothing to draw out.
            drawn_out = self.value + (ends - self.value) * stretch
        return np.where(np.isfinite(drawn_out), drawn_out, ends)

    def __sub__(self, other: Resampled) -> Resampled:
        """The difference of statistics: paired in the samples that both have.

        A sample's seeds are drawn alike in every statistic, and those of different samples
        independently. Draws that are infinite in both have no difference, and count as the value.
        """
        if not isinstance(other, Resampled):
            return NotImplemented
        own, others = self.left_out, other.left_out
        with np.errstate(invalid="ignore"):
            value, draws = self.value - other.value, self.draws - other.draws
            left_out = {
                sample: own.get(sample, self.value) - others.get(sample, other.value)
                for sample in {**own, **others}
            }
        return Resampled(value, np.where(np.isnan(draws), value, draws), left_out)


class SeedResamples:
    """Choices of seeds, one a row: the data, bootstrap resamples, and each seed left out once.

    `samples` gives every sample's name and number of seeds. A sample's draws depend on its name
    alone, so that statistics of the same sample are paired wherever they are computed.
    """

    def __init__(self, samples: Mapping[str, int], resamples: int):
        self.samples = dict(samples)
        self.alone = min(self.samples.values(), default=1) < 2
        self.resamples = 0 if self.alone else int(resamples)

    def times(self, sample: str) -> NDArray[np.int64]:
        """How often each seed of a sample counts, shape (rows, seeds)."""
        seeds = self.samples[sample]
        data = np.ones((1, seeds), dtype=np.int64)
        if self.alone:
            return data
        names = list(self.samples)
        first = sum(self.samples[name] for name in names[: names.index(sample)])
        random = np.random.default_rng(zlib.crc32(sample.encode()))
        drawn = random.multinomial(seeds, np.full(seeds, 1 / seeds), self.resamples)
        left_out = np.ones((sum(self.samples.values()), seeds), dtype=np.int64)
        left_out[first : first + seeds] -= np.eye(seeds, dtype=np.int64)
        return np.concatenate([data, drawn, left_out])

    def without_draws(self, rows: Floats) -> Floats:
        """The rows of the data and of each seed left out: what variances need."""
        return np.concatenate([rows[:1], rows[1 + self.resamples :]])

    def of(self, statistics: ArrayLike) -> Resampled:
        """A statistic from its values for every row (or `without_draws`), shape (rows, ...)."""
        values = np.asarray(statistics, dtype=np.float64)
        if self.alone:
            return Resampled(values[0], values[1:], dict.fromkeys(self.samples, values[1:]))
        counts = list(self.samples.values())
        drawn = len(values) - sum(counts)
        left_out = np.split(values[drawn:], np.cumsum(counts)[:-1])
        return Resampled(values[0], values[1:drawn], dict(zip(self.samples, left_out, strict=True)))
