"""What training a linearised network returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from dynsim._outcome import OK, Outcome
from dynsim._results import Declared, Result
from dynsim._summary import summary

from ._functions import Floats


@dataclass(frozen=True, eq=False)
class LinearizedTraining(Result):
    """What training a linearised network gives at the T times asked for.

    **Fields:**

    - `times`: shape (T,); time of a flow, number of steps taken otherwise.
    - `outputs`: on the training points, shape (T, N) or (T, N, n); `test_outputs`: on the test
      points, or None.
    - `loss`: sum_i p_i l(f_i, y_i), shape (T,).
    - `params`: the parameters at the last time, a pytree like the one given. To go on from
      there, predict `linearize(f, params_0)` from these parameters.
    - `method`: `dense` (kernel matrix), `matrix-free` (kernel products) or `steps` (parameters).
    - `outcome`: ok, diverged, inaccurate or stopped, with what to change;
      times not reached are NaN.

    Source: docs/theory/linearized.md#linearised-model.
    """

    arrays: ClassVar[Declared] = {
        "loss": "time",
        "outputs": "time point output",
        "test_outputs": "time test_point output",
        "time": ("time", "times"),
    }

    times: Floats
    outputs: Floats
    test_outputs: Floats | None
    loss: Floats
    params: Any
    method: str
    outcome: Outcome = OK

    def __repr__(self) -> str:
        parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        return summary(
            "Training of a linearised network",
            method=self.method,
            parameters=parameters,
            times=self.times,
            outputs=self.outputs,
            test_outputs=self.test_outputs,
            loss=self.loss,
            outcome=self.outcome,
        )
