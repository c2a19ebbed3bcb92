"""The derived first step of a linear setup, with the residuals of its own targets.

Nothing is assumed about the sizes of residuals: the targets are part of the setup, so that the
alignment c_ik = p_i r_ik / sqrt(sum_j p_j^2 r_jk^2) of every token and output is a known number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._losses import loss_and_residual
from dynsim._optimizers import schedule
from dynsim._setup import Setup
from dynsim._targets import targets
from dynsim.scaling._quantity import Unavailable
from dynsim.theory._first_step import visit_chance

Floats = NDArray[np.float64]

FIRST_STEP: dict[str, derivations.Optimizer] = {
    "sgd": "sgd",
    "momentum": "sgd",  # the first step has no past
    "sign": "sign",
    "adam": "adam",
}
MOST_OUTPUTS = 0.1  # n sigma_W^2 at which several outputs' formula is 2 % off
LARGEST_OUTPUT_VARIANCE = 0.2  # that counts as small for the cross term of several outputs
LARGEST_SHARE = 0.15  # of one token in P_2 at which the ratio of averages is 2 % off
SMALL = 0.02  # relative error of an RMS up to which a neglected effect is neglected


@dataclass(frozen=True)
class Field:
    """The projection's first gradient, output by output: arrays of shape (n,).

    - `square_sum`: S_k, the mean of sum_j p_hat_j^2 r_jk^2 over batches and initial outputs.
    - `alignment_square`: C_k, the mean of sum_i p_i c_ik^2, as a ratio of averages.
    - `self_term_ratio`: kappa_k.
    """

    square_sum: Floats
    alignment_square: Floats
    self_term_ratio: Floats


def kernel_of(setup: Setup) -> derivations.Optimizer:
    """The optimizer as the first step knows it. Raises `Unavailable` where none is derived."""
    if setup.optimizer not in FIRST_STEP:
        raise Unavailable(f"no first step is derived for `optimizer` {setup.optimizer}")
    if setup.decay_rate > 0:
        raise Unavailable("the derived steps have no weight decay")
    return FIRST_STEP[setup.optimizer]


def output_variance(setup: Setup) -> float:
    """sigma_f^2 = d sigma_E^2 sigma_W^2 of the initial output."""
    return setup.width * setup.projection_std**2


def step_factor(setup: Setup, step: int = 0) -> float:
    """Learning rate of a step over that of the setup."""
    return float(schedule(setup)[step])


@lru_cache(maxsize=8)
def residual_squares(setup: Setup) -> Floats:
    """Mean square of r_ik over initial weights, shape (m, n), read-only.

    Squared error: y_ik^2 + sigma_f^2. Cross-entropy: at zero output, where that is small.
    """
    variance = output_variance(setup)
    if setup.loss_name == "mse":
        squares = targets(setup) ** 2 + variance
    else:
        if variance > SMALL * setup.output_count:
            raise Unavailable(
                "the effect of the initial output is derived for `loss` mse: `loss` ce needs a "
                "small one, as `init` mup has at large `width`"
            )
        rows = jnp.asarray(targets(setup))
        _, residual = loss_and_residual(setup.loss_name, jnp.zeros_like(rows), rows)
        squares = np.asarray(residual) ** 2
    squares.setflags(write=False)
    return squares


def share_square(setup: Setup) -> Floats:
    """E[p_hat_i^2] of every token, shape (m,)."""
    frequencies = setup.law().frequencies
    if not setup.batch_size:
        return frequencies**2
    moment = derivations.multinomial_moment(2)
    values = {s.frequency: frequencies, s.batch_size: float(setup.batch_size)}
    return np.asarray(evaluate(moment, values))


@lru_cache(maxsize=8)
def field(setup: Setup) -> Field:
    """Strength, alignment and self term of the projection's first gradient."""
    frequencies, squares = setup.law().frequencies, residual_squares(setup)
    power = share_square(setup)
    strength = power @ squares
    if not np.all(strength > 0):
        raise Unavailable("an output has no residual at the start")
    alignment = (frequencies * power) @ squares / strength
    values = {
        s.residual_slope: 1.0,
        s.embedding_std: 1.0,
        s.projection_std: setup.projection_std,
        s.field_square_sum: strength,
    }
    ratio = np.asarray(evaluate(derivations.self_term_ratio(), values))
    return Field(strength, alignment, ratio if setup.loss_name == "mse" else np.zeros_like(ratio))


def check_many_tokens(setup: Setup) -> None:
    """Raises `Unavailable` where one token's random residual decides the alignment under sign.

    The initial output makes residuals random, and the ratio of averages that `alignment_square` is
    is not the average ratio.
    """
    if output_variance(setup) < LARGEST_OUTPUT_VARIANCE:
        return
    frequencies = setup.law().frequencies
    if frequencies[0] ** 2 > LARGEST_SHARE * np.sum(frequencies**2):
        raise Unavailable(
            "with an initial output of order one (`init` sp) the residual of the most frequent "
            "token is random and decides the alignment, which is up to 10 % off; `init` mup has "
            "the formula"
        )


def projection_step_square(setup: Setup) -> float:
    """Mean square of (Delta W e_i)_k of the first step over tokens and outputs.

    Exact where the initial output is zero; its effect, the self term, is a factor that is known to
    leading order in d and m.
    """
    kernel, at = kernel_of(setup), field(setup)
    if kernel != "sgd":
        check_many_tokens(setup)
    values = {
        s.width: float(setup.width),
        s.projection_lr: setup.projection_lr * step_factor(setup),
        s.embedding_std: 1.0,
        s.field_square_sum: at.square_sum,
    }
    second = derivations.update_second_moment("projection", kernel)
    exact = evaluate(second, {**values, s.alignment: np.sqrt(at.alignment_square)})
    values |= {s.alignment_square: at.alignment_square, s.frequency: setup.law().power_sum(2)}
    limit = derivations.mean_field_first_update("projection", kernel)
    with_self_term, without = (
        np.asarray(evaluate(limit, {**values, s.self_term_ratio: ratio}))
        for ratio in (at.self_term_ratio, np.zeros_like(at.self_term_ratio))
    )
    return float(np.mean(np.asarray(exact) * with_self_term / without))


def projection_update_square(setup: Setup) -> float:
    """Mean square of (Delta W e_i(1))_k after one step: on embeddings that have moved as well."""
    kernel, at, step = kernel_of(setup), field(setup), projection_step_square(setup)
    rates = {
        s.projection_lr: setup.projection_lr * step_factor(setup),
        s.embedding_lr: setup.embedding_lr * step_factor(setup),
    }
    if setup.embedding_lr == 0:
        return step
    if kernel == "sgd":
        _check_small_cross_term(setup, rates, step)
        return step
    if setup.output_count > 1 and output_variance(setup) > LARGEST_OUTPUT_VARIANCE:
        raise Unavailable(
            "with several `outputs` it is derived for a small initial output, as `init` mup has"
        )
    weighted, slope = residual_sizes(setup)
    values = {
        **rates,
        s.width: float(setup.width),
        s.embedding_std: 1.0,
        s.projection_std: setup.projection_std,
        s.outputs: float(setup.output_count),
        s.presence: visit_chance(setup.law(), setup.batch_size) if setup.batch_size else 1.0,
        s.field_square_sum: at.square_sum,
        s.self_term_ratio: at.self_term_ratio,
        derivations.weighted_residual: weighted,
        derivations.residual_sign_slope: slope,
    }
    return step + float(np.mean(np.asarray(evaluate(derivations.cross_term_addition(), values))))


def residual_sizes(setup: Setup) -> tuple[Floats, Floats]:
    """sum_i p_i^2 E|r_ik| and sum_i p_i dE[sign r_ik]/df of each output, shape (n,).

    With several outputs the token's |r_i| / sqrt(n) takes the place of |r_ik|.
    """
    frequencies, outputs = setup.law().frequencies, setup.output_count
    sizes = absolute_residuals(setup)
    if outputs > 1 or setup.loss_name != "mse":
        return frequencies**2 @ sizes, frequencies @ ((1 - 1 / outputs) / sizes)
    slope = np.asarray(evaluate(derivations.residual_sign_response(), _residual_values(setup)))
    return frequencies**2 @ sizes, frequencies @ slope


def absolute_residuals(setup: Setup) -> Floats:
    """E|r_i| of every token over initial weights, or |r_i| / sqrt(n) of n outputs: (m, 1)."""
    if setup.output_count > 1 or setup.loss_name != "mse":
        return np.sqrt(np.mean(residual_squares(setup), axis=1, keepdims=True))
    return np.asarray(evaluate(derivations.mean_residual_size(), _residual_values(setup)))


def _residual_values(setup: Setup) -> dict[Any, Any]:
    return {
        derivations.target_size: np.abs(targets(setup)),
        derivations.output_std: np.sqrt(output_variance(setup)),
    }


def _check_small_cross_term(setup: Setup, rates: dict[Any, float], step: float) -> None:
    """Raises `Unavailable` where Delta W Delta e_i is not small against Delta W e_i under SGD."""
    norms = np.sum(residual_squares(setup), axis=1)
    strength = float(np.mean(field(setup).square_sum))
    size = float((setup.law().frequencies * share_square(setup)) @ norms)
    values = {
        **rates,
        s.width: float(setup.width),
        s.embedding_std: 1.0,
        s.projection_std: setup.projection_std,
        s.field_square_sum: strength,
        s.frequency: np.sqrt(size),
        s.residual_norm: 1.0,
    }
    noise = float(evaluate(derivations.cross_term_second_moment("sgd"), values))
    kappa = float(np.max(field(setup).self_term_ratio))
    if np.sqrt(noise * (1 + setup.width * kappa**2) / step) > SMALL:
        raise Unavailable(
            "under sgd the embedding's own move is neglected, which is not small here"
        )


def embedding_step_square(setup: Setup) -> float:
    """Mean square of (W Delta e_i)_k of the first step over tokens and outputs.

    With n outputs the token's alignment with output k is r_ik / |r_i|, whose square has the mean
    1/n over outputs, whatever the residuals are.
    """
    kernel, outputs = kernel_of(setup), setup.output_count
    if outputs > 1 and outputs * setup.projection_std**2 > MOST_OUTPUTS:
        raise Unavailable(
            "with several `outputs` the residuals must not depend on the projection: it needs "
            "`outputs` far below `width` (`init` sp) or its square (`init` mup)"
        )
    values = {
        s.width: float(setup.width),
        s.projection_std: setup.projection_std,
        s.embedding_lr: setup.embedding_lr * step_factor(setup),
    }
    second = derivations.update_second_moment("embedding", kernel)
    aligned = {s.residual: 1.0, s.residual_norm: np.sqrt(outputs)}
    if kernel != "sgd":
        chance = visit_chance(setup.law(), setup.batch_size) if setup.batch_size else 1.0
        return chance * float(evaluate(second, values | aligned))
    # the update is linear in p_hat_i and r_i: put in their mean squares
    unit = float(evaluate(second, {**values, **aligned, s.frequency: 1.0})) / outputs
    norms = np.sum(residual_squares(setup), axis=1)
    return unit * float((setup.law().frequencies * share_square(setup)) @ norms)
