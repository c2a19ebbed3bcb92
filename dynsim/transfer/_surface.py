"""The scaling-law surface L(N, η) near the optimal learning rate, and its least-squares fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynsim.statistics._parabola import fitted_parabola

Floats = NDArray[np.float64]

# Below 0 there is no limit; a little of that is allowed, so that an interval can reach it.
SMALLEST_EXPONENT, LARGEST_EXPONENT = -0.5, 6.0
TRIAL_EXPONENTS = np.concatenate([np.linspace(-0.4, 0, 9), np.geomspace(0.05, 4, 30)])
FURTHER_STARTS = ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5))  # added to alpha and beta
MOST_STEPS = 100
SETTLED = 1e-12  # share of the sum of squares by which a step may still lower it
MOST_DAMPING = 1e12


@dataclass(frozen=True)
class Points:
    """Where a loss surface was measured, arrays of shape (points,).

    `width` numbers the widths from 0; `log_width` is ln N, `log_rate` ln η; `weight` multiplies a
    point's residual.
    """

    width: NDArray[np.int64]
    log_width: Floats
    log_rate: Floats
    weight: Floats

    def at(self, chosen: NDArray[np.bool_]) -> Points:
        """The chosen points, with the widths that are left numbered anew."""
        numbers = np.unique(self.width[chosen], return_inverse=True)[1]
        return Points(numbers, self.log_width[chosen], self.log_rate[chosen], self.weight[chosen])


def joined(parts: Sequence[Points]) -> Points:
    """The points of several widths."""
    none = np.empty(0)
    return Points(
        np.concatenate([np.empty(0, dtype=np.int64), *(one.width for one in parts)]),
        np.concatenate([none, *(one.log_width for one in parts)]),
        np.concatenate([none, *(one.log_rate for one in parts)]),
        np.concatenate([none, *(one.weight for one in parts)]),
    )


@dataclass(frozen=True)
class Surface:
    """L = c + k g(α, ν) + ½ h e^{γν} (ln η - x - s g(β, ν))², with ν = ln(N/N_0).

    g(a, ν) = (e^{-aν} - 1)/a becomes -ν at a = 0, so that the fit stays regular while an exponent
    changes sign. For α > 0 the loss at the optimum is L∞ + A N^-α with A = (k/α) N_0^α, and
    likewise for the optimum.
    """

    alpha: float
    beta: float
    gamma: float
    rate_centre: float
    rate_slope: float
    loss_centre: float
    loss_slope: float
    curvature: float
    log_width_centre: float

    def parameters(self) -> tuple[float, ...]:
        """L∞, A, α, ln η∞, b, β, h, γ, κ; limits are infinite where the exponent is <= 0."""
        loss_limit, amplitude = self._power(self.loss_centre, self.loss_slope, self.alpha)
        log_rate_limit, shift = self._power(self.rate_centre, self.rate_slope, self.beta)
        with np.errstate(over="ignore"):
            height = float(self.curvature * np.exp(-self.gamma * self.log_width_centre))
        robustness = self.alpha - 2 * self.beta + self.gamma
        return (
            *(loss_limit, amplitude, self.alpha),
            *(log_rate_limit, shift, self.beta),
            *(height, self.gamma, robustness),
        )

    def _power(self, centre: float, slope: float, exponent: float) -> tuple[float, float]:
        """Limit and amplitude of limit + amplitude N^-exponent."""
        if slope == 0:
            return centre, 0.0
        if exponent <= 0:
            return float(-np.inf * slope), float(np.inf * slope)
        amplitude = slope / exponent
        return centre - amplitude, float(amplitude * np.exp(exponent * self.log_width_centre))

    def lowest_loss(self, log_width: Floats) -> Floats:
        """L*(N)."""
        nu = log_width - self.log_width_centre
        return self.loss_centre + self.loss_slope * _growth(self.alpha, nu)

    def best_log_rate(self, log_width: Floats) -> Floats:
        """ln η*(N)."""
        nu = log_width - self.log_width_centre
        return self.rate_centre + self.rate_slope * _growth(self.beta, nu)

    def curvature_at(self, log_width: Floats) -> Floats:
        """H(N)."""
        return self.curvature * np.exp(self.gamma * (log_width - self.log_width_centre))

    def loss(self, log_width: Floats, log_rate: Floats) -> Floats:
        """L(N, η)."""
        distance = log_rate - self.best_log_rate(log_width)
        return self.lowest_loss(log_width) + self.curvature_at(log_width) / 2 * distance**2


_FIELDS = attrgetter(*(one.name for one in dataclasses.fields(Surface)))


def side_by_side(surfaces: Sequence[Surface]) -> Surface:
    """Several surfaces as one, whose functions of points (K,) have shape (surfaces, K)."""
    return Surface(*np.array([_FIELDS(one) for one in surfaces]).T[:, :, None])


def _growth(exponent: float | Floats, log_width: Floats) -> Floats:
    """g(a, ν) = (e^{-aν} - 1)/a."""
    from scipy.special import exprel

    return -log_width * exprel(-exponent * log_width)


def _growth_slope(exponent: float | Floats, log_width: Floats) -> Floats:
    """dg/da = ν² φ'(-aν), φ(z) = (e^z - 1)/z."""
    from scipy.special import exprel

    z = -exponent * log_width
    small = np.abs(z) < 1e-4
    safe = np.where(small, 1.0, z)
    return log_width**2 * np.where(small, 1 / 2 + z / 3, (np.exp(safe) - exprel(safe)) / safe)


def parabolas(points: Points, loss: Floats) -> Floats:
    """Weighted parabola through each width's points: rows (ln η*, L*, H).

    `loss` may have leading axes; the result has shape (..., widths, 3).
    """
    found = []
    for width in np.unique(points.width):
        here = points.width == width
        found.append(fitted_parabola(points.log_rate[here], loss[..., here], points.weight[here]))
    if not found:
        return np.empty((*loss.shape[:-1], 0, 3))
    return np.moveaxis(np.array(found), (0, 1), (-2, -1))


def fit_surfaces(points: Points, rows: Floats, *, starts: int = 1) -> list[Surface]:
    """For each row of losses (rows, points) the surface with the least Σ [weight (loss - L)]².

    By variable projection: c, k and h enter linearly and are solved exactly for every trial of the
    five others (Golub and Pereyra, 1973, with Kaufman's Jacobian), which Levenberg and Marquardt's
    method improves, in all rows side by side. The first start is what each width's own parabola
    says, the others change its exponents; of several starts the best counts.
    """
    problem, begin = _Projected(points, np.tile(rows, (starts, 1))), _starts(points, rows, starts)
    trial, cost = _minimised(problem, begin)
    best = np.argmin(cost.reshape(starts, -1), axis=0)
    chosen = best * len(rows) + np.arange(len(rows))
    return problem.surfaces(trial, chosen)


def fit_resampled_surfaces(points: Points, rows: Floats) -> list[Surface]:
    """`fit_surfaces` of data, the first row, from several starts, and of resamples from one.

    All side by side, which takes about the time of the slowest.
    """
    starts = 1 + len(FURTHER_STARTS)
    data, resamples = rows[:1], rows[1:]
    problem = _Projected(points, np.concatenate([np.tile(data, (starts, 1)), resamples]))
    begin = [_starts(points, data, starts)]
    begin += [_starts(points, resamples, 1)] if len(resamples) else []
    trial, cost = _minimised(problem, np.concatenate(begin))
    return problem.surfaces(trial, np.array([np.argmin(cost[:starts]), *range(starts, len(trial))]))


def _starts(points: Points, rows: Floats, starts: int) -> Floats:
    """Trials (starts * rows, 5) to begin with."""
    shifts = np.array([(0.0, 0.0), *FURTHER_STARTS][:starts])
    begin = _Projected(points, np.tile(rows, (starts, 1))).start()
    begin[:, :2] += np.repeat(shifts, len(rows), axis=0)
    return begin


def _trial_exponents(log_width: Floats, value: Floats) -> Floats:
    """The exponent on a grid for which value = c + s g(a, ν) fits best, of every row."""
    trial = _growth(TRIAL_EXPONENTS[:, None], log_width)
    trial = trial - trial.mean(axis=1, keepdims=True)
    trial /= np.linalg.norm(trial, axis=1, keepdims=True)
    return TRIAL_EXPONENTS[np.argmax((value @ trial.T) ** 2, axis=1)]


def _bounded(trial: Floats) -> tuple[Floats, Floats]:
    """Exponents within their bounds, and the derivative, for trial values of any size."""
    middle, half = _middle_and_half()
    scaled = np.tanh((trial - middle) / half)
    return middle + half * scaled, 1 - scaled**2


def _unbounded(exponent: Floats) -> Floats:
    middle, half = _middle_and_half()
    return middle + half * np.arctanh((exponent - middle) / half)


def _middle_and_half() -> tuple[float, float]:
    return (
        (LARGEST_EXPONENT + SMALLEST_EXPONENT) / 2,
        (LARGEST_EXPONENT - SMALLEST_EXPONENT) / 2,
    )


def _line(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and value at x = 0 of the least-squares line of every row."""
    centred = x - x.mean(axis=-1, keepdims=True)
    slope = np.sum(centred * y, axis=-1) / np.sum(centred**2, axis=-1)
    return slope, y.mean(axis=-1) - slope * x.mean(axis=-1)


class _Solved(NamedTuple):
    """At a trial: linear parameters (rows, 3), residuals (rows, points), their Jacobian."""

    linear: Floats
    left: Floats
    jacobian: Floats

    def of(self, rows: NDArray[Any]) -> _Solved:
        return _Solved(*(values[rows] for values in self))


class _Projected:
    """The least-squares problems of all rows with their linear parameters eliminated.

    A trial (rows, 5) is alpha and beta in terms of any size, gamma, x and s.
    """

    def __init__(self, points: Points, loss: Floats):
        self.points, self.loss = points, loss
        self.log_width_centre = points.log_width.mean()
        first = np.unique(points.width, return_index=True)[1]
        self.log_widths = points.log_width[first] - self.log_width_centre  # of each width
        self.target = points.weight * loss

    def start(self) -> Floats:
        """What each width's own parabola says."""
        rate, lowest, curvature = np.moveaxis(parabolas(self.points, self.loss), -1, 0)
        rate = np.clip(rate, self.points.log_rate.min(), self.points.log_rate.max())
        alpha, beta = (_trial_exponents(self.log_widths, value) for value in (lowest, rate))
        most = np.abs(curvature).max(axis=1, keepdims=True)
        least = np.maximum(1e-3 * most, np.finfo(float).tiny)
        gamma, _ = _line(self.log_widths[None, :], np.log(np.maximum(curvature, least)))
        slope, centre = _line(_growth(beta[:, None], self.log_widths[None, :]), rate)
        return np.column_stack([_unbounded(alpha), _unbounded(beta), gamma, centre, slope])

    def solved(self, rows: NDArray[np.int64], trial: Floats) -> _Solved:
        """The linear parameters of these rows at a trial of the others, and how well they do."""
        alpha, beta, gamma, centre, slope = trial.T[:, :, None]
        (alpha, alpha_slope), (beta, beta_slope) = _bounded(alpha), _bounded(beta)
        log_width, weight = self.log_widths[None, :], self.points.weight[None, :, None]
        at_width = (  # the same at all points of a width
            _growth(alpha, log_width),
            _growth(beta, log_width),
            np.exp(np.clip(gamma * log_width, -50, 50)),
            alpha_slope * _growth_slope(alpha, log_width),
            beta_slope * _growth_slope(beta, log_width),
        )
        gain, shift, growth, gain_slope, shift_slope = (
            values[:, self.points.width] for values in at_width
        )
        distance = self.points.log_rate[None, :] - centre - slope * shift
        columns = (np.ones_like(shift), gain, growth * distance**2 / 2)
        basis, triangle = np.linalg.qr(np.stack(columns, axis=-1) * weight)
        along = basis.swapaxes(1, 2)
        target = self.target[rows][:, :, None]
        projected = along @ target
        linear = (np.linalg.pinv(triangle) @ projected)[..., 0]
        k, h = linear[:, 1:2], linear[:, 2:3]
        by_rate = -h * growth * distance
        change = (
            k * gain_slope,
            by_rate * slope * shift_slope,
            h * log_width[:, self.points.width] * growth * distance**2 / 2,
            by_rate,
            by_rate * shift,
        )
        weighted = np.stack(change, axis=-1) * weight
        jacobian = basis @ (along @ weighted) - weighted
        return _Solved(linear, (target - basis @ projected)[..., 0], jacobian)

    def surfaces(self, trial: Floats, rows: NDArray[np.int64]) -> list[Surface]:
        linear = self.solved(rows, trial[rows]).linear
        exponents = _bounded(trial[rows, :2])[0]
        centre = np.full(len(rows), self.log_width_centre)
        table = np.column_stack([exponents, trial[rows, 2:], linear, centre])
        return [Surface(*row) for row in table.tolist()]


def _minimised(problem: _Projected, trial: Floats) -> tuple[Floats, Floats]:
    """Trials (rows, 5) improved until the sum of squares stays, and that sum of every row.

    Levenberg and Marquardt's method; damping as in Nielsen, Damping parameter in Marquardt's
    method, 1999.
    """
    trial, active = trial.copy(), np.arange(len(trial))
    at = problem.solved(active, trial)
    cost = np.sum(at.left**2, axis=1)
    damping, raised = np.full(len(trial), 1e-3), np.full(len(trial), 2.0)
    for _ in range(MOST_STEPS):
        step, promised = _damped_step(at, damping[active])
        moved = trial[active] - step
        there = problem.solved(active, moved)
        found = np.sum(there.left**2, axis=1)
        gain = (cost[active] - found) / np.maximum(promised, np.finfo(float).tiny)
        better = found < cost[active]
        settled = promised <= SETTLED * cost[active]
        factor = np.where(better, np.maximum(1 / 3, 1 - (2 * gain - 1) ** 3), raised[active])
        damping[active] *= factor
        raised[active] = np.where(better, 2.0, 2 * raised[active])
        improved = active[better]
        trial[improved], cost[improved] = moved[better], found[better]
        at = _Solved(*(np.where(_like(better, b), b, a) for a, b in zip(at, there, strict=True)))
        going = ~settled & (damping[active] < MOST_DAMPING)
        active, at = active[going], at.of(going)
        if not len(active):
            break
    return trial, cost


def _like(rows: NDArray[np.bool_], values: Floats) -> NDArray[np.bool_]:
    """`rows` with further axes, as `values` has."""
    return rows.reshape(-1, *[1] * (values.ndim - 1))


def _damped_step(at: _Solved, damping: Floats) -> tuple[Floats, Floats]:
    """The step (rows, 5) to subtract, and by how much the linearised sum of squares falls."""
    jacobian = at.jacobian
    size = np.sqrt(np.sum(jacobian**2, axis=1))
    size = np.where(size > 0, size, 1.0)
    scaled = jacobian / size[:, None, :]
    gradient = (scaled.swapaxes(1, 2) @ at.left[:, :, None])[..., 0]
    normal = scaled.swapaxes(1, 2) @ scaled + damping[:, None, None] * np.eye(size.shape[1])
    step = np.linalg.solve(normal, gradient[..., None])[..., 0]
    promised = np.sum(step * (gradient + damping[:, None] * step), axis=1)
    return step / size, promised
