"""What a mean-field prediction returns, and how it says that something went wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dynsim._losses import DIVERGENCE_FACTOR, diverged
from dynsim._network_setup import NetworkSetup
from dynsim._outcome import OK, Outcome, Status
from dynsim._results import Declared, Result
from dynsim._setup import Setup
from dynsim._summary import summary

MAX_DEFECT = 1e-4  # of the conditioning; single precision has 1e-6
RATES = "`embedding_lr` or `projection_lr`"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction(Result):
    """What mean-field theory predicts, at every step before its update.

    With L learning-rate pairs and T steps:

    **Fields:**

    - `setup`; `embedding_lrs`, `projection_lrs`: shape (L,).
    - `loss`: sum_i p_i l(f_i, y_i), shape (L, T), the mean of the replicas.
    - `finite_width_correction`: the part of `loss` that is of order 1/width, shape (L, T); the
      infinite-width limit is `loss` without it.
    - `projection_update_rms`, `embedding_update_rms`, `projection_step_rms`: shape (L, T), defined
      as in `Training`; roots of the mean square over replicas.
    - `hidden_update_rms`: shape (L, T, depth), sqrt(sum_i p_i mean_a [(A_l(t) - A_l(0))
      h_{l-1,i}(t)]_a^2) of every hidden layer, and `hidden_lrs`, shape (L, depth); None where no
      layer is hidden.
    - `loss_error` and the like: the numerical error of each, shape (L, T): the replicas' standard
      error and, in quadrature, the bias that half as many particles show beyond chance (two
      standard errors). What is of order 1/width^2 is not part of it.
    - `particles`, `neurons`, `replicas`: how it was computed.
    - `accuracy`: the error of the loss that was allowed, over the initial one; None where particles
      or replicas were given. `accuracy_reached`: what it is, at the worst step of the rates that do
      not diverge.
    - `output_sample`: so many outputs stood for all, in `replicas` networks with `particles` tokens
      and `neurons` neurons, and half of them in as many; `rotated_outputs`: the outputs were
      rotated until only so many had targets. None where it was not so.
    - `outcome`: an `Outcome` for each of the L pairs: ok, diverged or inaccurate, with what to do.

    Source: docs/theory/mean_field.md#mean-field-equations; docs/theory/model.md#quantities.
    """

    arrays: ClassVar[Declared] = {
        "loss": "rates step",
        "loss_error": "rates step",
        "finite_width_correction": "rates step",
        "projection_update_rms": "rates step",
        "projection_update_rms_error": "rates step",
        "embedding_update_rms": "rates step",
        "embedding_update_rms_error": "rates step",
        "projection_step_rms": "rates step",
        "projection_step_rms_error": "rates step",
        "hidden_update_rms": "rates step layer",
        "hidden_update_rms_error": "rates step layer",
        "diverged": "rates",
        "status": ("rates", lambda result: [str(one) for one in result.outcome]),
        "embedding_lr": ("rates", "embedding_lrs"),
        "projection_lr": ("rates", "projection_lrs"),
        "hidden_lr": ("rates layer", "hidden_lrs"),
    }

    setup: Setup | NetworkSetup
    embedding_lrs: Floats
    projection_lrs: Floats
    loss: Floats
    loss_error: Floats
    finite_width_correction: Floats
    projection_update_rms: Floats
    projection_update_rms_error: Floats
    embedding_update_rms: Floats
    embedding_update_rms_error: Floats
    projection_step_rms: Floats
    projection_step_rms_error: Floats
    particles: int
    neurons: int
    replicas: int
    outcome: tuple[Outcome, ...]
    accuracy: float | None = None
    hidden_lrs: Floats | None = None
    hidden_update_rms: Floats | None = None
    hidden_update_rms_error: Floats | None = None
    output_sample: int | None = None
    rotated_outputs: int | None = None

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Shape (L,): the loss became non-finite or 1e6 times its start (and at least 1)."""
        return diverged(self.loss)

    @property
    def accuracy_reached(self) -> float:
        """Largest error of the loss over the initial one, infinite where it is not known."""
        share = self.loss_error / np.maximum(self.loss[:, :1], 1e-300)
        known = share[~self.diverged]
        return float(np.max(np.where(np.isfinite(known), known, np.inf), initial=0.0))

    def __repr__(self) -> str:
        return summary(
            "Mean-field prediction",
            setup=self.setup,
            embedding_lrs=self.embedding_lrs,
            projection_lrs=self.projection_lrs,
            method=method_of(self),
            accuracy=f"{100 * self.accuracy_reached:.2g} % of the initial loss",
            loss=self.loss,
            loss_error=self.loss_error,
            finite_width_correction=self.finite_width_correction,
            projection_update_rms=self.projection_update_rms,
            embedding_update_rms=self.embedding_update_rms,
            projection_step_rms=self.projection_step_rms,
            **_of_hidden_layers(self),
            outcome=np.asarray([str(one) for one in self.outcome]),
        )


def method_of(result: Prediction) -> str:
    """How it was computed, in words."""
    if result.output_sample is not None:
        return (
            f"{result.replicas} networks with {result.output_sample} outputs, {result.neurons} "
            f"neurons and {result.particles} tokens, and as many of half their sizes"
        )
    by = (
        f"{result.particles} token particles, {result.neurons} neuron particles and "
        f"{result.replicas} replicas"
    )
    if result.rotated_outputs is not None:
        return f"{by}, outputs rotated so that {result.rotated_outputs} have targets"
    return by


def rms_and_error(square: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Root of a mean square, 0 where chance made it negative, and its error."""
    rms = np.sqrt(np.where(square < 0, 0, square))
    return rms, error / np.maximum(2 * rms, np.sqrt(np.maximum(error, 1e-300)))


def _of_hidden_layers(result: Prediction) -> dict[str, Floats]:
    """What a network with hidden layers has besides, and the linear model has not."""
    values = {"hidden_lrs": result.hidden_lrs, "hidden_update_rms": result.hidden_update_rms}
    return {name: value for name, value in values.items() if value is not None}


LEAST_WIDTH = 8  # below it terms of order 1/width^2 exceed the stated errors


def outcome(
    loss: Floats,
    spread: Floats,
    bias: Floats,
    defect: float,
    accuracy: float,
    width: float = math.inf,
) -> Outcome:
    """How the solution at one pair of rates ended, and what to do about it.

    `loss`, its standard error `spread` and its `bias` have shape (T,); `defect` is that of the
    conditioning, and `accuracy` the error that is allowed over the initial loss. `width` is
    infinite where the limit itself is asked for.
    """
    if diverged(loss):
        limit = DIVERGENCE_FACTOR * max(loss[0], 1)
        step = int(np.argmin(np.isfinite(loss) & (loss <= limit)))
        return Outcome(Status.DIVERGED, f"at step {step}; lower {RATES}")
    if not defect <= MAX_DEFECT:
        return Outcome(
            Status.INACCURATE,
            f"the conditioning lost accuracy (defect {defect:.1g}, must be below {MAX_DEFECT:g}); "
            f"raise `particles` or lower {RATES}",
        )
    noise, drift = (float(np.max(error)) / max(float(loss[0]), 1e-300) for error in (spread, bias))
    if not math.isfinite(noise):
        return Outcome(
            Status.INACCURATE,
            f"the finite-width correction diverged and is left out; lower {RATES}",
        )
    if math.hypot(noise, drift) > accuracy:
        remedy = "replicas" if noise > drift else "particles"
        worst = 100 * math.hypot(noise, drift)
        return Outcome(
            Status.INACCURATE,
            f"numerical error up to {worst:.2g} % of the initial loss; raise `{remedy}`",
        )
    if width < LEAST_WIDTH:
        return Outcome(
            Status.INACCURATE,
            f"`width` is below {LEAST_WIDTH}: errors leave out what is of order 1/width^2, "
            "which is percents of the initial loss there",
        )
    return OK
