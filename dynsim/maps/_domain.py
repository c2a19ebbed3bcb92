"""Where the formulas of a map hold: cells outside are marked with the reason.

The formulas of updates are of residuals of equal size that the initial output does not change.
What a setup's own targets and its initial output change is estimated at every cell.
"""

from __future__ import annotations

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

LARGEST_ERROR = 0.03  # of an RMS, up to which a formula counts as right


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
        "with an initial output of order one (`init` sp) the residual of the most frequent token "
        "is random and decides the alignment",
    )
    with np.errstate(all="ignore"):
        unequal = _unequal_residuals(setup, points, kernel, slope)
        initial = _initial_output(setup, points, kernel)
    missing.mark(
        unequal > LARGEST_ERROR,
        "the formula is of residuals of equal size, and those of single tokens change it by more "
        f"than {LARGEST_ERROR:.0%}",
    )
    missing.mark(
        np.abs(initial) > LARGEST_ERROR,
        "the formula is of a small initial output, whose own part in the residuals changes it by "
        f"more than {LARGEST_ERROR:.0%}",
    )


def mark_later_updates(plane: Plane, points: Points, missing: Missing) -> None:
    """Marks cells at which residuals or projection do not keep their start until update T."""
    setup, aged = plane.example(missing), points.age > 0
    several = points.outputs > 1
    isotropic = setup.targets == "gaussian" and not setup.target_rank
    missing.mark(
        aged & several & ((points.outputs < MANY_OUTPUTS) | (not isotropic)),
        "later updates are derived for one output, or for gaussian `targets` of full rank with at "
        f"least {MANY_OUTPUTS} `outputs`",
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
        moved_by_embedding = {
            s.width: points.width,
            s.embedding_lr: points.age,
            s.projection_std: std,
            s.residual: 1.0,
            s.residual_norm: 1.0,
        }
        shrunk = np.abs(evaluate(derivations.update_mean("embedding", "sign"), moved_by_embedding))
    missing.mark(
        aged & (change > KEPT * size),
        "later updates are derived while the residuals keep their initial size, and "
        "`projection_lr` changes it",
    )
    missing.mark(
        aged & (shrunk > size),
        "later updates are derived while the residuals keep their sign, and the embedding's moves "
        "change it",
    )


def _of_known_sizes(setup: Setup) -> bool:
    known = setup.targets == "sign" or (setup.targets == "gaussian" and not setup.target_rank)
    return known and setup.loss_name == "mse"


def initial_std(setup: Setup, points: Points) -> Floats:
    """sigma_W at every point."""
    return 1 / points.width if setup.init == "mup" else points.width**-0.5


def _shares(points: Points, power: int, of: int) -> Floats:
    """sum_i p_i^power w_i^of with w_i = E[p_hat_i^2], of = 1 or 2: p_i^2 in full batch."""

    def total(one: int) -> Floats:
        return points.law.power_sum(one, points.vocab_size)

    one = np.where(points.batch_size > 0, 1 / np.maximum(points.batch_size, 1), 0.0)
    if of == 1:
        return (1 - one) * total(power + 2) + one * total(power + 1)
    parts = (total(power + 4), total(power + 3), total(power + 2))
    return (1 - one) ** 2 * parts[0] + 2 * one * (1 - one) * parts[1] + one**2 * parts[2]


def _unequal_residuals(
    setup: Setup, points: Points, kernel: derivations.Optimizer, slope: bool
) -> Floats:
    """Relative error of the RMS, or error of the local exponent, because squared residuals r^2
    differ from token to token.

    Under sign the alignment is C = sum_i p_i w_i r_i^2 / sum_i w_i r_i^2: its bias to second order
    and, for targets that are drawn once, its standard deviation. Under SGD both sums by themselves.
    """
    variance = points.width * initial_std(setup, points) ** 2  # of the initial output
    if setup.targets == "sign":
        drawn = 0.0
        spread = (4 * variance + 2 * variance**2) / (1 + variance) ** 2
    else:
        drawn, spread = 2 / (1 + variance) ** 2, 2.0
    strength, aligned = _shares(points, 0, 1), _shares(points, 1, 1)
    own = _shares(points, 0, 2) / strength**2
    both = _shares(points, 1, 2) / (strength * aligned)
    other = _shares(points, 2, 2) / aligned**2
    if kernel == "sgd":
        return np.asarray(np.sqrt(drawn / points.outputs * np.maximum(own, other)) / 2)
    bias = spread * np.abs(own - both)
    deviation = np.sqrt(drawn / points.outputs * np.maximum(own - 2 * both + other, 0.0))
    sizes = {s.width: points.width, s.vocab_size: strength / aligned}
    ratio = np.asarray(evaluate(derivations.coherence_ratio(), sizes))
    share = 1 - 1 / (1 + ratio)  # of coherent power
    return np.asarray((bias + deviation) / 2 * share * (1 - share if slope else 1))


def _self_term_ratio(setup: Setup, points: Points) -> Floats:
    std = initial_std(setup, points)
    values = {
        s.residual_slope: 1.0,
        s.embedding_std: 1.0,
        s.projection_std: std,
        s.field_square_sum: (1 + points.width * std**2) * _shares(points, 0, 1),
    }
    return np.asarray(evaluate(derivations.self_term_ratio(), values))


def _initial_output(setup: Setup, points: Points, kernel: derivations.Optimizer) -> Floats:
    """Relative change of the RMS by the initial output, to leading order in d and m."""
    ratio = _self_term_ratio(setup, points)
    strength = _shares(points, 0, 1)
    values = {
        s.width: points.width,
        s.projection_lr: 1.0,
        s.embedding_std: 1.0,
        s.field_square_sum: (1 + points.width * initial_std(setup, points) ** 2) * strength,
        s.alignment_square: _shares(points, 1, 1) / strength,
        s.frequency: points.law.power_sum(2, points.vocab_size),
    }
    limit = derivations.mean_field_first_update("projection", kernel)
    with_it, without = (
        np.asarray(evaluate(limit, {**values, s.self_term_ratio: one}))
        for one in (ratio, np.zeros_like(ratio))
    )
    return np.sqrt(with_it / without) - 1
