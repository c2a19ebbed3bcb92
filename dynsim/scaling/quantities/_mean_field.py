"""Columns of the mean-field solution at many setups."""

from __future__ import annotations

from collections.abc import Sequence

from dynsim._errors import InputError
from dynsim._setup import Setup
from dynsim.scaling._quantity import AnySetup, Progress, Unavailable, Value
from dynsim.theory.mean_field._quick import quick_predictions


def predicted(setups: Sequence[AnySetup], column: str, progress: Progress) -> list[Value]:
    """A column of the solutions after T updates, or, for a step, of the T-th.

    Raises `Unavailable` for what the solver does not cover.
    """
    covered = [setup for setup in setups if isinstance(setup, Setup)]
    if len(covered) < len(setups):
        raise Unavailable("the mean-field solver covers the linear network")
    if column == "embedding_step_rms":
        if any(setup.steps != 2 for setup in covered):
            raise Unavailable("the mean-field solver records no later step of the embedding")
        column = "embedding_update_rms"
    try:
        solved = quick_predictions(covered, progress=progress)
    except InputError as error:
        raise Unavailable(f"the mean-field solver does not cover it: {error}") from None
    last = -2 if column.endswith("step_rms") else -1
    return [
        Value(float(one.values[column][last]), float(one.errors[column][last])) for one in solved
    ]
