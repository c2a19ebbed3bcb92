"""Columns of the mean-field solution at many setups."""

from __future__ import annotations

from collections.abc import Sequence

from dynsim._errors import InputError
from dynsim._setup import Setup
from dynsim.scaling._quantity import AnySetup, Progress, Unavailable, Value
from dynsim.theory.mean_field._quick import begin_prediction, quick_predictions


def check_column(setup: AnySetup, column: str) -> None:
    """Raises `Unavailable` for a setup or a column that the solver does not cover."""
    if not isinstance(setup, Setup):
        raise Unavailable("the mean-field solver covers the linear network")
    if column == "embedding_step_rms" and setup.steps != 2:
        raise Unavailable("the mean-field solver records no later step of the embedding")


def begin(setup: AnySetup, column: str) -> None:
    """Begins to compile what `predicted` takes; raises `Unavailable` or `InputError` as it does."""
    check_column(setup, column)
    if isinstance(setup, Setup):
        begin_prediction(setup)


def predicted(setups: Sequence[AnySetup], column: str, progress: Progress) -> list[Value]:
    """A column of the solutions after T updates, or, for a step, of the T-th.

    Raises `Unavailable` for what the solver does not cover.
    """
    for setup in setups:
        check_column(setup, column)
    covered = [setup for setup in setups if isinstance(setup, Setup)]
    if column == "embedding_step_rms":
        column = "embedding_update_rms"
    try:
        solved = quick_predictions(covered, progress=progress)
    except InputError as error:
        raise Unavailable(f"the mean-field solver does not cover it: {error}") from None
    last = -2 if column.endswith("step_rms") else -1
    return [
        Value(float(one.values[column][last]), float(one.errors[column][last])) for one in solved
    ]
