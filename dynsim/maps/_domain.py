"""Where the formulas of a map hold: cells outside are marked with the reason.

The formulas of updates are of residuals of equal size that the initial output does not change.
What a setup's own targets and its initial output change is estimated at every cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._setup import Setup
from dynsim.scaling.quantities._aged import KEPT, LEAST_MOVE, MANY_OUTPUTS, STILL
from dynsim.scaling.quantities._first_step import LARGEST_OUTPUT_VARIANCE, LARGEST_SHARE
from dynsim.theory._first_step import first_step_at

from ._axes import Floats
from ._laws import PowerLaws
from ._plane import Missing, Plane, Points
from ._reasons import (
    FEW_OUTPUTS,
    INITIAL_OUTPUT,
    LARGEST_ERROR,
    RANDOM_RESIDUAL,
    RESIDUALS_TURN,
    UNEQUAL_RESIDUALS,
)


def uniform_cells(points: Points) -> NDArray[np.bool_]:
    """At which points all tokens are equally frequent."""
    if not isinstance(points.law, PowerLaws):
        return np.zeros(points.shape, dtype=bool)
    return np.broadcast_to(np.asarray(points.law.exponent) == 0, points.shape)


def mark_first_update(
    plane: Plane,
    points: Points,
    missing: Missing,
    kernel: derivations.Optimizer,
    *,
    slope: bool,
) -> None:
    """Marks cells at which the first update's RMS is off by more than `LARGEST_ERROR`, or with
    `slope` the local exponent."""
    setup = plane.example(missing)
    if not _of_known_sizes(setup):
        missing.mark(
            np.ones(points.shape, bool) if kernel == "sgd" else ~uniform_cells(points),
            "the formula is of residuals of equal size: `targets` sign, or gaussian without "
            "`target_rank`, and `loss` mse",
        )
        return
    one_token = points.law.largest_share(points.vocab_size) ** 2 > (
        LARGEST_SHARE * points.law.power_sum(2, points.vocab_size)
    )
    missing.mark(
        (kernel != "sgd")
        & one_token
        & (points.width * initial_std(setup, points) ** 2 >= LARGEST_OUTPUT_VARIANCE),
        RANDOM_RESIDUAL,
    )
    batches = points.mini_batch
    unequal_residuals = derivations.unequal_residuals_error(
        kernel, _targets(setup), setup.init, mini_batch=batches, of_slope=slope
    )
    initial_output = derivations.initial_output_error(kernel, setup.init, mini_batch=batches)
    with np.errstate(all="ignore"):
        unequal = _error(unequal_residuals, points)
        initial = _error(initial_output, points)
    missing.mark(unequal > LARGEST_ERROR, UNEQUAL_RESIDUALS)
    missing.mark(np.abs(initial) > LARGEST_ERROR, INITIAL_OUTPUT)


def mark_later_updates(plane: Plane, points: Points, missing: Missing) -> None:
    """Marks cells at which residuals or projection do not keep their start until update T."""
    setup, aged = plane.example(missing), points.age > 0
    several = points.outputs > 1
    isotropic = setup.targets == "gaussian" and not setup.target_rank
    missing.mark(
        aged & several & ((points.outputs < MANY_OUTPUTS) | (not isotropic)),
        FEW_OUTPUTS,
    )
    missing.mark(
        aged & ~several & (setup.targets != "sign"),
        "later updates of one output are drawn for `targets` sign",
    )
    missing.mark(aged & (setup.loss_name != "mse"), "later updates are derived for `loss` mse")
    moved = np.where(points.projection_lr > STILL, points.projection_lr, 0.0)
    std = initial_std(setup, points)
    missing.mark(
        aged & (moved * np.maximum(points.updates - 2, 0) > LEAST_MOVE * std),
        "later updates are derived while the projection keeps its initial entries, and "
        "`projection_lr` moves them",
    )
    size = np.sqrt(1 + points.width * std**2)
    numbers, batches = points.numbers, points.mini_batch
    with np.errstate(all="ignore"):
        _, own, _ = first_step_at(numbers, "projection", "sign", mini_batch=batches)
        change = moved * np.maximum(points.updates - 1, 0) * np.asarray(own)
        turned = derivations.residual_change(setup.init)
        shrunk = evaluate(turned, {s.width: points.width, s.displacement: points.age})
    missing.mark(
        aged & (change > KEPT * size),
        "later updates are derived while the residuals keep their initial size, and "
        "`projection_lr` changes it",
    )
    missing.mark(aged & (shrunk > 1), RESIDUALS_TURN)


def _of_known_sizes(setup: Setup) -> bool:
    known = setup.targets == "sign" or (setup.targets == "gaussian" and not setup.target_rank)
    return known and setup.loss_name == "mse"


def _targets(setup: Setup) -> derivations.ErrorTargets:
    return "sign" if setup.targets == "sign" else "gaussian"


def initial_std(setup: Setup, points: Points) -> Floats:
    """sigma_W at every point."""
    return 1 / points.width if setup.init == "mup" else points.width**-0.5


def _error(formula: Any, points: Points) -> Floats:
    """An estimated error at every point."""
    values: dict[Any, Floats] = {
        symbol: points.law.power_sum(order, points.vocab_size)
        for order, symbol in s.POWER_SUMS.items()
        if order > 1
    }
    values |= {s.width: points.width, s.outputs: points.outputs}
    if points.mini_batch:
        values[s.batch_size] = points.batch_size
    return np.asarray(evaluate(formula, values))
