"""Exponents, optima, crossovers and collapses from measured samples, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
SURFACE_BATCH = 200  # resamples at a time of samples with leading axes, to spare memory


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval [low, high] (95 % unless said otherwise)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ExponentFit(Estimate):
    """An exponent and its `drift`: the fit without the smallest size minus the fit with all."""

    drift: float = math.nan


def bootstrap(
    statistic: Callable[..., NDArray[np.float64]],
    samples: Sequence[NDArray[np.float64]],
    *,
    resamples: int = RESAMPLES,
    vectorized: bool = False,
) -> Estimate:
    """95 % expanded percentile bootstrap of `statistic(*samples)`, each sample resampled by itself.

    A sample is a cell's seeds along its last axis (leading axes are resampled together, so that
    a curve over learning rates stays one seed's curve). Uses scipy's bootstrap with a fixed
    seed; with a single seed or identical samples the interval shrinks to the value. Few seeds make
    plain percentiles too narrow (4 seeds cover 81 % for 95 %); their level is raised to what makes
    the interval of a mean that of Student's t, with the degrees of freedom of all samples
    (Hesterberg, What teachers should know about the bootstrap, 2015).

    With `vectorized` the statistic takes samples (..., resamples, seeds) as well and returns one
    value each resample.
    """
    from scipy.stats import bootstrap as scipy_bootstrap

    value = float(statistic(*samples, axis=-1))
    indices = tuple(np.arange(sample.shape[-1]) for sample in samples)
    if max(len(index) for index in indices) < 2:
        return Estimate(value, value, value)

    def of_indices(*chosen: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        resampled = [sample[..., pick] for sample, pick in zip(samples, chosen, strict=True)]
        return np.asarray(statistic(*resampled, axis=-1))

    interval = scipy_bootstrap(
        indices,
        of_indices,
        vectorized=vectorized,
        paired=False,
        n_resamples=resamples,
        batch=SURFACE_BATCH if vectorized and max(map(np.ndim, samples)) > 1 else None,
        confidence_level=_expanded_level([len(index) for index in indices]),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


def jackknife(
    statistic: Callable[..., ArrayLike], samples: Sequence[NDArray[np.float64]]
) -> Estimate:
    """95 % interval of `statistic(*samples)` by leaving out one seed at a time.

    The interval is the value +- t_nu sqrt(V), V = sum over samples of (S - 1)/S sum_s (theta_s -
    mean theta)^2, theta_s without seed s, and nu the degrees of freedom of Welch and Satterthwaite.
    For a mean this is Student's interval, which the percentiles of resamples of three or four seeds
    cannot reach (all of them lie between the lowest and the highest seed); for a statistic that is
    smooth in means it is the same to first order (Efron and Stein, 1981).

    Samples are as in `bootstrap`: seeds along the last axis, the statistic with `axis`. A single
    seed in every sample leaves no interval (NaN).
    """
    value = float(np.asarray(statistic(*samples, axis=-1)))
    left_out: list[Floats] = []
    for number, sample in enumerate(samples):
        count = sample.shape[-1]
        without = [np.delete(sample, seed, axis=-1) for seed in range(count if count > 1 else 0)]
        others = [(*samples[:number], own, *samples[number + 1 :]) for own in without]
        left_out.append(np.array([float(np.asarray(statistic(*one, axis=-1))) for one in others]))
    return jackknife_interval(value, left_out)


def jackknife_interval(value: float, left_out: Collection[Floats]) -> Estimate:
    """The interval of `jackknife` from a statistic's values without one seed at a time, one array
    of shape (S,) each sample."""
    from scipy.stats import t

    counts = np.array([np.size(own) for own in left_out])
    variances = np.array([(np.size(own) - 1) * np.var(own) for own in left_out if np.size(own) > 1])
    freedoms = counts[counts > 1] - 1
    if not len(variances):
        return Estimate(value, math.nan, math.nan)
    total = variances.sum()
    if total == 0:
        return Estimate(value, value, value)
    freedom = total**2 / np.sum(variances**2 / freedoms)
    reach = float(t.ppf(0.975, freedom) * np.sqrt(total))
    return Estimate(value, value - reach, value + reach)


def _expanded_level(sizes: Sequence[int]) -> float:
    """Level of percentiles at which the interval of a mean of normal samples covers 95 %."""
    from scipy.stats import norm, t

    freedom = sum(size - 1 for size in sizes)
    shrunk = freedom / (freedom + len(sizes))  # variance of a resampled mean over the unbiased one
    return float(1 - 2 * norm.cdf(-t.ppf(0.975, freedom) / math.sqrt(shrunk)))


def fit_exponent(
    sizes: ArrayLike,
    samples: Sequence[NDArray[np.float64]],
    *,
    power: float = 1.0,
    log_value: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    resamples: int = RESAMPLES,
) -> ExponentFit:
    """Exponent x of y ~ size^x, y = (mean over seeds of a cell's samples)^power.

    Least squares of log y on log size; interval by bootstrap over seeds within each cell.
    `samples[k]` are the seeds of the cell of `sizes[k]`. For an RMS give the squares and
    `power` = 1/2. For any other y give `log_value`, which takes a cell (..., S) or its resamples
    (..., R, S) to log y, a number or shape (R,).
    """
    log_size = np.log(np.asarray(sizes, dtype=np.float64))
    of_cell = log_value or (lambda cell: power * np.log(np.mean(cell, axis=-1)))

    def slope(*cells: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return log_slope(log_size, np.array([of_cell(cell) for cell in cells]))

    estimate = bootstrap(slope, samples, resamples=resamples, vectorized=True)
    drift = math.nan
    if len(samples) > 2:
        values = np.array([of_cell(cell) for cell in samples[1:]])
        drift = float(log_slope(log_size[1:], values) - estimate.value)
    return ExponentFit(estimate.value, estimate.low, estimate.high, drift)


def log_slope(log_size: NDArray[np.float64], log_value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slope of log_value on log_size, along the first axis of log_value."""
    centred = log_size - log_size.mean()
    return centred @ (log_value - np.mean(log_value, axis=0)) / (centred @ centred)


def parabola_minimum(rates: NDArray[np.float64], loss: NDArray[np.float64]) -> float:
    """Learning rate of the lowest loss: the minimum of the parabola through the three points
    around the smallest loss, linear in the rate (exact where the loss is quadratic in it).

    NaN where the smallest loss lies at the edge of the grid or the parabola opens downwards.
    """
    best = int(np.nanargmin(loss)) if np.any(np.isfinite(loss)) else 0
    if best in (0, len(rates) - 1) or not np.all(np.isfinite(loss[best - 1 : best + 2])):
        return math.nan
    curvature, slope, _ = np.polyfit(rates[best - 1 : best + 2], loss[best - 1 : best + 2], 2)
    return float(-slope / (2 * curvature)) if curvature > 0 else math.nan


def unit_crossing(rank: NDArray[np.float64], ratio: NDArray[np.float64]) -> float:
    """Rank at which a decreasing, noisy ratio passes 1, without assuming its shape.

    Isotonic regression of the ratio over rank, then interpolation in log rank between the
    centres of the two level stretches on either side of 1. NaN where the ratio never crosses.
    """
    from scipy.optimize import isotonic_regression

    smooth = isotonic_regression(ratio, increasing=False)
    centres = np.array([np.log(block).mean() for block in np.split(rank, smooth.blocks[1:-1])])
    levels = smooth.x[smooth.blocks[:-1]]
    if not levels[0] > 1 > levels[-1]:
        return math.nan
    return float(np.exp(np.interp(-1.0, -levels, centres)))


def collapse_spread(
    scaled_size: NDArray[np.float64], value: NDArray[np.float64], *, degree: int = 7
) -> float:
    """How far values are from one common curve of the scaled size: 0 is a perfect collapse.

    RMS deviation of log(value) from the polynomial in log(scaled_size) of the given degree that
    fits all cells best: about the relative error with which the scaled size predicts the value.
    """
    x, y = np.log(scaled_size), np.log(value)
    x = (x - x.mean()) / (x.std() or 1)
    return float(np.sqrt(np.mean((y - np.polyval(np.polyfit(x, y, degree), x)) ** 2)))
