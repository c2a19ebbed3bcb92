"""What a gradient flow returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dynsim._network_setup import NetworkSetup
from dynsim._outcome import Outcome
from dynsim._results import Declared, Result
from dynsim._setup import Setup
from dynsim._summary import summary

from ._starts import FlowLimit

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Flow(Result):
    """A flow's curves at T times, in units of training steps.

    **Fields:**

    - `setup`, `limit`, `linearised` (about the start); `times`: shape (T,).
    - `loss`: sum_i p_i l(f_i, y_i), shape (T,).
    - `loss_error`: its change with two thirds of the quadrature nodes, or half of the neuron
      particles, shape (T,); zero where the effective tokens are exact, NaN where not asked for.
    - `projection_update_rms`, `embedding_update_rms`: shape (T,), defined as in `Training`.
    - `hidden_update_rms`: shape (T, depth), sqrt(sum_i p_i mean_a [(A_l(t) - A_l(0))
      h_{l-1,i}(t)]_a^2) of every hidden layer; None where no layer is hidden.
    - `effective_tokens`, `state_size`: what was integrated.
    - `solver_steps`, `rejected_steps`: of the solver.
    - `fastest_rate`: (of the projection's, of the embedding's, of each hidden layer's learning)
      per unit time: upper bounds at the last state reached.
    - `reached`: the last time reached; curves are NaN beyond it.
    - `outcome`: ok, or what stopped the solver and what to change.

    Source: docs/theory/gradient_flow.md#flow-equations.
    """

    arrays: ClassVar[Declared] = {
        "loss": "time",
        "loss_error": "time",
        "projection_update_rms": "time",
        "embedding_update_rms": "time",
        "hidden_update_rms": "time layer",
        "time": ("time", "times"),
    }

    setup: Setup | NetworkSetup
    limit: FlowLimit
    times: Floats
    loss: Floats
    loss_error: Floats
    projection_update_rms: Floats
    embedding_update_rms: Floats
    effective_tokens: int
    state_size: int
    solver_steps: int
    rejected_steps: int
    fastest_rate: tuple[float, ...]
    reached: float
    outcome: Outcome
    hidden_update_rms: Floats | None = None
    linearised: bool = False

    def __repr__(self) -> str:
        hidden: dict[str, Any] = {}
        if self.hidden_update_rms is not None:
            hidden["hidden_update_rms"] = self.hidden_update_rms
        return summary(
            "Flow of the network linearised about its start" if self.linearised else "Flow",
            setup=self.setup,
            limit=self.limit,
            method=f"{self.effective_tokens} effective tokens, state of {self.state_size} numbers, "
            f"{self.solver_steps} solver steps",
            times=self.times,
            loss=self.loss,
            loss_error=self.loss_error,
            projection_update_rms=self.projection_update_rms,
            embedding_update_rms=self.embedding_update_rms,
            **hidden,
            outcome=self.outcome,
        )
