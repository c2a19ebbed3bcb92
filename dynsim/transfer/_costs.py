"""What the optimum of one width costs at another, and how the optimum moves with the width.

Both are read from the parabolas of the widths alone. So they exist where no joint fit does, and
where the data do not determine how fast a transferred learning rate becomes good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynsim._outcome import OK, Outcome, Status
from dynsim._summary import summary
from dynsim.statistics._intervals import Estimate, Resampled, interval_text

from ._scatter import Scattered

Floats = NDArray[np.float64]

BEND_WIDTHS = 3  # the fewest that can bend


@dataclass(frozen=True, repr=False)
class TransferCost:
    """Loss lost at width `used` by the learning rate that is best at width `tuned`.

    **Fields:**

    - `cost`: H(N)/2 (ln η*(n) - ln η*(N))², n the width of tuning, N that of use.
    - `read`: the loss at η*(n) less that at η*(N), both read from the curve of width N by the
      parabola through its three nearest points; NaN where N was not run so far, or diverged.
    - `lowest`: L*(N).
    """

    tuned: float
    used: float
    cost: Estimate
    read: float
    lowest: float

    def __repr__(self) -> str:
        return summary(
            f"Cost at width {self.used:g} of the optimum of width {self.tuned:g}",
            cost=interval_text(self.cost),
            read_from_the_curve=self.read,
            lowest_loss=self.lowest,
        )


@dataclass(frozen=True, repr=False)
class OptimumTrend:
    """How the optimal learning rate moves with the width.

    **Fields:**

    - `slope`: p of ln η* = const + p ln N by least squares over the widths.
    - `bend`: the second derivative of ln η* in ln N by least squares, which is the change of that
      power over a factor e in width.
    - `outcome`: ok where the interval of the bend holds 0; `misfit` where it does not, so that no
      single power describes the widths; else why there is no bend or no interval.
    """

    slope: Estimate
    bend: Estimate
    outcome: Outcome

    def __repr__(self) -> str:
        return summary(
            "Trend of the optimum",
            slope=interval_text(self.slope),
            bend=interval_text(self.bend),
            status=str(self.outcome),
        )


def transfer_costs(
    widths: Sequence[float],
    curves: Resampled | Scattered,
    measured: Sequence[tuple[Floats, Floats]],
) -> tuple[TransferCost, ...]:
    """The cost of every pair of widths, narrower ones of tuning first.

    `curves` are ln η*, L* and H of the widths, shape (widths, 3); `measured` their learning rates
    and losses.
    """
    costs = curves.map(_quadratic_costs)
    low, high = _interval(costs)
    left, right = _interval(curves.map(_shifts))
    low = np.where((left <= 0) & (right >= 0), 0.0, np.maximum(low, 0))  # noise moves it as well
    table = np.stack([costs.value, low, high], axis=-1)
    found = []
    for n, tuned in enumerate(widths):
        for m, used in enumerate(widths):
            if n != m:
                log_rates, losses = np.log(measured[m][0]), measured[m][1]
                there, own = (_loss_at(curves.value[k, 0], log_rates, losses) for k in (n, m))
                cost, lowest = Estimate(*table[n, m].tolist()), float(curves.value[m, 1])
                found.append(TransferCost(tuned, used, cost, there - own, lowest))
    return tuple(found)


def _quadratic_costs(curves: Floats) -> Floats:
    """Shape (..., tuned, used) from (..., widths, 3)."""
    return curves[..., None, :, 2] / 2 * _shifts(curves) ** 2


def _shifts(curves: Floats) -> Floats:
    """ln η*(tuned) - ln η*(used), shape (..., tuned, used)."""
    place = curves[..., 0]
    return place[..., :, None] - place[..., None, :]


def _loss_at(place: float, log_rates: Floats, losses: Floats) -> float:
    """The loss at a place within the points, by the parabola through the three nearest."""
    if len(log_rates) < 3 or not log_rates[0] <= place <= log_rates[-1]:
        return float("nan")
    first = int(np.clip(np.argmin(np.abs(log_rates - place)) - 1, 0, len(log_rates) - 3))
    near = slice(first, first + 3)
    offsets = log_rates[near] - place
    return float(np.linalg.solve(np.vander(offsets, 3, increasing=True), losses[near])[0])


def optimum_trend(widths: Sequence[float], curves: Resampled | Scattered) -> OptimumTrend:
    """Power and bend of the widths' optima; `curves` as for `transfer_costs`."""
    nothing = Estimate(np.nan, np.nan, np.nan)
    if len(widths) < 2:
        reason = "needs two widths with a bracketed optimum"
        return OptimumTrend(nothing, nothing, Outcome(Status.UNDETERMINED, reason))
    log_width = np.log(np.asarray(widths, dtype=np.float64))
    log_width = log_width - log_width.mean()
    slope = _estimate(curves.map(_coefficient(log_width, 1)))
    if len(widths) < BEND_WIDTHS:
        reason = f"a bend needs {BEND_WIDTHS} widths with a bracketed optimum, there are 2"
        return OptimumTrend(slope, nothing, Outcome(Status.UNDETERMINED, reason))
    bend = _estimate(curves.map(_coefficient(log_width, 2)))
    if np.isnan(bend.low):
        return OptimumTrend(slope, bend, Outcome(Status.NO_INTERVAL, "a width has one seed only"))
    straight = bend.low <= 0 <= bend.high
    reason = "the power changes with the width by more than its noise"
    return OptimumTrend(slope, bend, OK if straight else Outcome(Status.MISFIT, reason))


def _coefficient(log_width: Floats, power: int) -> Callable[[Floats], Floats]:
    """The derivative of that order of the polynomial of least squares through the optima."""
    design = np.vander(log_width, power + 1, increasing=True)
    row = np.linalg.pinv(design)[power] * (1 if power == 1 else 2)
    return lambda curves: curves[..., 0] @ row


def _estimate(statistic: Resampled | Scattered) -> Estimate:
    low, high = _interval(statistic)
    return Estimate(float(statistic.value), float(low), float(high))


def _interval(statistic: Resampled | Scattered) -> Floats:
    if statistic.alone:
        return np.full((2, *np.shape(statistic.value)), np.nan)
    return statistic.interval()
