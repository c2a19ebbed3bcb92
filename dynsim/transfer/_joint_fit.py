"""Parabolas of every width, the joint fit of all, and what of it the data determine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dynsim._outcome import OK, Outcome, Status
from dynsim.statistics._intervals import Estimate, Resampled, SeedResamples

from ._results import TRANSFER_PARAMETERS, TransferParameter
from ._runs import WidthRuns, mean_losses
from ._scatter import Noise, Scattered, ScatterResamples, noise_of, on_parabolas
from ._surface import (
    LARGEST_EXPONENT,
    Points,
    Surface,
    fit_resampled_surfaces,
    joined,
    parabolas,
    side_by_side,
)

ONE_SEED = Outcome(Status.NO_INTERVAL, "a width has one seed only")
NO_LEVELS = Outcome(
    Status.NO_INTERVAL,
    "with one seed, less than five widths do not tell how far L* scatters about its power law",
)
NO_SCATTER = Outcome(Status.NO_INTERVAL, "one seed, and the fit goes through every point")
CURVATURE_WIDTHS, JOINT_WIDTHS, HELD_OUT_WIDTHS = 2, 3, 4  # the fewest that each needs
MISFIT = 2.5  # E over its noise from which on the model counts as wrong
LEAST_FREEDOM = 2  # of the widths' levels, from which on intervals were right in the trial
TOLERANCE = 1e-9  # relative rounding of a difference between widths
# A fitted eta_inf is not believed further than this factor outside the learning rates tried.
FARTHEST_FACTOR = 10.0

LOSS_LIMIT = TRANSFER_PARAMETERS.index("loss_limit")
LOG_RATE = TRANSFER_PARAMETERS.index("rate_limit")  # its logarithm is what is fitted
OF_LEVELS = [
    TRANSFER_PARAMETERS.index(name)
    for name in ("loss_limit", "loss_amplitude", "loss_exponent", "robustness")
]

Floats = NDArray[np.float64]


class JointFit:
    """Parabolas and joint fit of the widths that can be used, with resamples of their seeds."""

    def __init__(
        self,
        used: Sequence[WidthRuns],
        resamples: int,
        tried: tuple[float, float],
        by_scatter: bool = False,
    ):
        """`tried`: the smallest and the largest ln η of all runs; `by_scatter`: where a width has
        one seed, intervals from the scatter of the points about the fit."""
        self.tried, self.tried_scatter = tried, by_scatter
        self.widths = [one.width for one in used]
        self.points = joined([one.points(number) for number, one in enumerate(used)])
        self.resamples: SeedResamples | ScatterResamples
        units = {one.sample: len(one.resampled_units) for one in used}
        self.resamples = SeedResamples(units, resamples)
        self.rows = rows = curve_rows = mean_losses(used, self.resamples)
        self.loss = rows[0]
        self.noise: Noise | None = None
        if by_scatter and used and self.resamples.alone:
            curves, surface = parabolas(self.points, rows)[0], None
            if len(used) >= JOINT_WIDTHS:
                surface = fit_resampled_surfaces(self.points, rows)[0]
            noise = noise_of(self.points, self.loss, curves, surface)
            if noise.own_freedom:
                self.noise = noise
                self.resamples = ScatterResamples(self.points, self.loss, noise, resamples)
                curve_rows = self.resamples.rows(on_parabolas(self.points, curves))
                fitted = surface and surface.loss(self.points.log_width, self.points.log_rate)
                self.rows = rows = curve_rows if fitted is None else self.resamples.rows(fitted)
        self.parabolas = parabolas(self.points, curve_rows)
        self.curves = self.resamples.of(self.parabolas)
        self.surfaces: list[Surface] = []
        parameters = np.full((len(rows), 9), np.nan)
        if len(used) >= JOINT_WIDTHS:
            self.surfaces = fit_resampled_surfaces(self.points, rows)
            parameters = np.array([surface.parameters() for surface in self.surfaces])
        elif len(used) == CURVATURE_WIDTHS:
            parameters[:, 6:8] = _curvature_law(self.widths, self.parabolas)
        self.values = self.resamples.of(parameters)

    @cached_property
    def errors(self) -> tuple[float, float]:
        """E, and what seed noise alone brings it to: the spread of the residuals over resamples."""
        if not self.residuals:
            return np.nan, np.nan
        rms, noise = self._rms_and_noise(self.residuals)
        return rms, np.nan if self.noise else noise  # scatter about the fit is the error itself

    @cached_property
    def residuals(self) -> list[Floats]:
        """Relative residuals of every row, none without a joint fit."""
        if not self.surfaces:
            return []
        return _relative_residuals(self.surfaces, self.points, self.rows)

    @cached_property
    def resampled_error(self) -> Resampled | Scattered:
        rows = len(self.rows)
        errors = [np.sqrt(np.mean(one**2)) for one in self.residuals]
        return self.resamples.of(errors or np.full(rows, np.nan))

    @cached_property
    def held_out_errors(self) -> tuple[float, float]:
        """The same of the largest width under the fit of the others."""
        if len(self.widths) < HELD_OUT_WIDTHS:
            return np.nan, np.nan
        last = self.points.width == len(self.widths) - 1
        others, held_out = self.points.at(~last), self.points.at(last)
        if self.noise is not None:
            surface = fit_resampled_surfaces(others, self.loss[None, ~last])[0]
            (residual,) = _relative_residuals([surface], held_out, self.loss[None, last])
            return float(np.sqrt(np.mean(residual**2))), np.nan
        assert isinstance(self.resamples, SeedResamples)
        rows = self.resamples.without_draws(self.rows)
        surfaces = fit_resampled_surfaces(others, rows[:, ~last])
        return self._rms_and_noise(_relative_residuals(surfaces, held_out, rows[:, last]))

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
        sure = self._outcome_of_fit()
        blind = self.noise is not None and self.noise.common_freedom < LEAST_FREEDOM
        table = np.stack([self.values.value, low, high], axis=-1)
        with np.errstate(over="ignore"):
            table[LOG_RATE] = np.exp(table[LOG_RATE])
        outcomes = [Outcome(Status.UNDETERMINED, why) if why else sure for why in reasons]
        for place in OF_LEVELS if blind else ():
            table[place, 1:] = np.nan
            if outcomes[place].ok:
                outcomes[place] = NO_LEVELS
        return {
            name: TransferParameter(value, low, high, outcome)
            for name, (value, low, high), outcome in zip(
                TRANSFER_PARAMETERS, table.tolist(), outcomes, strict=True
            )
        }

    def _outcome_of_fit(self) -> Outcome:
        """How everything that the data determine ended."""
        if self.noise is not None:
            return OK
        if self.resamples.alone:
            return NO_SCATTER if self.tried_scatter else ONE_SEED
        named = {"E": self.errors, "the held-out E": self.held_out_errors}
        for name, (error, noise) in named.items():
            if error > max(MISFIT * noise, TOLERANCE):
                reason = f"{name} is {error:.2g}, its noise {noise:.2g}; intervals count noise"
                return Outcome(Status.MISFIT, reason)
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
        lowest = side_by_side(self.surfaces).lowest_loss(ends)
        fall = self.resamples.of(lowest[:, 0] - lowest[:, 1])
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
        best = side_by_side(self.surfaces).best_log_rate(ends)
        shift = self.resamples.of(best[:, 1] - best[:, 0])
        least, most = shift.interval()
        if least <= TOLERANCE and most >= -TOLERANCE:
            return (
                "the optimum does not move: b is 0 within its noise, and so is the penalty of a "
                "transferred learning rate"
            )
        limit = self.values.value[LOG_RATE]
        smallest, largest = self.tried
        if limit < smallest - np.log(FARTHEST_FACTOR) or limit > largest + np.log(FARTHEST_FACTOR):
            with np.errstate(over="ignore"):
                rate = np.exp(limit)
            return (
                f"eta_inf = {rate:.2g} is far from the learning rates tried; if the optimum moves "
                "as a power of the width, divide the rule out (base learning rates)"
            )
        return _open_ended("beta", low[5], high[5])


def _relative_residuals(surfaces: Sequence[Surface], points: Points, rows: Floats) -> list[Floats]:
    """Of every row of losses, shape (rows, points), from the surface of that row."""
    fitted = side_by_side(surfaces).loss(points.log_width, points.log_rate)
    return list((rows - fitted) / rows)


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
