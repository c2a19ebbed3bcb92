"""Quantities from the mean-field solver, quickly: few particles, one compiled shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dynsim._errors import InputError
from dynsim._setup import Setup
from dynsim.scaling._quantity import AnySetup, Progress, Unavailable, Value
from dynsim.theory.mean_field._predict import predict
from dynsim.theory.mean_field._result import Prediction

PARTICLES = 512


def predictions(setups: Sequence[AnySetup], progress: Progress) -> list[Prediction]:
    """The solution of each setup. Raises `Unavailable` for what the solver does not cover."""
    found = []
    for setup in setups:
        if not isinstance(setup, Setup):
            raise Unavailable("the mean-field solver covers the linear network")
        try:
            found.append(
                predict(
                    setup,
                    particles=enough_particles(setup),
                    quick_compilation=True,
                    progress=lambda part: progress(part / len(setups)),
                )
            )
        except InputError as error:
            raise Unavailable(f"the mean-field solver does not cover it: {error}") from None
    return found


def enough_particles(setup: Setup) -> int:
    """Particles with which an exponent is good to a few thousandths, in a tenth of a second."""
    return max(PARTICLES, 2 ** math.ceil(math.log2(4 * setup.output_count * setup.steps)))


def predicted(setups: Sequence[AnySetup], column: str, progress: Progress) -> list[Value]:
    """A column of the solutions after T updates (or, of a step, at the T-th)."""
    if column == "embedding_step_rms":
        if any(setup.steps != 2 for setup in setups):
            raise Unavailable("the mean-field solver records no later step of the embedding")
        column = "embedding_update_rms"
    values = []
    for setup, one in zip(setups, predictions(setups, progress), strict=True):
        index = setup.steps - 2 if column.endswith("step_rms") else setup.steps - 1
        value, error = (
            float(np.asarray(getattr(one, name))[0, index]) for name in (column, f"{column}_error")
        )
        values.append(Value(value, error))
    return values
