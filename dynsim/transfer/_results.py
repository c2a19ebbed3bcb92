"""What a transfer fit returns: its parameters, every width's curve, and how each of them ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._outcome import OK, Outcome, Status
from dynsim._results import Declared, Result
from dynsim._summary import summary
from dynsim.statistics._intervals import Estimate, Resampled, interval_text

from ._costs import OptimumTrend, TransferCost, optimum_trend, transfer_costs
from ._scatter import Scattered
from ._surface import Surface

Floats = NDArray[np.float64]

TRANSFER_PARAMETERS = (
    *("loss_limit", "loss_amplitude", "loss_exponent"),
    *("rate_limit", "rate_amplitude", "rate_exponent"),
    *("curvature_amplitude", "curvature_exponent", "robustness"),
)


@dataclass(frozen=True, repr=False)
class TransferParameter(Estimate):
    """A fitted value, its 95 % interval, and whether the data determine it.

    `outcome` holds a status and the reason. `no interval`: the value stands without one (NaN).
    `misfit`: E is far above the seeds' noise, the only error that intervals count. `undetermined`:
    value and interval are only what the fit ended at.
    """

    outcome: Outcome = OK

    @property
    def status(self) -> Status:
        return self.outcome.status

    def __str__(self) -> str:
        return f"{interval_text(self)}, {self.outcome}"

    def __repr__(self) -> str:
        return summary("TransferParameter", value=interval_text(self), status=str(self.outcome))


@dataclass(frozen=True, eq=False, repr=False)
class WidthCurve(Result):
    """One width by itself, and the parabola through its points near the optimum.

    **Fields:**

    - `width`: N.
    - `learning_rates`, `losses`: η and the mean loss over seeds, shape (rates,), of the learning
      rates at which no seed diverged.
    - `near`: which of them lie within the factor of the lowest loss, in one stretch around it.
    - `learning_rate`, `loss`, `curvature`: η*, L* and H (NaN without a parabola).
    - `outcome`: ok where the width takes part in the joint fit; else why it does not, as `edge`
      (the lowest loss is at the end of the learning rates) or `undetermined`.
    """

    arrays: ClassVar[Declared] = {
        "loss": ("learning_rate", "losses"),
        "near": "learning_rate",
        "learning_rate": ("learning_rate", "learning_rates"),
        "optimal_rate": ("", lambda curve: curve.learning_rate.value),
        "optimal_loss": ("", lambda curve: curve.loss.value),
        "curvature": ("", lambda curve: curve.curvature.value),
    }

    width: float
    learning_rates: Floats
    losses: Floats
    near: NDArray[np.bool_]
    learning_rate: Estimate
    loss: Estimate
    curvature: Estimate
    outcome: Outcome

    @property
    def status(self) -> Status:
        return self.outcome.status

    def __str__(self) -> str:
        found = f"width {self.width:g}: optimum {self.learning_rate.value:.4g}"
        return f"{found}, loss {self.loss.value:.6g}, {self.outcome}"

    def __repr__(self) -> str:
        return summary(
            f"WidthCurve of width {self.width:g}",
            learning_rates=self.learning_rates,
            losses=self.losses,
            near_the_optimum=f"{int(self.near.sum())} of {len(self.near)} points",
            learning_rate=interval_text(self.learning_rate),
            loss=interval_text(self.loss),
            curvature=interval_text(self.curvature),
            status=str(self.outcome),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Result):
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
    - `intervals`: what they come from: `seeds`, `scatter` (of the points about the fit, with one
      seed), or `none`.
    - `surface`: the joint fit, None with fewer than three widths.
    - `resampled`: L∞, A, α, ln η∞, b, β, h, γ, κ of the data and of resamples of their seeds.
    - `resampled_curves`, `resampled_error`: the same of ln η*, L*, H of each width that takes part,
      and of E, which resampling makes larger: a seed that counts twice is noisier.
    """

    arrays: ClassVar[Declared] = {
        "value": ("parameter", lambda fit: _of_parameters(fit, "value")),
        "value_low": ("parameter", lambda fit: _of_parameters(fit, "low")),
        "value_high": ("parameter", lambda fit: _of_parameters(fit, "high")),
        "status": ("parameter", lambda fit: _of_parameters(fit, "outcome")),
        "parameter": ("parameter", lambda _: list(TRANSFER_PARAMETERS)),
        "optimal_rate": ("width", lambda fit: _of_curves(fit, "learning_rate", "value")),
        "optimal_rate_low": ("width", lambda fit: _of_curves(fit, "learning_rate", "low")),
        "optimal_rate_high": ("width", lambda fit: _of_curves(fit, "learning_rate", "high")),
        "optimal_loss": ("width", lambda fit: _of_curves(fit, "loss", "value")),
        "curvature": ("width", lambda fit: _of_curves(fit, "curvature", "value")),
        "width": ("width", lambda fit: [one.width for one in fit.curves]),
        "loss": ("point", lambda fit: np.concatenate([one.losses for one in fit.curves])),
        "learning_rate": ("point", lambda fit: _points(fit)[1]),
        "point_width": ("point", lambda fit: _points(fit)[0]),
        "near": ("point", lambda fit: np.concatenate([one.near for one in fit.curves])),
        "fitted_loss": ("point", lambda fit: fit.predict(*_points(fit))),
    }

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
    intervals: str
    surface: Surface | None = field(repr=False)
    resampled: Resampled | Scattered = field(repr=False)
    resampled_curves: Resampled | Scattered = field(repr=False)
    resampled_error: Resampled | Scattered = field(repr=False)

    def __repr__(self) -> str:
        return summary(
            "Transfer",
            widths=", ".join(f"{one.width:g}" for one in self.curves if one.outcome.ok) or "none",
            left_out="; ".join(str(one) for one in self.curves if not one.outcome.ok) or None,
            diverged=f"{self.diverged} runs",
            intervals=f"from {self.intervals}",
            **{name: str(getattr(self, name)) for name in TRANSFER_PARAMETERS},
            error=f"{self.error:.3g}, its noise {self.noise_error:.3g}",
            held_out=f"{self.held_out_error:.3g}, its noise {self.held_out_noise:.3g}",
        )

    @property
    def costs(self) -> tuple[TransferCost, ...]:
        """What the optimum of each width costs at each other; also where κ is undetermined."""
        used = [one for one in self.curves if one.outcome.ok]
        measured = [(one.learning_rates, one.losses) for one in used]
        return transfer_costs([one.width for one in used], self.resampled_curves, measured)

    @property
    def trend(self) -> OptimumTrend:
        """The power of the width with which the optimum moves, and whether it bends."""
        used = [one.width for one in self.curves if one.outcome.ok]
        return optimum_trend(used, self.resampled_curves)

    def predict(self, width: ArrayLike, learning_rate: ArrayLike) -> Floats:
        """L(N, η) of the joint fit (NaN without one); the arguments broadcast."""
        width, rate = np.broadcast_arrays(width, learning_rate)
        if self.surface is None:
            return np.full(width.shape, np.nan)
        return self.surface.loss(np.log(width), np.log(rate))


def _of_parameters(fit: Transfer, part: str) -> list[Any]:
    """A part of each fitted parameter: its value, an end of its interval, or its outcome."""
    found = [getattr(getattr(fit, name), part) for name in TRANSFER_PARAMETERS]
    return [str(one) for one in found] if part == "outcome" else found


def _of_curves(fit: Transfer, estimate: str, part: str) -> list[float]:
    """A part of an estimate of each width by itself."""
    return [getattr(getattr(one, estimate), part) for one in fit.curves]


def _points(fit: Transfer) -> tuple[Floats, Floats]:
    """Width and learning rate of every point of every width, one after another."""
    widths = [np.full(len(one.losses), one.width) for one in fit.curves]
    return np.concatenate(widths), np.concatenate([one.learning_rates for one in fit.curves])
