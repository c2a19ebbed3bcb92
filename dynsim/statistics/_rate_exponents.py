"""Powers of width and vocabulary in optimal learning rates, from losses on grids of both rates.

A surface holds the losses of one network size over both learning rates and seeds. Its joint
optimum is the minimum of a quadratic form in (ln embedding LR, ln hidden LR), fitted to all points
of low loss: where the loss is noisy that is several times more exact than the parabola through
three points of a profile (`rate_optimum`), which still says how flat the optimum is. An exponent is
the slope of the log optimum over log size; its interval resamples the seeds of every surface and
repeats mean, optimum and slope.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import check_choice

from ._exponents import RESAMPLES, Estimate, ExponentFit, bootstrap, fit_exponent, log_slope
from ._optimum import (
    EXCESS,
    FLAT_FACTOR,
    STATUSES,
    Optimum,
    RateStatus,
    check_grid,
    joint_optimum,
    mean_and_error,
    optima_ratio,
    rate_optimum,
)

TunedRate = Literal[
    "embedding", "hidden", "ratio", "embedding_alone", "hidden_alone", "ratio_alone"
]
TUNED_RATES: tuple[TunedRate, ...] = get_args(TunedRate)

REACH = 0.05  # excess, as a share of what training removes, at which a point's weight has dropped
STEEPEST = 100.0  # a slope beyond is unbounded

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LossSurface:
    """Losses of one network size on a grid of learning rates.

    - `embedding_lrs` (K_E,), `hidden_lrs` (K_H,): geometric, each after an optional first 0 (that
      layer frozen).
    - `loss`: shape (K_E, K_H, S) over S seeds; `initial_loss`: before training, shape (S,). Where a
      run diverged (its loss is not finite, or above the initial one) it has removed nothing.

    Raises `ValueError` for other grids and shapes.
    """

    embedding_lrs: Floats
    hidden_lrs: Floats
    loss: Floats
    initial_loss: Floats

    def __post_init__(self) -> None:
        shape = (*self.embedding_lrs.shape, *self.hidden_lrs.shape, *self.initial_loss.shape)
        if self.loss.shape != shape or self.loss.ndim != 3:
            raise ValueError(f"losses have shape {self.loss.shape}, must be {shape}")
        axes = [self.embedding_lrs, self.hidden_lrs]
        logs = [np.log(rates[rates > 0]) for rates in axes]
        check_grid(axes, logs, self.loss[..., 0], EXCESS)

    @property
    def change(self) -> Floats:
        """Loss minus initial loss of each run, at most 0; shape (K_E, K_H, S)."""
        with np.errstate(invalid="ignore"):
            change = self.loss - self.initial_loss
        return np.minimum(np.nan_to_num(change, nan=0.0, posinf=0.0, neginf=0.0), 0.0)

    @property
    def tuned_rates(self) -> tuple[TunedRate, ...]:
        """What can be tuned on this grid: a rate needs three positive values, `_alone` (the other
        layer frozen) a 0 among the other layer's rates."""
        tuned = [np.sum(rates > 0) > 2 for rates in (self.embedding_lrs, self.hidden_lrs)]
        frozen = [bool(np.any(rates == 0)) for rates in (self.embedding_lrs, self.hidden_lrs)]
        trained = [bool(np.any(rates > 0)) for rates in (self.embedding_lrs, self.hidden_lrs)]
        able = {
            "embedding": tuned[0] and trained[1],
            "hidden": tuned[1] and trained[0],
            "ratio": all(tuned),
            "embedding_alone": tuned[0] and frozen[1],
            "hidden_alone": tuned[1] and frozen[0],
            "ratio_alone": all(tuned) and all(frozen),
        }
        return tuple(rate for rate in TUNED_RATES if able[rate])


@dataclass(frozen=True)
class RateExponent(ExponentFit):
    """Exponent x of an optimal *base* learning rate (or ratio) ~ size^x.

    - `value`, [`low`, `high`], `drift`: as `ExponentFit`; the interval is NaN with one seed.
    - `status`: `ok`; `flat`: at least one optimum in the fit is flat; `edge`: fewer than two
      optima are determined within their grids, no fit; `undetermined`: fewer than two sizes.
    - `theil_sen`: median of all pairs' slopes; equal to `value` up to noise unless single sizes
      carry the fit.
    - `reach_drift`: the exponent with the quadratic form fitted to half the reach, minus `value`:
      how much the asymmetry of the losses matters, which the interval over seeds does not hold.
    - `without_smallest`: the exponent without the 1, 2, ... smallest sizes, while two are left.
    - `compatible_low`, `compatible_high`: every slope between is that of a line through all
      near-optimal intervals, and no other slope is; NaN if there is no such line.
    - `rule`: exponent of the parametrization's own factor; the actual learning rate has x + rule.
    - `used`, `flat`, `excluded`: optima in the fit, the flat ones among them, and those left out.
    """

    status: RateStatus = "ok"
    theil_sen: float = math.nan
    reach_drift: float = math.nan
    without_smallest: tuple[float, ...] = ()
    compatible_low: float = math.nan
    compatible_high: float = math.nan
    rule: float = 0.0
    used: int = 0
    flat: int = 0
    excluded: int = 0

    @property
    def actual(self) -> Estimate:
        """Exponent of the actual learning rate, base LR times the parametrization's factor."""
        return Estimate(self.value + self.rule, self.low + self.rule, self.high + self.rule)


def surface_optimum(surface: LossSurface, rate: TunedRate, *, excess: float = EXCESS) -> Optimum:
    """Optimum of a learning rate or of embedding LR/hidden LR, the rest tuned.

    The value is the minimum of a quadratic form in the log rates, fitted with weights
    exp(-(excess/s)²/2), s 5 % of what training removes or, if that is more, the mean excess of the
    lowest point's neighbours. Interval and status are those of `rate_optimum` of the profile, with
    two standard errors over seeds as the error. `edge` is also an optimum next to another rate at
    its grid's end, unless the loss is flat there; `ratio` is one where either rate is.

    `embedding_alone` and `hidden_alone` have the other layer frozen, `ratio_alone` is their
    quotient; its loss is NaN. Raises `InputError` for another `rate`, `ValueError` if the grid
    does not hold what `rate` needs (`LossSurface.tuned_rates`).
    """
    check_choice("rate", rate, TUNED_RATES)
    if rate not in surface.tuned_rates:
        raise ValueError(f"the grid has no optimum of {rate}")
    if rate == "ratio_alone":
        return optima_ratio(
            surface_optimum(surface, "embedding_alone", excess=excess),
            surface_optimum(surface, "hidden_alone", excess=excess),
        )
    change = surface.change
    mean, error = change.mean(axis=-1), np.zeros(change.shape[:-1])
    if change.shape[-1] > 1:
        mean, error = mean_and_error(np.moveaxis(change, -1, 0))
    found = _profile_optimum(surface, rate, mean, error, excess)
    found = replace(found, loss=found.loss + float(surface.initial_loss.mean()))
    if rate == "ratio":
        parts = [surface_optimum(surface, one, excess=excess) for one in ("embedding", "hidden")]
        worst = max((part.status for part in parts), key=STATUSES.index)
        if worst in ("edge", "undetermined"):
            return replace(found, value=math.nan, status=worst)
    if not 0 < found.value < math.inf:
        return found
    value = math.exp(float(log_optimum(surface, rate)(change)))
    found = replace(found, value=value, low=min(found.low, value), high=max(found.high, value))
    if found.status == "ok" and found.high > FLAT_FACTOR * found.low:
        found = replace(found, status="flat")
    least, most = rate_limits(surface, rate)
    return found if least < value < most else replace(found, value=math.nan, status="edge")


def optimum_interval(
    surface: LossSurface, rate: TunedRate, *, resamples: int = RESAMPLES
) -> Estimate:
    """Optimum of `surface_optimum` with its 95 % bootstrap interval over seeds (NaN with one).

    A resample's optimum beyond the grid counts as the grid's end.
    """
    log_value = log_optimum(surface, rate)

    def statistic(change: Floats, axis: int = -1) -> Floats:
        return log_value(change)

    found = bootstrap(statistic, [surface.change], resamples=resamples, vectorized=True)
    if surface.change.shape[-1] < 2:
        return Estimate(math.exp(found.value), math.nan, math.nan)
    return Estimate(*(math.exp(log) for log in (found.value, found.low, found.high)))


def rate_exponent(
    sizes: ArrayLike,
    surfaces: Sequence[LossSurface],
    rate: TunedRate,
    *,
    factors: ArrayLike = 1.0,
    excess: float = EXCESS,
    resamples: int = RESAMPLES,
) -> RateExponent:
    """Exponent x of an optimal base learning rate ~ size^x, from one surface each size.

    **Arguments:**

    - `sizes`: widths or vocabulary sizes, increasing, shape (K,); `surfaces`: K of them, on one
      grid.
    - `rate`: as in `surface_optimum`. Only optima within their grid enter the fit.
    - `factors`: what the parametrization multiplies the base rate with at each size.

    Raises `ValueError` for other sizes, and what `surface_optimum` raises.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    if len(sizes) != len(surfaces) or np.any(np.diff(sizes) <= 0):
        raise ValueError("sizes must increase, one for each surface")
    log_factors = np.log(np.broadcast_to(np.asarray(factors, dtype=np.float64), sizes.shape))
    optima = [surface_optimum(surface, rate, excess=excess) for surface in surfaces]
    kept = [k for k, optimum in enumerate(optima) if is_determined(optimum)]
    flat = sum(optima[k].status == "flat" for k in kept)
    counted = RateExponent(
        math.nan, math.nan, math.nan, used=len(kept), flat=flat, excluded=len(sizes) - len(kept)
    )
    if len(kept) < 2:
        return replace(counted, status="undetermined" if len(sizes) < 2 else "edge")
    from scipy.stats import theilslopes

    log_size = np.log(sizes[kept])
    log_value = log_optimum(surfaces[kept[0]], rate)
    samples = [surfaces[k].change for k in kept]
    fit = fit_exponent(sizes[kept], samples, log_value=log_value, resamples=resamples)
    values = np.log([optima[k].value for k in kept])
    log_narrow = log_optimum(surfaces[kept[0]], rate, REACH / 2)
    narrower = np.array([log_narrow(sample) for sample in samples])
    compatible = compatible_slopes(
        log_size, *np.transpose([_known_ends(surfaces[k], rate, optima[k]) for k in kept])
    )
    one_seed = min(sample.shape[-1] for sample in samples) < 2
    return replace(
        counted,
        value=fit.value,
        low=math.nan if one_seed else fit.low,
        high=math.nan if one_seed else fit.high,
        drift=fit.drift,
        status="flat" if flat else "ok",
        theil_sen=float(theilslopes(values, log_size).slope),
        reach_drift=float(log_slope(log_size, narrower) - fit.value),
        without_smallest=tuple(
            float(log_slope(log_size[k:], values[k:])) for k in range(1, len(kept) - 1)
        ),
        compatible_low=compatible[0],
        compatible_high=compatible[1],
        rule=float(log_slope(log_size, log_factors[kept])),
    )


def is_determined(optimum: Optimum) -> bool:
    """Whether an optimum has a logarithm: inside its grid, and no frozen layer."""
    return optimum.status in ("ok", "flat") and 0 < optimum.value < math.inf


def compatible_slopes(log_size: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[float, float]:
    """Smallest and largest slope of a line a + b x that passes through all intervals [low, high].

    Two linear programs in (a, b); ends may be infinite. (NaN, NaN) if there is no such line;
    a slope beyond ±100 counts as infinite.
    """
    from scipy.optimize import linprog

    x, low, high = (np.asarray(a, dtype=np.float64) for a in (log_size, low, high))
    lines = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    rows, bounds = np.concatenate([lines, -lines]), np.concatenate([high, -low])
    known = np.isfinite(bounds)

    def extreme(sign: float) -> float:
        found = linprog(
            [0.0, sign],
            A_ub=rows[known],
            b_ub=bounds[known],
            bounds=[(None, None), (-STEEPEST, STEEPEST)],
        )
        if not found.success:
            return math.nan
        slope = float(found.x[1])
        return slope if abs(slope) < STEEPEST - 1e-6 else math.copysign(math.inf, slope)

    return extreme(1.0), extreme(-1.0)


def rate_limits(surface: LossSurface, rate: TunedRate) -> tuple[float, float]:
    """Smallest and largest positive rate (or ratio) of the grid."""
    embedding, hidden = (
        (float(rates[rates > 0].min()), float(rates.max())) if np.any(rates > 0) else (0.0, 0.0)
        for rates in (surface.embedding_lrs, surface.hidden_lrs)
    )
    if rate.startswith("ratio"):
        return embedding[0] / hidden[1], embedding[1] / hidden[0]
    return embedding if rate.startswith("embedding") else hidden


def log_optimum(
    surface: LossSurface, rate: TunedRate, reach: float = REACH
) -> Callable[[Floats], Floats]:
    """Function of changes of loss (K_E, K_H, ..., S) on the surface's grid: ln optimum (...)."""
    rates = surface.embedding_lrs, surface.hidden_lrs
    axes = [np.log(axis[axis > 0]) for axis in rates]
    frozen = [int(axis[0] == 0) for axis in rates]
    parts = {"embedding": ((0, 1),), "hidden": ((1, 1),), "ratio": ((0, 1), (1, -1))}
    signed = parts[rate.removesuffix("_alone")]

    def alone(mean: Floats, axis: int) -> Floats:
        line = mean[..., 0] if axis == 0 else mean[..., 0, :]
        return log_minimum([axes[axis]], line[..., frozen[axis] :], reach)[..., 0]

    def of(change: Floats) -> Floats:
        mean = np.moveaxis(change.mean(axis=-1), (0, 1), (-2, -1))
        if rate.endswith("_alone"):
            return np.sum([sign * alone(mean, axis) for axis, sign in signed], axis=0)
        place = _joint_minimum(axes, mean, frozen, reach)
        return np.sum([sign * place[..., axis] for axis, sign in signed], axis=0)

    return of


def log_minimum(axes: Sequence[Floats], loss: Floats, reach: float = REACH) -> Floats:
    """Place of the minimum of the log-quadratic form nearest to losses (..., K_1, ..., K_D).

    `axes` are the evenly spaced log rates of the D axes; `loss` is relative to the initial one.
    Weighted least squares (weights in `surface_optimum`); shape (..., D), held within the axes.
    Where the fitted form has no minimum, the place of the lowest loss.
    """
    dimensions = len(axes)
    shape = loss.shape[loss.ndim - dimensions :]
    loss = loss.reshape(*loss.shape[: loss.ndim - dimensions], -1)  # (..., K)
    index = np.stack(np.unravel_index(np.arange(loss.shape[-1]), shape), axis=-1)  # (K, D)
    place = index - (np.array(shape) - 1) / 2  # in steps from the grid's centre
    best = loss.argmin(axis=-1)
    lowest = loss.min(axis=-1, keepdims=True)
    excess = loss - lowest
    near = np.abs(index - index[best][..., None, :]).max(axis=-1) <= 1  # (..., K)
    beside = (excess * near).sum(axis=-1, keepdims=True) / near.sum(axis=-1, keepdims=True)
    scale = np.maximum(-reach * lowest, beside)
    weight = np.exp(-0.5 * (excess / np.where(scale > 0, scale, 1.0)) ** 2)
    rows, columns = np.triu_indices(dimensions)
    terms = np.concatenate(
        [np.ones((len(place), 1)), place, place[:, rows] * place[:, columns]], axis=1
    )
    count = terms.shape[1]
    products = (terms[:, :, None] * terms[:, None, :]).reshape(len(terms), -1)
    normal = (weight @ products).reshape(*weight.shape[:-1], count, count)
    normal = normal + 1e-9 * np.eye(count)  # enough points carry weight unless all are equal
    fitted = np.linalg.solve(normal, ((weight * excess) @ terms)[..., None])[..., 0]
    slope, bend = fitted[..., 1 : 1 + dimensions], fitted[..., 1 + dimensions :]
    hessian = np.zeros((*bend.shape[:-1], dimensions, dimensions))
    hessian[..., rows, columns] = bend
    hessian = hessian + np.swapaxes(hessian, -1, -2)
    convex = np.linalg.eigvalsh(hessian)[..., 0] > 1e-9 * np.abs(hessian).max(axis=(-2, -1))
    hessian = np.where(convex[..., None, None], hessian, np.eye(dimensions))
    minimum = -np.linalg.solve(hessian, slope[..., None])[..., 0]
    minimum = np.where(convex[..., None], minimum, place[best])
    limit = (np.array(shape) - 1) / 2
    centre = np.array([(axis[0] + axis[-1]) / 2 for axis in axes])
    step = np.array([axis[1] - axis[0] for axis in axes])
    return centre + step * np.clip(minimum, -limit, limit)


def _joint_minimum(
    axes: Sequence[Floats], loss: Floats, frozen: Sequence[int], reach: float
) -> Floats:
    """Place of the minimum in both log rates, from losses (..., K_E, K_H), shape (..., 2).

    The first `frozen` (0 or 1) rates of an axis are 0. Where one layer does best frozen or at its
    grid's end, or is not tuned, the other's place is the minimum of its profile, a fit in one rate.
    """
    shape = loss.shape[-2:]
    place = np.full((*loss.shape[:-2], 2), np.nan)
    for axis, log in enumerate(axes):
        if len(log) > 2:
            profile = loss.min(axis=-1 if axis == 0 else -2)
            place[..., axis] = log_minimum([log], profile[..., frozen[axis] :], reach)[..., 0]
    if min(map(len, axes)) < 3:
        return place
    best = loss.reshape(*loss.shape[:-2], -1).argmin(axis=-1)
    index = np.stack(np.unravel_index(best, shape), axis=-1)
    at_end = (index <= np.array(frozen)) | (index == np.array(shape) - 1)
    both = log_minimum(axes, loss[..., frozen[0] :, frozen[1] :], reach)
    return np.where(at_end[..., ::-1], place, both)


def _profile_optimum(
    surface: LossSurface, rate: TunedRate, mean: Floats, error: Floats, excess: float
) -> Optimum:
    """Interval and status of a rate from its profile; the value is the profile's parabola's."""
    axes = surface.embedding_lrs, surface.hidden_lrs
    options = {"initial_loss": 0.0, "excess": excess}
    if rate in ("embedding_alone", "hidden_alone"):
        axis = int(rate == "hidden_alone")
        line = (slice(None), 0) if axis == 0 else (0, slice(None))
        return rate_optimum(axes[axis], mean[line], error=error[line], **options)
    if min(np.sum(rates > 0) for rates in axes) < 3:
        axis = int(rate == "hidden")
        best = np.expand_dims(mean.argmin(axis=1 - axis), 1 - axis)
        lines = [np.take_along_axis(a, best, 1 - axis).squeeze(1 - axis) for a in (mean, error)]
        return rate_optimum(axes[axis], lines[0], error=lines[1], **options)
    found = joint_optimum(*axes, mean, error=error, **options)
    if rate == "ratio":
        return found.ratio
    both = found.embedding, found.projection
    this, other = both if rate == "embedding" else both[::-1]
    sharp_end = other.status == "edge" and other.high <= FLAT_FACTOR * other.low
    return replace(this, value=math.nan, status="edge") if sharp_end else this


def _known_ends(surface: LossSurface, rate: TunedRate, optimum: Optimum) -> tuple[float, float]:
    """ln of the near-optimal interval; an end at the grid's end is not known, and infinite."""
    least, most = rate_limits(surface, rate)
    low = math.log(optimum.low) if optimum.low > least * (1 + 1e-9) else -math.inf
    return low, math.log(optimum.high) if optimum.high < most * (1 - 1e-9) else math.inf
