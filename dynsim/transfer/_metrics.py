"""How well a learning rate transfers across width, from the losses of a sweep.

Near the optimum of each width N the loss at a base learning rate η (the parametrization's own rule
divided out) is taken as

    L(N, η) = L*(N) + ½ H(N) (ln η - ln η*(N))²,
    L*(N) = L∞ + A N^-α,   ln η*(N) = ln η∞ + b N^-β,   H(N) = h N^γ,

and three metrics are read off (Kalra and Barkeshli, arXiv:2605.21486): the error E of this fit; the
exponent κ = α - 2β + γ with which the penalty ½ H (ln η* - ln η∞)² of the limit's learning rate
grows over the loss gap A N^-α (κ < 0: transfer is robust); and R∞, the loss that a parametrization
gives away at infinite width against the best. The source's formula of E is not public; ours is the
root mean square of (L - fit)/L, which is also what the fit minimises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError
from dynsim.statistics._exponents import Estimate

from ._fit import FURTHER_STARTS, LARGEST_EXPONENT, Points, Surface, fit_surface, joined, parabolas
from ._runs import OK, Resampled, SeedResamples, WidthRuns, runs_by_width

FACTOR = 1.35
RESAMPLES = 500
UNDETERMINED = "undetermined"
ONE_SEED = "no interval: a width has one seed only"
CURVATURE_WIDTHS, JOINT_WIDTHS, HELD_OUT_WIDTHS = 2, 3, 4
MISFIT = 2.5  # E over its noise from which on the model counts as wrong
TOLERANCE = 1e-9  # relative rounding of a difference between widths
FAR = 10.0  # factor outside the learning rates tried from which on a limit is no optimum of theirs

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TransferParameter(Estimate):
    """A fitted value, its 95 % interval, and whether the data determine it.

    `status` is "ok"; or "no interval: ...", where the value stands without one (NaN); or
    "misfit: ...", where E is far above the seeds' noise, the only error that intervals count; or
    "undetermined: ..." with the reason, where value and interval are only what the fit ended at.
    """

    status: str = OK


@dataclass(frozen=True, eq=False)
class WidthCurve:
    """One width by itself, and the parabola through its points near the optimum.

    **Fields:**

    - `width`: N.
    - `learning_rates`, `losses`: η and the mean loss over seeds, shape (rates,), of the learning
      rates at which no seed diverged.
    - `near`: which of them lie within the factor of the lowest loss, in one stretch around it.
    - `learning_rate`, `loss`, `curvature`: η*, L* and H (NaN without a parabola).
    - `status`: "ok" where the width takes part in the joint fit, else why it does not.
    """

    width: float
    learning_rates: Floats
    losses: Floats
    near: NDArray[np.bool_]
    learning_rate: Estimate
    loss: Estimate
    curvature: Estimate
    status: str


@dataclass(frozen=True, eq=False)
class Transfer:
    """The joint fit of a sweep and its transfer metrics.

    **Fields:**

    - `loss_limit`, `loss_amplitude`, `loss_exponent`: L∞, A and α.
    - `rate_limit`, `rate_amplitude`, `rate_exponent`: η∞, b (of either sign) and β.
    - `curvature_amplitude`, `curvature_exponent`: h and γ.
    - `robustness`: κ = α - 2β + γ.
    - `error`: E, the root mean square over points of (L - fit)/L.
    - `noise_error`: what the noise of the seeds alone brings E to.
    - `held_out_error`, `held_out_noise`: the same of the largest width, predicted from all others.
    - `curves`: every width by itself, narrowest first.
    - `diverged`: runs whose loss is not finite.
    - `surface`: the joint fit, None with fewer than three widths.
    - `resampled`: L∞, A, α, ln η∞, b, β, h, γ, κ of the data and of resamples of their seeds.
    - `resampled_curves`, `resampled_error`: the same of ln η*, L*, H of each width that takes part,
      and of E, which resampling makes larger: a seed that counts twice is noisier.
    """

    loss_limit: TransferParameter
    loss_amplitude: TransferParameter
    loss_exponent: TransferParameter
    rate_limit: TransferParameter
    rate_amplitude: TransferParameter
    rate_exponent: TransferParameter
    curvature_amplitude: TransferParameter
    curvature_exponent: TransferParameter
    robustness: TransferParameter
    error: float
    noise_error: float
    held_out_error: float
    held_out_noise: float
    curves: tuple[WidthCurve, ...]
    diverged: int
    surface: Surface | None = field(repr=False)
    resampled: Resampled = field(repr=False)
    resampled_curves: Resampled = field(repr=False)
    resampled_error: Resampled = field(repr=False)

    def predict(self, width: ArrayLike, learning_rate: ArrayLike) -> Floats:
        """L(N, η) of the joint fit (NaN without one); the arguments broadcast."""
        width, rate = np.broadcast_arrays(width, learning_rate)
        if self.surface is None:
            return np.full(width.shape, np.nan)
        return self.surface.loss(np.log(width), np.log(rate))


def fit_transfer(
    widths: ArrayLike,
    learning_rates: ArrayLike,
    seeds: ArrayLike,
    losses: ArrayLike,
    *,
    factor: float = FACTOR,
    resamples: int = RESAMPLES,
) -> Transfer:
    """Transfer metrics of a sweep; the four arrays of shape (runs,) hold one run per entry.

    Points with a mean loss within `factor` of the width's lowest take part, weighted by the root of
    their number of seeds over their loss. Intervals: bootstrap over seeds within each width, a
    seed's whole curve together, drawn out for few seeds (`Resampled.interval`). A loss that is not
    finite is a diverged run and takes its learning rate out. A width takes part if three such
    points bracket its optimum; L∞, A, α, η∞, b, β and κ need three such widths, h and γ two, the
    held-out error four.

    Raises `InputError` for a width, learning rate or loss that is not positive, a run that occurs
    twice, or a factor of at most 1.
    """
    if not factor > 1:
        raise InputError("factor", factor, "must be greater than 1")
    runs, diverged = runs_by_width(widths, learning_rates, seeds, losses, factor)
    used = [one for one in runs if one.status == OK]
    tried = np.log(np.asarray(learning_rates, dtype=np.float64))
    fit = _Fit(used, resamples, (tried.min(), tried.max()))
    optima = iter(fit.optima())
    return Transfer(
        **fit.parameters(),
        error=fit.errors[0],
        noise_error=fit.errors[1],
        held_out_error=fit.held_out_errors[0],
        held_out_noise=fit.held_out_errors[1],
        curves=tuple(
            _curve(one, next(optima) if one.status == OK else (UNKNOWN, UNKNOWN, UNKNOWN))
            for one in runs
        ),
        diverged=diverged,
        surface=fit.surfaces[0] if fit.surfaces else None,
        resampled=fit.values,
        resampled_curves=fit.curves,
        resampled_error=fit.resampled_error,
    )


def _curve(runs: WidthRuns, optimum: tuple[Estimate, Estimate, Estimate]) -> WidthCurve:
    return WidthCurve(runs.width, runs.learning_rates, runs.means, runs.near, *optimum, runs.status)


TRANSFER_PARAMETERS = (
    *("loss_limit", "loss_amplitude", "loss_exponent"),
    *("rate_limit", "rate_amplitude", "rate_exponent"),
    *("curvature_amplitude", "curvature_exponent", "robustness"),
)
LOSS_LIMIT = TRANSFER_PARAMETERS.index("loss_limit")
LOG_RATE = TRANSFER_PARAMETERS.index("rate_limit")  # its logarithm is what is fitted
UNKNOWN = Estimate(np.nan, np.nan, np.nan)


class _Fit:
    """Parabolas and joint fit of the widths that can be used, with resamples of their seeds."""

    def __init__(self, used: Sequence[WidthRuns], resamples: int, tried: tuple[float, float]):
        """`tried`: the smallest and the largest ln η of all runs."""
        self.tried = tried
        self.widths = [one.width for one in used]
        self.points = joined([one.points(number) for number, one in enumerate(used)])
        self.resamples = SeedResamples(used, resamples)
        rows = self.resamples.rows
        self.loss = rows[0]
        self.parabolas = parabolas(self.points, rows)
        self.curves = self.resamples.of(self.parabolas)
        self.surfaces: list[Surface] = []
        parameters = np.full((len(rows), 9), np.nan)
        if len(used) >= JOINT_WIDTHS:
            self.surfaces = _fit_rows(self.points, rows)
            parameters = np.array([surface.parameters() for surface in self.surfaces])
        elif len(used) == CURVATURE_WIDTHS:
            parameters[:, 6:8] = _curvature_law(self.widths, self.parabolas)
        self.values = self.resamples.of(parameters)

    @cached_property
    def errors(self) -> tuple[float, float]:
        """E, and what seed noise alone brings it to: the spread of the residuals over resamples."""
        return self._rms_and_noise(self.residuals) if self.residuals else (np.nan, np.nan)

    @cached_property
    def residuals(self) -> list[Floats]:
        """Relative residuals of every row, none without a joint fit."""
        if not self.surfaces:
            return []
        return [
            _relative_residual(surface, self.points, loss)
            for surface, loss in zip(self.surfaces, self.resamples.rows, strict=True)
        ]

    @cached_property
    def resampled_error(self) -> Resampled:
        rows = len(self.resamples.rows)
        errors = [np.sqrt(np.mean(one**2)) for one in self.residuals]
        return self.resamples.of(errors or np.full(rows, np.nan))

    @cached_property
    def held_out_errors(self) -> tuple[float, float]:
        """The same of the largest width under the fit of the others."""
        if len(self.widths) < HELD_OUT_WIDTHS:
            return np.nan, np.nan
        last = self.points.width == len(self.widths) - 1
        others, held_out = self.points.at(~last), self.points.at(last)
        rows = self.resamples.left_out
        surfaces = _fit_rows(others, rows[:, ~last])
        return self._rms_and_noise(
            [
                _relative_residual(surface, held_out, loss)
                for surface, loss in zip(surfaces, rows[:, last], strict=True)
            ]
        )

    def _rms_and_noise(self, residuals: list[Floats]) -> tuple[float, float]:
        resampled = self.resamples.of(residuals)
        noise = np.nan if self.resamples.alone else np.sqrt(resampled.variances.sum(axis=0).mean())
        return float(np.sqrt(np.mean(resampled.value**2))), float(noise)

    def optima(self) -> list[tuple[Estimate, Estimate, Estimate]]:
        """η*, L* and H of each width."""
        low, high = self.curves.interval()
        if self.resamples.alone:
            low, high = np.full((2, *low.shape), np.nan)
        table = np.stack([self.curves.value, low, high], axis=-1)
        with np.errstate(over="ignore"):
            table[:, 0] = np.exp(table[:, 0])
        rates, losses, curvatures = (
            [Estimate(value, low, high) for value, low, high in column.tolist()]
            for column in np.moveaxis(table, 1, 0)
        )
        return list(zip(rates, losses, curvatures, strict=True))

    def parameters(self) -> dict[str, TransferParameter]:
        """Every parameter by name, with interval and status."""
        low, high = self.values.interval()
        loss = self._undetermined_loss(low, high)
        limit = loss or self._undetermined_limit(low)
        rate = self._undetermined_rate(low, high)
        curvature = _too_few("h and gamma", CURVATURE_WIDTHS, self.widths)
        named = {"alpha": loss, "beta": rate, "gamma": curvature}
        robustness = "; ".join(f"{name}: {reason}" for name, reason in named.items() if reason)
        reasons = [limit] + [loss] * 2 + [rate] * 3 + [curvature] * 2 + [robustness]
        if self.resamples.alone:
            low = high = np.full(9, np.nan)
        sure = self._status_of_fit()
        table = np.stack([self.values.value, low, high], axis=-1)
        with np.errstate(over="ignore"):
            table[LOG_RATE] = np.exp(table[LOG_RATE])
        statuses = [f"{UNDETERMINED}: {reason}" if reason else sure for reason in reasons]
        return {
            name: TransferParameter(value, low, high, status)
            for name, (value, low, high), status in zip(
                TRANSFER_PARAMETERS, table.tolist(), statuses, strict=True
            )
        }

    def _status_of_fit(self) -> str:
        if self.resamples.alone:
            return ONE_SEED
        named = {"E": self.errors, "the held-out E": self.held_out_errors}
        for name, (error, noise) in named.items():
            if error > max(MISFIT * noise, TOLERANCE):
                return (
                    f"misfit: {name} is {error:.2g}, its noise {noise:.2g}; intervals count noise"
                )
        return OK

    def _undetermined_loss(self, low: Floats, high: Floats) -> str:
        """Why α, A and with them L∞ are not determined, "" where they are."""
        if not self.surfaces:
            return _too_few("L_inf, A and alpha", JOINT_WIDTHS, self.widths)
        rounding = TOLERANCE * self.loss.mean()
        steps = self.resamples.of(np.diff(self.parabolas[..., 1], axis=1))
        rises = steps.interval()[0] > rounding
        if np.any(rises):
            at = int(np.argmax(rises))
            return f"L* rises from width {self.widths[at]:g} to {self.widths[at + 1]:g}"
        ends = np.log([self.widths[0], self.widths[-1]])
        fall = self.resamples.of([-np.diff(one.lowest_loss(ends))[0] for one in self.surfaces])
        if fall.interval()[0] <= rounding:
            return "L* does not fall by more than its noise"
        return _open_ended("alpha", low[2], high[2])

    def _undetermined_limit(self, low: Floats) -> str:
        """Why L∞ is not determined where α is, "" where it is."""
        limit = self.values.value[LOSS_LIMIT]
        if min(limit, low[LOSS_LIMIT]) > TOLERANCE * self.loss.mean():
            return ""
        return "the limit is not above 0"

    def _undetermined_rate(self, low: Floats, high: Floats) -> str:
        """Why β, η∞ and b are not determined, "" where they are."""
        if not self.surfaces:
            return _too_few("eta_inf, b and beta", JOINT_WIDTHS, self.widths)
        steps = self.resamples.of(np.diff(self.parabolas[..., 0], axis=1))
        least, most = steps.interval()
        if np.any(least > TOLERANCE) and np.any(most < -TOLERANCE):
            return "the optimum moves back and forth"
        ends = np.log([self.widths[0], self.widths[-1]])
        shift = self.resamples.of([np.diff(one.best_log_rate(ends))[0] for one in self.surfaces])
        least, most = shift.interval()
        if least <= TOLERANCE and most >= -TOLERANCE:
            return (
                "the optimum does not move: b is 0 within its noise, and so is the penalty of a "
                "transferred learning rate"
            )
        limit = self.values.value[LOG_RATE]
        smallest, largest = self.tried
        if limit < smallest - np.log(FAR) or limit > largest + np.log(FAR):
            with np.errstate(over="ignore"):
                rate = np.exp(limit)
            return (
                f"eta_inf = {rate:.2g} is far from the learning rates tried; if the optimum moves "
                "as a power of the width, divide the rule out (base learning rates)"
            )
        return _open_ended("beta", low[5], high[5])


def _fit_rows(points: Points, rows: Floats) -> list[Surface]:
    """The surface of the data, from several starts, and of every resample."""
    first, *others = rows
    return [
        fit_surface(points, first, starts=1 + len(FURTHER_STARTS)),
        *(fit_surface(points, row) for row in others),
    ]


def _relative_residual(surface: Surface, points: Points, loss: Floats) -> Floats:
    return (loss - surface.loss(points.log_width, points.log_rate)) / loss


def _curvature_law(widths: Sequence[float], shapes: Floats) -> Floats:
    """h and γ through the curvatures of two widths, shape (..., 2)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(shapes[..., 2])
        gamma = (logs[..., 1] - logs[..., 0]) / np.log(widths[1] / widths[0])
        return np.stack([np.exp(logs[..., 0] - gamma * np.log(widths[0])), gamma], axis=-1)


def _too_few(names: str, needed: int, widths: Sequence[float]) -> str:
    if len(widths) >= needed:
        return ""
    there = "there is 1" if len(widths) == 1 else f"there are {len(widths)}"
    return f"{names} need {needed} widths with a bracketed optimum, {there}"


def _open_ended(name: str, low: float, high: float) -> str:
    """Why an exponent with this interval says nothing about a limit, "" if it does."""
    if low <= 0:
        return f"the interval of {name} reaches 0: there may be no limit"
    if high > LARGEST_EXPONENT / 2:
        return f"the interval of {name} has no upper end: the limit is reached too soon to say how"
    return ""


def asymptotic_penalties(fits: Sequence[Transfer]) -> tuple[int | None, list[TransferParameter]]:
    """R∞ = L∞ - L∞(reference) of each fit.

    The reference has the lowest L∞ of the fits whose L∞ has the status "ok", or, without any, of
    those where it is determined. Its own R∞ is 0 with the status of its L∞; that of any other fit
    is "ok" only if both L∞ are.

    Returns the reference's index (None where no L∞ is determined) and one R∞ per fit. Intervals
    are paired: at a width where both fits have the same seeds by label, the same resample of seeds
    goes into both, and what a seed does to both alike (initial weights, order of batches) cancels.
    This holds as well where the seeds have nothing but their labels in common. Other widths count
    as independent. That the reference was chosen as the lowest is not in the intervals.

    Raises `InputError` for fits of different numbers of resamples.
    """
    known = [k for k, one in enumerate(fits) if not one.loss_limit.status.startswith(UNDETERMINED)]
    if not known:
        status = f"{UNDETERMINED}: no L_inf is determined"
        return None, [TransferParameter(np.nan, np.nan, np.nan, status)] * len(fits)
    sure = [k for k in known if fits[k].loss_limit.status == OK]
    reference = min(sure or known, key=lambda k: fits[k].loss_limit.value)
    return reference, [_penalty(one, fits[reference]) for one in fits]


def _penalty(fit: Transfer, reference: Transfer) -> TransferParameter:
    if fit is reference:
        end = np.nan if fit.resampled.alone else 0.0
        return TransferParameter(0.0, end, end, fit.loss_limit.status)
    if fit.loss_limit.status.startswith(UNDETERMINED):
        return TransferParameter(np.nan, np.nan, np.nan, fit.loss_limit.status)
    statuses = [one.loss_limit.status for one in (fit, reference)]
    status = next((one for one in statuses if one != OK), OK)
    value, low, high = _difference(fit.resampled, reference.resampled)[0]
    return TransferParameter(value, low, high, status)


def loss_penalties(fit: Transfer, reference: Transfer) -> dict[float, Estimate]:
    """L*(N) - L*(N) of the reference, by width, with intervals as in `asymptotic_penalties`.

    Holds the widths at which both fits have a bracketed optimum. A single seed at any of a fit's
    widths leaves no intervals (NaN).

    Raises `InputError` for fits of different numbers of resamples.
    """
    widths = [[one.width for one in each.curves if one.status == OK] for each in (fit, reference)]
    common = sorted(set(widths[0]) & set(widths[1]))
    losses = [
        each.resampled_curves.at([own.index(one) for one in common], 1)
        for each, own in zip((fit, reference), widths, strict=True)
    ]
    differences = _difference(*losses)
    return {width: Estimate(*numbers) for width, numbers in zip(common, differences, strict=True)}


def _difference(one: Resampled, other: Resampled) -> list[list[float]]:
    """Value, low and high of each difference."""
    if one.alone or other.alone:
        value = one.value - other.value
        low = high = np.full(value.shape, np.nan)
    else:
        if len(one.draws) != len(other.draws):
            counts = (len(one.draws), len(other.draws))
            raise InputError("resamples", counts, "must be as many in fits that are compared")
        difference = one - other
        value = difference.value
        low, high = difference.interval()
    return np.stack([value, low, high], axis=-1).tolist()
