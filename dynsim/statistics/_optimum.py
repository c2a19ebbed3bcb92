"""Optimal learning rates and how sharply they are determined, from losses on a grid of rates.

A loss near its optimum is a parabola in ln eta, in two learning rates a quadratic form. The
optimum of one rate, or of the ratio, is read from the profile of the loss: its minimum over all
else at each value. The profile of a quadratic form is a parabola with the same minimum, so a
valley may have any direction. (`parabola_minimum` in the rate itself is exact where one step
leaves a loss quadratic in it; on the grids here both differ by a few per cent.)

An optimum without its interval says little: where one layer alone solves the task, the other's
learning rate may take any value up to some bound. A profile therefore knows its limits: a rate of
0 freezes the layer, and a ratio of 0 or infinity freezes the embedding or the projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._outcome import Status
from dynsim._summary import summary

from ._parabola import lowest_between, parabola_minimum

EXCESS = 0.01  # of the loss that training removes
FLAT_FACTOR = 4.0
LARGEST_BEND = 0.4  # of a parabola's three points: second difference over what training removes
FROM_BEST_TO_WORST = (Status.OK, Status.FLAT, Status.EDGE, Status.UNDETERMINED)
Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Optimum:
    """The best value of a learning rate (or of a ratio), and all that are nearly as good.

    - `value`: where the loss is lowest; NaN if `edge` or `undetermined`. 0 (and, for a ratio,
      infinity): a frozen layer does best.
    - `low`, `high`: the smallest and the largest value whose loss exceeds the lowest by no more
      than the stated share of what training removes, or than its numerical error.
    - `status`: `ok`; `flat`: near-optimal values span more than a factor 4, or reach a frozen
      layer or the grid's end; `edge`: the lowest loss lies at the grid's end; `undetermined`: no
      rate lowers the loss by more than its error.
    - `loss`: the lowest loss.
    """

    value: float
    low: float
    high: float
    status: Status
    loss: float

    def __str__(self) -> str:
        return f"{self.value:.4g}, near-optimal [{self.low:.4g}, {self.high:.4g}], {self.status}"

    def __repr__(self) -> str:
        return summary("Optimum", value=str(self), loss=self.loss)


@dataclass(frozen=True, repr=False)
class JointOptimum:
    """Optimum of each learning rate and of their ratio eta_E/eta_W, the rest tuned."""

    embedding: Optimum
    projection: Optimum
    ratio: Optimum

    def __repr__(self) -> str:
        return summary(
            "JointOptimum",
            embedding=str(self.embedding),
            projection=str(self.projection),
            ratio=str(self.ratio),
            loss=self.ratio.loss,
        )


def rate_optimum(
    rates: ArrayLike,
    loss: ArrayLike,
    *,
    initial_loss: float,
    error: ArrayLike = 0.0,
    excess: float = EXCESS,
) -> Optimum:
    """Optimum of one learning rate: a parabola in ln eta through the points around the lowest loss.

    **Arguments:**

    - `rates`: geometric and increasing, shape (K,), at least three; a first 0 is the frozen layer,
      a last infinity (of a ratio) its counterpart.
    - `loss`: shape (K,); `initial_loss`: before training.
    - `error`: numerical error of loss - lowest loss, a number or shape (K,).
    - `excess`: near-optimal is a loss within this share of initial - lowest loss.

    Between grid points the loss is interpolated monotonically in ln eta (PCHIP); losses above the
    initial one count as equal to it. Raises `ValueError` for other arguments.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import rate_optimum
    >>> rates = np.geomspace(0.01, 1, 9)
    >>> best = rate_optimum(rates, 1 + 0.1 * np.log(rates / 0.12) ** 2, initial_loss=2.0)
    >>> round(best.value, 3), best.status.value
    (0.12, 'ok')
    """
    from scipy.interpolate import PchipInterpolator

    rates, loss, error = (np.asarray(a, dtype=np.float64) for a in (rates, loss, error))
    inner = (rates > 0) & np.isfinite(rates)
    x = np.log(rates[inner])
    check_grid([rates], [x], loss, excess)
    loss, error = bounded(loss, initial_loss), np.broadcast_to(error, loss.shape)
    best = int(np.argmin(loss))
    lowest = float(loss[best])
    if not initial_loss - lowest > error[best]:
        return Optimum(math.nan, math.nan, math.nan, Status.UNDETERMINED, lowest)
    value = float(rates[best])
    if 0 < best < len(rates) - 1 and inner[best - 1] and inner[best + 1]:
        place = parabola_minimum(x, loss[inner])
        value = value if math.isnan(place) else math.exp(place)
        lowest = lowest_between(loss[inner], lowest, LARGEST_BEND * (initial_loss - lowest))
    over = loss - lowest - np.maximum(excess * (initial_loss - lowest), error)
    knots, heights = x, over[inner]
    if inner[best] and not np.any(x == math.log(value)):
        order = np.searchsorted(x, math.log(value))
        knots = np.insert(x, order, math.log(value))
        heights = np.insert(heights, order, min(over[best], -excess * (initial_loss - lowest)))
    crossings = np.exp(PchipInterpolator(knots, heights).roots(extrapolate=False))
    near = np.concatenate([rates[over <= 0], crossings, [value]])
    low, high = float(near.min()), float(near.max())
    if inner[best] and best in (0, len(rates) - 1):
        return Optimum(math.nan, low, high, Status.EDGE, lowest)
    cut = any(inner[end] and over[end] <= 0 for end in (0, -1))
    return Optimum(
        value, low, high, Status.FLAT if cut or high > FLAT_FACTOR * low else Status.OK, lowest
    )


def joint_optimum(
    embedding_rates: ArrayLike,
    projection_rates: ArrayLike,
    loss: ArrayLike,
    *,
    initial_loss: float,
    error: ArrayLike = 0.0,
    excess: float = EXCESS,
) -> JointOptimum:
    """Optimum of both learning rates together, from losses of shape (K_E, K_W).

    Both axes are geometric, each after an optional first 0 (that layer frozen). The profile over
    the ratio runs along the grid's diagonals; its limits 0 and infinity are the lowest losses with
    the embedding and with the projection frozen. Where the axes have different factors the losses
    on the diagonals are interpolated to the smaller one (Akima, in the log rate). Other arguments
    as `rate_optimum`. Raises `ValueError` for other grids.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import joint_optimum
    >>> rates = np.geomspace(0.01, 1, 9)
    >>> x, y = np.meshgrid(np.log(rates / 0.1), np.log(rates / 0.1), indexing="ij")
    >>> best = joint_optimum(rates, rates, 1 + 0.1 * (x**2 + y**2), initial_loss=2.0)
    >>> round(best.embedding.value, 3), round(best.ratio.value, 3)
    (0.1, 1.0)
    """
    axes = [np.asarray(a, dtype=np.float64) for a in (embedding_rates, projection_rates)]
    loss = np.asarray(loss, dtype=np.float64)
    logs = [np.log(axis[axis > 0]) for axis in axes]
    check_grid(axes, logs, loss, excess)
    loss = bounded(loss, initial_loss)
    error = np.broadcast_to(np.asarray(error, dtype=np.float64), loss.shape)
    frozen = [int(axis[0] == 0) for axis in axes]

    steepest = LARGEST_BEND * (initial_loss - float(loss.min()))

    def profile(rates: ArrayLike, lines: Sequence[tuple[Floats, Floats, int]]) -> Optimum:
        values, errors = np.transpose([_line_lowest(*line, steepest) for line in lines])
        return rate_optimum(rates, values, initial_loss=initial_loss, error=errors, excess=excess)

    def along_axis(axis: int) -> list[tuple[Floats, Floats, int]]:
        rows, errors = np.moveaxis(loss, axis, 0), np.moveaxis(error, axis, 0)
        return [(row, e, frozen[1 - axis]) for row, e in zip(rows, errors, strict=True)]

    inner = loss[frozen[0] :, frozen[1] :], error[frozen[0] :, frozen[1] :]
    logs, inner = _one_factor(logs, inner)
    offsets = range(len(logs[1]) - 1, -len(logs[0]), -1)  # a diagonal holds pairs of one ratio
    diagonals = [(inner[0].diagonal(k), inner[1].diagonal(k), 0) for k in offsets]
    step = next(float(log[1] - log[0]) for log in logs if len(log) > 1)
    ratios = [math.exp(logs[0][0] - logs[1][0] - step * k) for k in offsets]
    if frozen[0]:
        diagonals.insert(0, (loss[0], error[0], frozen[1]))
        ratios.insert(0, 0.0)
    if frozen[1]:
        diagonals.append((loss[:, 0], error[:, 0], frozen[0]))
        ratios.append(math.inf)
    return JointOptimum(
        profile(axes[0], along_axis(0)),
        profile(axes[1], along_axis(1)),
        profile(ratios, diagonals),
    )


def optima_ratio(embedding: Optimum, projection: Optimum) -> Optimum:
    """Quotient of two layer-wise optima; its interval holds all quotients of near-optimal rates.

    Its status is the worse of the two, its loss NaN (no network was trained at both).

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import optima_ratio, rate_optimum
    >>> rates = np.geomspace(0.01, 1, 9)
    >>> best = [
    ...     rate_optimum(rates, 1 + 0.1 * np.log(rates / at) ** 2, initial_loss=2.0)
    ...     for at in (0.2, 0.1)
    ... ]
    >>> round(optima_ratio(*best).value, 3)
    2.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value, low, high = (
            float(np.divide(*pair))
            for pair in (
                (embedding.value, projection.value),
                (embedding.low, projection.high),
                (embedding.high, projection.low),
            )
        )
    return Optimum(value, low, high, worst(embedding.status, projection.status), math.nan)


def worst(*statuses: Status) -> Status:
    """The status that says least about where an optimum is."""
    return FROM_BEST_TO_WORST[max(map(FROM_BEST_TO_WORST.index, statuses))]


def mean_and_error(losses: Floats) -> tuple[Floats, Floats]:
    """Mean over the first axis, and two standard errors of its excess over the lowest mean.

    Seeds are compared within themselves: what all rates of a seed share is no error.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        mean = losses.mean(axis=0)
        if not np.any(np.isfinite(mean)):
            return mean, np.zeros_like(mean)
        best = np.unravel_index(np.nanargmin(mean), mean.shape)
        excess = losses - losses[(slice(None), *best)].reshape(-1, *[1] * mean.ndim)
        return mean, 2 * excess.std(axis=0, ddof=1) / math.sqrt(len(losses))


def check_grid(axes: Sequence[Floats], logs: Sequence[Floats], loss: Floats, excess: float) -> None:
    """Raises `ValueError` unless rates (logs: of the positive ones), losses and excess fit."""
    with np.errstate(invalid="ignore"):
        steps = [np.diff(log) for log in logs if len(log) > 1]
        even = sum(map(len, steps)) > 1 and all(np.ptp(one) <= 1e-6 * one[0] for one in steps)
    increasing = all(axis[0] >= 0 and np.all(axis[1:] > axis[:-1]) for axis in axes)
    if not even or not increasing:
        raise ValueError("rates must be geometric, with one common factor above 1 on an axis")
    if loss.shape != tuple(map(len, axes)):
        raise ValueError(f"losses have shape {loss.shape}, must be one for each rate")
    if not 0 <= excess < 1:
        raise ValueError(f"excess is {excess}, must be at least 0 and less than 1")


def _one_factor(
    logs: Sequence[Floats], surfaces: tuple[Floats, Floats]
) -> tuple[Sequence[Floats], tuple[Floats, Floats]]:
    """Log rates and surfaces over them, the axis of wider steps interpolated to the narrower.

    Akima's interpolation is exact for parabolas and local, so that a plateau does not ring.
    """
    from scipy.interpolate import Akima1DInterpolator

    if min(map(len, logs)) < 2:
        return logs, surfaces
    steps = [float(log[1] - log[0]) for log in logs]
    if math.isclose(*steps, rel_tol=1e-6):
        return logs, surfaces
    wide = int(np.argmax(steps))
    count = math.floor((logs[wide][-1] - logs[wide][0]) / min(steps) + 1e-6) + 1
    finer = logs[wide][0] + min(steps) * np.arange(count)
    finer = np.minimum(finer, logs[wide][-1])
    loss, error = (Akima1DInterpolator(logs[wide], one, axis=wide)(finer) for one in surfaces)
    return [finer if axis == wide else log for axis, log in enumerate(logs)], (loss, error)


def bounded(loss: Floats, initial_loss: float) -> Floats:
    """Losses that are not finite, or above the initial one, count as equal to that."""
    return np.minimum(np.nan_to_num(loss, nan=np.inf), initial_loss)


def _line_lowest(loss: Floats, error: Floats, frozen: int, steepest: float) -> tuple[float, float]:
    """Lowest loss on an evenly spaced line after `frozen` other points, and the error there."""
    best = int(np.argmin(loss))
    return lowest_between(loss[frozen:], loss[best], steepest), float(error[best])
