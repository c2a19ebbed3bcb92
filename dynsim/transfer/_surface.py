"""The scaling-law surface L(N, η) near the optimal learning rate, and its least-squares fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynsim.statistics._parabola import fitted_parabola

Floats = NDArray[np.float64]

# Below 0 there is no limit; a little of that is allowed, so that an interval can reach it.
SMALLEST_EXPONENT, LARGEST_EXPONENT = -0.5, 6.0
TRIAL_EXPONENTS = np.concatenate([np.linspace(-0.4, 0, 9), np.geomspace(0.05, 4, 30)])
FURTHER_STARTS = ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5))  # added to alpha and beta


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


def _growth(exponent: float | Floats, log_width: Floats) -> Floats:
    """g(a, ν) = (e^{-aν} - 1)/a."""
    from scipy.special import exprel

    return -log_width * exprel(-exponent * log_width)


def _growth_slope(exponent: float, log_width: Floats) -> Floats:
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


def fit_surface(points: Points, loss: Floats, *, starts: int = 1) -> Surface:
    """The surface with the least Σ [weight (loss - L)]², by variable projection.

    c, k and h enter linearly and are solved exactly for every trial of the five others (Golub and
    Pereyra, 1973, with Kaufman's Jacobian), which Levenberg-Marquardt (MINPACK) improves. The
    first start is what each width's own parabola says, the others change its exponents.
    """
    from scipy.optimize import least_squares

    problem = _Projected(points, loss)
    first = problem.start(loss)
    others = [first + np.array([alpha, beta, 0, 0, 0]) for alpha, beta in FURTHER_STARTS]
    solutions = [
        least_squares(
            problem.residual,
            start,
            problem.jacobian,  # type: ignore[arg-type]
            method="lm",
            xtol=1e-10,
            ftol=1e-10,
            gtol=1e-12,
            max_nfev=100,
        )
        for start in [first, *others][:starts]
    ]
    return problem.surface(min(solutions, key=lambda solution: solution.cost).x)


def _trial_exponent(log_width: Floats, value: Floats) -> float:
    """The exponent on a grid for which value = c + s g(a, ν) fits best."""
    trial = _growth(TRIAL_EXPONENTS[:, None], log_width)
    trial = trial - trial.mean(axis=1, keepdims=True)
    trial /= np.linalg.norm(trial, axis=1, keepdims=True)
    return float(TRIAL_EXPONENTS[np.argmax((trial @ value) ** 2)])


def _bounded(trial: float) -> tuple[float, float]:
    """An exponent within its bounds, and its derivative, for a trial value of any size."""
    middle, half = _middle_and_half()
    scaled = np.tanh((trial - middle) / half)
    return middle + half * scaled, 1 - scaled**2


def _unbounded(exponent: float) -> float:
    middle, half = _middle_and_half()
    return middle + half * np.arctanh((exponent - middle) / half)


def _middle_and_half() -> tuple[float, float]:
    return (
        (LARGEST_EXPONENT + SMALLEST_EXPONENT) / 2,
        (LARGEST_EXPONENT - SMALLEST_EXPONENT) / 2,
    )


class _Projected:
    """The least-squares problem with its linear parameters eliminated."""

    def __init__(self, points: Points, loss: Floats):
        self.points = points
        self.log_width_centre = points.log_width.mean()
        self.log_width = points.log_width - self.log_width_centre
        self.weight = points.weight[:, None]
        self.target = points.weight * loss
        self.solved: bytes = b""

    def start(self, loss: Floats) -> Floats:
        """What each width's own parabola says."""
        rate, lowest, curvature = parabolas(self.points, loss).T
        log_width = self.log_width[np.unique(self.points.width, return_index=True)[1]]
        rate = np.clip(rate, self.points.log_rate.min(), self.points.log_rate.max())
        alpha, beta = (_trial_exponent(log_width, value) for value in (lowest, rate))
        least = max(1e-3 * np.abs(curvature).max(), np.finfo(float).tiny)
        gamma = np.polyfit(log_width, np.log(np.maximum(curvature, least)), 1)[0]
        slope, centre = np.polyfit(_growth(beta, log_width), rate, 1)
        return np.array([_unbounded(alpha), _unbounded(beta), gamma, centre, slope])

    def residual(self, trial: Floats) -> Floats:
        self._solve(trial)
        return self.left

    def jacobian(self, trial: Floats) -> Floats:
        self._solve(trial)
        (alpha, alpha_slope), (beta, beta_slope) = map(_bounded, trial[:2])
        log_width, slope = self.log_width, trial[4]
        _, k, h = self.linear
        by_rate = -h * self.growth * self.distance
        change = [
            k * alpha_slope * _growth_slope(alpha, log_width),
            by_rate * slope * beta_slope * _growth_slope(beta, log_width),
            h * log_width * self.growth * self.distance**2 / 2,
            by_rate,
            by_rate * self.shift,
        ]
        change = np.column_stack(change) * self.weight
        return self.basis @ (self.basis.T @ change) - change

    def surface(self, trial: Floats) -> Surface:
        self._solve(trial)
        alpha, beta = _bounded(trial[0])[0], _bounded(trial[1])[0]
        return Surface(*map(float, (alpha, beta, *trial[2:], *self.linear, self.log_width_centre)))

    def _solve(self, trial: Floats) -> None:
        """The linear parameters at a trial of the others; kept for the Jacobian at the same."""
        if self.solved == trial.tobytes():
            return
        log_width = self.log_width
        alpha, beta = _bounded(trial[0])[0], _bounded(trial[1])[0]
        self.shift = _growth(beta, log_width)
        self.distance = self.points.log_rate - trial[3] - trial[4] * self.shift
        self.growth = np.exp(np.clip(trial[2] * log_width, -50, 50))
        columns = [
            np.ones_like(log_width),
            _growth(alpha, log_width),
            self.growth * self.distance**2 / 2,
        ]
        self.basis, triangle = np.linalg.qr(np.column_stack(columns) * self.weight)
        projected = self.basis.T @ self.target
        self.linear = np.linalg.lstsq(triangle, projected, rcond=None)[0]
        self.left = self.target - self.basis @ projected
        self.solved = trial.tobytes()
