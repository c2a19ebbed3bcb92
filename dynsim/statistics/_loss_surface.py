"""Losses of one network size on a grid of both learning rates, and the optima read from it.

The optimum is the minimum of a quadratic form in (ln embedding LR, ln hidden LR), fitted to all
points of low loss: where the loss is noisy that is several times more exact than the parabola
through three points of a profile (`rate_optimum`), which still says how flat the optimum is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import check_choice
from dynsim._outcome import Status
from dynsim._results import Declared, Result
from dynsim._summary import summary

from ._intervals import Estimate, Resamples, bootstrap
from ._optimum import (
    EXCESS,
    FLAT_FACTOR,
    JointOptimum,
    Optimum,
    check_grid,
    joint_optimum,
    mean_and_error,
    optima_ratio,
    rate_optimum,
    worst,
)
from ._parabola import WEIGHT_SCALE, quadratic_form_minimum

TunedRate = Literal[
    "embedding", "hidden", "ratio", "embedding_alone", "hidden_alone", "ratio_alone"
]
TUNED_RATES: tuple[TunedRate, ...] = get_args(TunedRate)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class LossSurface(Result):
    """Losses of one network size on a grid of learning rates.

    - `embedding_lrs` (K_E,), `hidden_lrs` (K_H,): geometric, each after an optional first 0 (that
      layer frozen).
    - `loss`: shape (K_E, K_H, S) over S seeds; `initial_loss`: before training, shape (S,). Where a
      run diverged (its loss is not finite, or above the initial one) it has removed nothing.

    Raises `ValueError` for other grids and shapes.
    """

    arrays: ClassVar[Declared] = {
        "loss": "embedding_lr hidden_lr seed",
        "initial_loss": "seed",
        "embedding_lr": ("embedding_lr", "embedding_lrs"),
        "hidden_lr": ("hidden_lr", "hidden_lrs"),
    }

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

    def __repr__(self) -> str:
        return summary(
            "LossSurface",
            embedding_lrs=self.embedding_lrs,
            hidden_lrs=self.hidden_lrs,
            loss=self.loss,
            initial_loss=self.initial_loss,
            tunes=", ".join(self.tuned_rates) or "nothing",
        )

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

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import LossSurface, surface_optimum
    >>> rates = np.geomspace(0.01, 1, 9)
    >>> x, y = np.meshgrid(np.log(rates / 0.1), np.log(rates / 0.1), indexing="ij")
    >>> loss = np.stack([above + 0.1 * (x**2 + y**2) for above in (1.0, 1.1)], axis=-1)  # two seeds
    >>> surface = LossSurface(rates, rates, loss, initial_loss=np.full(2, 2.0))
    >>> best = surface_optimum(surface, "ratio")
    >>> round(best.value, 3), best.status.value
    (1.0, 'ok')
    """
    check_choice("rate", rate, TUNED_RATES)
    if rate not in surface.tuned_rates:
        raise ValueError(f"the grid has no optimum of {rate}")
    profiles = _Profiles(surface, excess)
    if rate == "ratio_alone":
        return optima_ratio(profiles.optimum("embedding_alone"), profiles.optimum("hidden_alone"))
    return profiles.optimum(rate)


def optimum_interval(
    surface: LossSurface, rate: TunedRate, *, resamples: int = Resamples.PRECISE
) -> Estimate:
    """Optimum of `surface_optimum` with its 95 % interval over seeds, by `bootstrap` (NaN: one).

    A resample's optimum beyond the grid counts as the grid's end.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import LossSurface, optimum_interval
    >>> rates = np.geomspace(0.01, 1, 9)
    >>> x, y = np.meshgrid(np.log(rates / 0.1), np.log(rates / 0.1), indexing="ij")
    >>> loss = np.stack([above + 0.1 * (x**2 + y**2) for above in (1.0, 1.1)], axis=-1)  # two seeds
    >>> surface = LossSurface(rates, rates, loss, initial_loss=np.full(2, 2.0))
    >>> round(optimum_interval(surface, "embedding").value, 3)
    0.1
    """
    log_value = log_optimum(surface, rate)

    def statistic(change: Floats, axis: int = -1) -> Floats:
        return log_value(change)

    found = bootstrap(statistic, [surface.change], resamples=resamples, vectorized=True)
    if surface.change.shape[-1] < 2:
        return Estimate(math.exp(found.value), math.nan, math.nan)
    return Estimate(*(math.exp(log) for log in (found.value, found.low, found.high)))


def is_determined(optimum: Optimum) -> bool:
    """Whether an optimum has a logarithm: inside its grid, and no frozen layer.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import is_determined, rate_optimum
    >>> rates = np.geomspace(0.01, 1, 9)
    >>> falling = rate_optimum(rates, 2 - rates, initial_loss=2.0)  # lowest at the end of the grid
    >>> is_determined(falling)
    False
    """
    return optimum.status in (Status.OK, Status.FLAT) and 0 < optimum.value < math.inf


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
    surface: LossSurface, rate: TunedRate, weight_scale: float = WEIGHT_SCALE
) -> Callable[[Floats], Floats]:
    """Function of changes of loss (K_E, K_H, ..., S) on the surface's grid: ln optimum (...).

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import LossSurface, log_optimum
    >>> rates = np.geomspace(0.01, 1, 9)
    >>> x, y = np.meshgrid(np.log(rates / 0.1), np.log(rates / 0.1), indexing="ij")
    >>> loss = np.stack([above + 0.1 * (x**2 + y**2) for above in (1.0, 1.1)], axis=-1)  # two seeds
    >>> surface = LossSurface(rates, rates, loss, initial_loss=np.full(2, 2.0))
    >>> round(float(np.exp(log_optimum(surface, "ratio")(loss - 2.0))), 3)
    1.0
    """
    rates = surface.embedding_lrs, surface.hidden_lrs
    axes = [np.log(axis[axis > 0]) for axis in rates]
    frozen = [int(axis[0] == 0) for axis in rates]
    parts = {"embedding": ((0, 1),), "hidden": ((1, 1),), "ratio": ((0, 1), (1, -1))}
    signed = parts[rate.removesuffix("_alone")]

    def alone(mean: Floats, axis: int) -> Floats:
        line = mean[..., 0] if axis == 0 else mean[..., 0, :]
        return quadratic_form_minimum([axes[axis]], line[..., frozen[axis] :], weight_scale)[..., 0]

    def of(change: Floats) -> Floats:
        mean = np.moveaxis(change.mean(axis=-1), (0, 1), (-2, -1))
        if rate.endswith("_alone"):
            return np.sum([sign * alone(mean, axis) for axis, sign in signed], axis=0)
        place = _joint_minimum(axes, mean, frozen, weight_scale)
        return np.sum([sign * place[..., axis] for axis, sign in signed], axis=0)

    return of


def _joint_minimum(
    axes: Sequence[Floats], loss: Floats, frozen: Sequence[int], weight_scale: float
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
            place[..., axis] = quadratic_form_minimum(
                [log], profile[..., frozen[axis] :], weight_scale
            )[..., 0]
    if min(map(len, axes)) < 3:
        return place
    best = loss.reshape(*loss.shape[:-2], -1).argmin(axis=-1)
    index = np.stack(np.unravel_index(best, shape), axis=-1)
    at_end = (index <= np.array(frozen)) | (index == np.array(shape) - 1)
    both = quadratic_form_minimum(axes, loss[..., frozen[0] :, frozen[1] :], weight_scale)
    return np.where(at_end[..., ::-1], place, both)


class _Profiles:
    """Optima of a surface's rates, which share its mean loss and its profiles."""

    def __init__(self, surface: LossSurface, excess: float):
        self.surface, self.change = surface, surface.change
        self.mean, self.error = self.change.mean(axis=-1), np.zeros(self.change.shape[:-1])
        if self.change.shape[-1] > 1:
            self.mean, self.error = mean_and_error(np.moveaxis(self.change, -1, 0))
        self.axes = surface.embedding_lrs, surface.hidden_lrs
        self.options = {"initial_loss": 0.0, "excess": excess}

    @cached_property
    def joint(self) -> JointOptimum:
        return joint_optimum(*self.axes, self.mean, error=self.error, **self.options)

    def optimum(self, rate: TunedRate) -> Optimum:
        """As `surface_optimum`, but for `ratio_alone`."""
        surface, found = self.surface, self._of_profile(rate)
        found = replace(found, loss=found.loss + float(surface.initial_loss.mean()))
        if rate == "ratio":
            status = worst(*(self.optimum(one).status for one in ("embedding", "hidden")))
            if status in (Status.EDGE, Status.UNDETERMINED):
                return replace(found, value=math.nan, status=status)
        if not 0 < found.value < math.inf:
            return found
        value = math.exp(float(log_optimum(surface, rate)(self.change)))
        found = replace(found, value=value, low=min(found.low, value), high=max(found.high, value))
        if found.status is Status.OK and found.high > FLAT_FACTOR * found.low:
            found = replace(found, status=Status.FLAT)
        least, most = rate_limits(surface, rate)
        inside = least < value < most
        return found if inside else replace(found, value=math.nan, status=Status.EDGE)

    def _of_profile(self, rate: TunedRate) -> Optimum:
        """Interval and status of a rate from its profile; the value is the profile's parabola's."""
        axes, mean, error = self.axes, self.mean, self.error
        if rate in ("embedding_alone", "hidden_alone"):
            axis = int(rate == "hidden_alone")
            line = (slice(None), 0) if axis == 0 else (0, slice(None))
            return rate_optimum(axes[axis], mean[line], error=error[line], **self.options)
        if min(np.sum(rates > 0) for rates in axes) < 3:
            axis = int(rate == "hidden")
            best = np.expand_dims(mean.argmin(axis=1 - axis), 1 - axis)
            lines = [np.take_along_axis(a, best, 1 - axis).squeeze(1 - axis) for a in (mean, error)]
            return rate_optimum(axes[axis], lines[0], error=lines[1], **self.options)
        if rate == "ratio":
            return self.joint.ratio
        both = self.joint.embedding, self.joint.projection
        this, other = both if rate == "embedding" else both[::-1]
        sharp_end = other.status is Status.EDGE and other.high <= FLAT_FACTOR * other.low
        return replace(this, value=math.nan, status=Status.EDGE) if sharp_end else this
