"""What a transfer fit returns: its parameters, every width's curve, and how each of them ended."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._outcome import OK, Outcome, Status
from dynsim._summary import summary
from dynsim.statistics._intervals import Estimate, Resampled, interval_text

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
class WidthCurve:
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

    def __repr__(self) -> str:
        return summary(
            "Transfer",
            widths=", ".join(f"{one.width:g}" for one in self.curves if one.outcome.ok) or "none",
            left_out="; ".join(str(one) for one in self.curves if not one.outcome.ok) or None,
            diverged=f"{self.diverged} runs",
            **{name: str(getattr(self, name)) for name in TRANSFER_PARAMETERS},
            error=f"{self.error:.3g}, its noise {self.noise_error:.3g}",
            held_out=f"{self.held_out_error:.3g}, its noise {self.held_out_noise:.3g}",
        )

    def predict(self, width: ArrayLike, learning_rate: ArrayLike) -> Floats:
        """L(N, η) of the joint fit (NaN without one); the arguments broadcast."""
        width, rate = np.broadcast_arrays(width, learning_rate)
        if self.surface is None:
            return np.full(width.shape, np.nan)
        return self.surface.loss(np.log(width), np.log(rate))
