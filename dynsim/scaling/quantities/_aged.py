"""Later updates of a linear setup under sign, while residuals and projection keep their start.

The formulas are those of docs/theory/lv_lifetime.md#later-steps; what they presume is checked
against the setup's learning rates, and in the limit against their powers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._optimizers import schedule
from dynsim._setup import Setup
from dynsim._targets import targets
from dynsim.scaling._family import Family
from dynsim.scaling._quantity import Unavailable
from dynsim.theory._first_step import law_values
from dynsim.theory._lv_lifetime import effective_outputs

from . import _first_step as first

MANY_OUTPUTS = 16  # from here on the formula for many directions is good to 3 %
KEPT = 0.05  # relative change of the residuals that counts as none
STILL = 1e-8  # a projection LR that leaves the projection where it was
LEAST_MOVE = 0.02  # move of the projection in its initial standard deviations that counts as none
LARGEST_SELF_TERM = 0.3  # kappa that counts as none: its square enters
UNIFORM = 1e-9


@dataclass(frozen=True)
class AgedSquares:
    """Mean squares of the T-th update of the projection: in total, and its incoherent part."""

    total: float
    incoherent: float


def directions_of(setup: Setup) -> derivations.Directions:
    """One or many directions of the residuals. Raises `Unavailable` for what lies between."""
    if setup.output_count == 1:
        return "one"
    if setup.targets != "gaussian" or setup.target_rank or setup.output_count < MANY_OUTPUTS:
        raise Unavailable(
            "later updates are derived for one output, or for gaussian `targets` of full rank "
            f"with at least {MANY_OUTPUTS} `outputs`"
        )
    return "many"


def check_kept(setup: Setup, moves_of_projection: int) -> None:
    """Raises `Unavailable` unless residuals and projection have kept their start until update T.

    `moves_of_projection`: updates of the projection that the embedding's later moves have read.
    """
    if setup.optimizer != "sign":
        raise Unavailable("later updates (`steps` above 1) are derived under `optimizer` sign")
    if setup.loss_name != "mse":
        raise Unavailable("later updates (`steps` above 1) are derived for `loss` mse")
    first.kernel_of(setup)
    factors = schedule(setup)
    move = setup.projection_lr * float(np.sum(factors[:moves_of_projection]))
    if move > LEAST_MOVE * setup.projection_std:
        raise Unavailable(
            "later updates are derived while the projection keeps its initial entries, and "
            f"`projection_lr` moves them by {move / setup.projection_std:.3g} standard deviations"
        )
    size = float(np.sqrt(np.mean(first.residual_squares(setup))))
    change = float(np.sum(factors[: setup.steps - 2])) / first.step_factor(setup)
    change *= np.hypot(
        np.sqrt(first.projection_step_square(setup)) if setup.projection_lr else 0.0,
        np.sqrt(first.embedding_step_square(setup)) if setup.embedding_lr else 0.0,
    )
    if change > KEPT * size:
        raise Unavailable(
            "later updates are derived while the residuals keep their initial size, and these "
            f"learning rates change them by about {change / size:.2g} of it before update T"
        )
    if np.max(first.field(setup).self_term_ratio) > LARGEST_SELF_TERM:
        raise Unavailable("later updates are derived for a small initial output (no self term)")


def projection_step(setup: Setup) -> AgedSquares:
    """The T-th update of the projection, T = `setup.steps` - 1 at least 2."""
    directions = directions_of(setup)
    check_kept(setup, setup.steps - 3)
    second = derivations.aged_update_second_moment(directions)
    values: dict[Any, Any] = _ages(setup, directions) | {
        s.width: float(setup.width),
        s.embedding_std: 1.0,
        s.projection_lr: setup.projection_lr * first.step_factor(setup, setup.steps - 2),
    }
    noise = values[s.projection_lr] ** 2 * setup.width
    return AgedSquares(
        float(np.mean(np.asarray(evaluate(second, values)))),
        float(noise * (1 + np.mean(values[s.displacement_square]))),
    )


def visits_square(setup: Setup) -> float:
    """Mean square of how far T updates move an embedding, over the first update's, under sign."""
    factors = schedule(setup)[: setup.steps - 1]
    if not setup.batch_size:
        return float(np.sum(factors) ** 2 / factors[0] ** 2)
    _check_uniform(setup)
    values = _mini_batch_values(setup, setup.steps - 1)
    ages = derivations.mini_batch_age()
    square = float(evaluate(ages[s.displacement_square], values))
    return square / (values[derivations.age_step] ** 2 * values[s.presence])


def _ages(setup: Setup, directions: derivations.Directions) -> dict[Any, Any]:
    """theta, Theta, tau, C, c_1 and n_eff before update T, with the sizes of the residuals."""
    frequencies, law = setup.law().frequencies, setup.law()
    n_eff = 1.0 if directions == "one" else effective_outputs(targets(setup), frequencies)
    if setup.batch_size:
        _check_uniform(setup)
        values = _mini_batch_values(setup, setup.steps - 2)
        age = derivations.mini_batch_age()
    else:
        moves = setup.embedding_lr * float(np.sum(schedule(setup)[: setup.steps - 2]))
        values, age = {**law_values(law), s.displacement: moves}, derivations.full_batch_age()
    values[s.effective_outputs] = n_eff
    numbers = {symbol: np.asarray(evaluate(value, values)) for symbol, value in age.items()}
    if directions == "one":
        # All embeddings move alike, but a token weighs by the size of its residual.
        at = first.field(setup)
        sizes = first.absolute_residuals(setup)
        spread = np.sqrt(first.share_square(setup) @ first.residual_squares(setup))
        equal = np.sqrt(np.sum(first.share_square(setup)))
        numbers[s.field_age] = numbers[s.field_age] * (frequencies @ sizes) * equal / spread
        numbers[s.mean_alignment] = frequencies**2 @ sizes / spread
        numbers[s.alignment_square] = at.alignment_square
    return values | numbers


def _check_uniform(setup: Setup) -> None:
    frequencies = setup.law().frequencies
    if np.ptp(frequencies) > UNIFORM * frequencies[0]:
        raise Unavailable(
            "later updates in mini-batches are derived for uniform `tokens` (or `batch_size` 0)"
        )
    if np.ptp(schedule(setup)[: setup.steps - 1]) > 0:
        raise Unavailable("later updates in mini-batches are derived for a constant learning rate")


def _mini_batch_values(setup: Setup, steps: int) -> dict[Any, Any]:
    return law_values(setup.law(), batch_size=setup.batch_size) | {
        s.vocab_size: float(setup.vocab_size),
        derivations.age_step: setup.embedding_lr * first.step_factor(setup),
        derivations.age_steps: float(steps),
    }


# Powers


def step_power(family: Family, orders: derivations.PathOrders) -> derivations.PathPower:
    """Power of the growing size in the T-th update's RMS, checked for what the formula presumes."""
    setup = family.linear_setups()[-1]
    directions = directions_of(setup)
    check_kept_in_the_limit(family, orders, exact=family.updates(family.sizes[-1]) > 2)
    if setup.batch_size:
        _check_uniform(setup)
    moves = moved_order(family)
    return derivations.later_step_power(directions, orders, moves, mini_batch=setup.batch_size > 0)


def moved_order(family: Family) -> Fraction:
    """Power of the number of updates before the T-th."""
    return family.order("steps")


def check_kept_in_the_limit(family: Family, orders: derivations.PathOrders, *, exact: bool) -> None:
    """Raises `Unavailable` where the learning rates change residuals or projection in the limit.

    `exact`: also the projection's initial entries must be kept.
    """
    setup = family.linear_setups()[-1]
    if setup.optimizer not in ("sign", "adam"):
        raise Unavailable("later updates (`steps` above 1) are derived under `optimizer` sign")
    if setup.loss_name != "mse":
        raise Unavailable("later updates (`steps` above 1) are derived for `loss` mse")
    first.kernel_of(setup)
    moved = moved_order(family)
    own = orders.of[s.projection_lr] + moved
    if exact and setup.projection_lr and not own < orders.of[s.projection_std]:
        raise Unavailable(
            "later updates are derived while the projection keeps its initial entries: "
            f"`projection_lr` times `steps` must fall faster than {family.along}^"
            f"({orders.of[s.projection_std]})"
        )
    layers: tuple[derivations.Layer, ...] = ("projection", "embedding")
    for layer in layers:
        if not getattr(setup, f"{layer}_lr"):
            continue
        unit = derivations.first_step_power(
            layer, "sign", orders, mini_batch=setup.batch_size > 0, init=setup.init
        ).power
        if unit + orders.of[getattr(s, f"{layer}_lr")] + moved > 0:
            raise Unavailable(
                f"later updates are derived while the residuals keep their size: `{layer}_lr` "
                f"times `steps` must fall at least like {family.along}^({-unit})"
            )
