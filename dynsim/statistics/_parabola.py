"""Every parabola that is fitted to losses, side by side: which one is for what.

- `fitted_parabola`: weighted least squares through all points that are given. The transfer fit uses
  it near each width's optimum, with the weights of the joint fit.
- `parabola_vertex`, `parabola_minimum`: the same through the three points around the lowest loss.
  For smooth losses (theory, many seeds) on a grid that is fine against the valley.
- `lowest_between`: height of the parabola through the lowest of evenly spaced losses and its two
  neighbours, in closed form. It refuses a grid that is too coarse. The profiles of `joint_optimum`
  need the height alone, and often.
- `quadratic_form_minimum`: a quadratic form in several log rates, fitted to all points of low loss.
  For noisy losses several times more exact than three points.

On losses that are quadratic in the log rate all of them agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WEIGHT_SCALE = 0.05
"""Excess loss, as a share of what training removes, at which a point's weight is exp(-1/2)."""


def fitted_parabola(
    place: Floats, loss: Floats, weight: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Vertex, loss there and second derivative of the parabola with the least Σ (weight gap)².

    `place` and `weight` (default: 1) have shape (K,), `loss` (..., K); results (...). The vertex
    of a parabola that opens downwards is its highest point: look at the sign of the curvature.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import fitted_parabola
    >>> place = np.array([-1.0, 0.0, 1.0, 2.0])
    >>> vertex, lowest, curvature = fitted_parabola(place, 3 + (place - 0.5) ** 2)
    >>> float(vertex.round(6)), float(lowest.round(6)), float(curvature.round(6))
    (0.5, 3.0, 2.0)
    """
    weight = np.ones_like(place) if weight is None else weight
    middle = place.mean()
    design = np.vander(place - middle, 3, increasing=True) * weight[:, None]
    solution = (loss * weight) @ np.linalg.pinv(design).T
    height, slope, half_curvature = np.moveaxis(solution, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = -slope / (2 * half_curvature)
    return middle + shift, height + slope * shift / 2, 2 * half_curvature


def fitted_vertex(place: Floats, loss: Floats) -> tuple[float, float]:
    """Place and loss of the minimum of the parabola through all points, NaN if it has none.

    Shapes: `place` and `loss` (K,), at least three points.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import fitted_vertex
    >>> place = np.array([-1.0, 0.0, 1.0])
    >>> vertex, lowest = fitted_vertex(place, 3 + (place - 0.5) ** 2)
    >>> round(vertex, 6), round(lowest, 6)
    (0.5, 3.0)
    """
    vertex, lowest, curvature = fitted_parabola(place, loss)
    return (float(vertex), float(lowest)) if curvature > 0 else (math.nan, math.nan)


def parabola_vertex(place: Floats, loss: Floats) -> tuple[Any, Any]:
    """Minimum of the parabola through the three points around the lowest loss: its place and loss.

    `loss` has shape (..., K) and `place` one that broadcasts with it; results (...). In closed
    form, by divided differences. NaN where the smallest loss lies at the edge of the grid or the
    parabola opens downwards.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import parabola_vertex
    >>> place = np.array([-1.0, 0.0, 1.0])
    >>> vertex, lowest = parabola_vertex(place, 3 + (place - 0.25) ** 2)
    >>> float(vertex), float(lowest)
    (0.25, 3.0)
    """
    place = np.broadcast_to(place, loss.shape)
    best = np.argmin(np.where(np.isnan(loss), np.inf, loss), axis=-1)
    inside = (best > 0) & (best < loss.shape[-1] - 1)
    middle = np.where(inside, best, min(1, loss.shape[-1] - 1))

    def beside(values: Floats, offset: int) -> Any:
        at = np.minimum(middle + offset, loss.shape[-1] - 1)
        return np.take_along_axis(values, at[..., None], axis=-1)[..., 0]

    x0, x1, x2 = (beside(place, offset) for offset in (-1, 0, 1))
    y0, y1, y2 = (beside(loss, offset) for offset in (-1, 0, 1))
    with np.errstate(all="ignore"):
        left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
        bend = (right - left) / (x2 - x0)
        slope = left + bend * (x1 - x0)
        found = inside & (bend > 0) & np.isfinite(y0 + y1 + y2)
        vertex = np.where(found, x1 - slope / (2 * bend), np.nan)[()]
        return vertex, np.where(found, y1 - slope**2 / (4 * bend), np.nan)[()]


def parabola_minimum(rates: Floats, loss: Floats) -> Any:
    """Learning rate of the lowest loss: the place of `parabola_vertex`, of its shape.

    Linear in what is given: exact for rates where the loss is quadratic in the rate, and for log
    rates where it is quadratic in them.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.statistics import parabola_minimum
    >>> rates = np.array([0.1, 0.2, 0.3, 0.4])
    >>> float(parabola_minimum(rates, (rates - 0.22) ** 2).round(6))
    0.22
    """
    return parabola_vertex(rates, loss)[0]


def lowest_between(loss: Floats, lowest: float, steepest: float) -> float:
    """The lowest of evenly spaced losses, between its neighbours by a parabola.

    `lowest`, where the lowest loss lies elsewhere or at an end, or where the second difference is
    more than `steepest`: the grid is too coarse for a parabola, which would reach far below it.
    """
    if not len(loss):
        return float(lowest)
    best = int(np.argmin(loss))
    if loss[best] > lowest or best in (0, len(loss) - 1):
        return float(lowest)
    left, middle, right = loss[best - 1 : best + 2]
    bend = left - 2 * middle + right
    if not 0 < bend < steepest:
        return float(middle)
    return float(middle - (right - left) ** 2 / (8 * bend))


def quadratic_form_minimum(
    axes: Sequence[Floats], loss: Floats, weight_scale: float = WEIGHT_SCALE
) -> Floats:
    """Place of the minimum of the quadratic form nearest to losses (..., K_1, ..., K_D).

    `axes` are the evenly spaced log rates of the D axes; `loss` is relative to the initial one.
    Least squares with weights exp(-(excess/s)²/2), where s is `weight_scale` of what training
    removes or, if that is more, the mean excess of the lowest point's neighbours. Shape (..., D),
    held within the axes. Where the fitted form has no minimum, the place of the lowest loss.
    """
    dimensions = len(axes)
    shape = loss.shape[loss.ndim - dimensions :]
    loss = loss.reshape(*loss.shape[: loss.ndim - dimensions], -1)  # (..., K)
    index = np.stack(np.unravel_index(np.arange(loss.shape[-1]), shape), axis=-1)  # (K, D)
    place = index - (np.array(shape) - 1) / 2  # in steps from the grid's centre
    best = loss.argmin(axis=-1)
    excess, weight = _low_loss_weights(loss, index, best, weight_scale)
    slope, hessian = _weighted_form(place, excess, weight)
    convex = np.linalg.eigvalsh(hessian)[..., 0] > 1e-9 * np.abs(hessian).max(axis=(-2, -1))
    hessian = np.where(convex[..., None, None], hessian, np.eye(dimensions))
    minimum = -np.linalg.solve(hessian, slope[..., None])[..., 0]
    minimum = np.where(convex[..., None], minimum, place[best])
    limit = (np.array(shape) - 1) / 2
    centre = np.array([(axis[0] + axis[-1]) / 2 for axis in axes])
    step = np.array([axis[1] - axis[0] for axis in axes])
    return centre + step * np.clip(minimum, -limit, limit)


def _low_loss_weights(
    loss: Floats, index: NDArray[np.int64], best: NDArray[np.int64], weight_scale: float
) -> tuple[Floats, Floats]:
    """Excess over the lowest loss and weight of every point, each of shape (..., K)."""
    lowest = loss.min(axis=-1, keepdims=True)
    excess = loss - lowest
    near = np.abs(index - index[best][..., None, :]).max(axis=-1) <= 1  # (..., K)
    beside = (excess * near).sum(axis=-1, keepdims=True) / near.sum(axis=-1, keepdims=True)
    scale = np.maximum(-weight_scale * lowest, beside)
    weight = np.exp(-0.5 * (excess / np.where(scale > 0, scale, 1.0)) ** 2)
    return excess, weight


def _weighted_form(place: Floats, excess: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Gradient (..., D) at the origin and Hessian (..., D, D) of the form of least squares."""
    dimensions = place.shape[1]
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
    form: Floats = np.zeros((*bend.shape[:-1], dimensions, dimensions))
    form[..., rows, columns] = bend
    return np.asarray(slope, dtype=np.float64), form + np.swapaxes(form, -1, -2)
