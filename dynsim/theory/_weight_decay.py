"""Sizes and turning rates of weights at the equilibrium of weight decay and Adam's updates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import derivations
from derivations import decay_symbols
from dynsim._compiled import evaluate
from dynsim._errors import InputError, check_choice

Floats = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)


def visit_worth(visit_chance: ArrayLike, beta2: float = 0.999) -> Floats:
    """V, the long-run variance per step of Adam's update of a row visited with the chance q a step.

    A function of q/(1 - beta_2) alone: this ratio where it is small, and 1 where it is large.
    Gradients are noise, and beta_1's memory is short against beta_2's; `rare_visit_worth` is for
    any beta_1 and small q. Source: docs/theory/weight_decay.md#visit-worth.

    Shapes: `visit_chance` any shape, which the result has.

    **Example:**

    >>> from dynsim.theory import visit_worth
    >>> visit_worth([1e-5, 1e-3, 1.0]).round(3)
    array([0.01 , 0.455, 0.999])
    """
    q = _chances(visit_chance)
    _check_beta("beta2", beta2)
    ratio = q / (1 - beta2)
    # nodes dense at 0, where the integrand has the slope of a small power
    shifted = (_NODES + 1) / 2
    z, weight = shifted**2, shifted * _WEIGHTS
    values = {decay_symbols.visit_ratio: ratio[..., None], decay_symbols.quantile: z}
    return np.asarray(evaluate(derivations.visit_worth_density(), values)) @ weight


def rare_visit_worth(visit_chance: ArrayLike, beta1: float = 0.9, beta2: float = 0.999) -> Floats:
    """V for visits much rarer than one in Adam's memory: exact in beta_1 < sqrt(beta_2).

    Shapes: `visit_chance` any shape, which the result has.

    **Example:**

    >>> from dynsim.theory import rare_visit_worth
    >>> float(rare_visit_worth(1e-6).round(6))
    0.001009
    """
    q = _chances(visit_chance)
    _check_beta("beta2", beta2)
    _check_beta("beta1", beta1)
    if beta1 >= np.sqrt(beta2):
        raise InputError("beta1", beta1, "must be less than the root of `beta2`")
    values = {
        decay_symbols.visit_chance: q,
        decay_symbols.beta1: beta1,
        decay_symbols.beta2: beta2,
    }
    return np.asarray(evaluate(derivations.rare_visit_worth(), values))


def equilibrium_rms(
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    *,
    visit_chance: ArrayLike = 1.0,
    beta2: float = 0.999,
    convention: derivations.DecayConvention = "coupled",
    steps: ArrayLike | None = None,
    initial_std: ArrayLike = 1.0,
) -> Floats:
    """RMS of the entries of a row or matrix under AdamW once decay balances its updates.

    - `convention`: `coupled` decay takes eta lambda of a weight in a step (optax and torch),
      `independent` decay lambda.
    - `visit_chance`: of a row in a step; 1 for matrices that have a gradient in every step.
    - `steps`: after so many steps from `initial_std` in place of at equilibrium.

    Source: docs/theory/weight_decay.md#decay-equilibrium.

    Shapes: all arguments broadcast, and the result has their shape.

    **Example:**

    >>> from dynsim.theory import equilibrium_rms
    >>> float(equilibrium_rms(1e-3, 0.1).round(4))  # about sqrt(LR / (2 decay))
    0.0707
    """
    values: dict[Any, Any] = {
        decay_symbols.learning_rate: np.asarray(learning_rate, dtype=np.float64),
        decay_symbols.visit_worth: visit_worth(visit_chance, beta2),
        decay_symbols.step_decay: step_decay(learning_rate, weight_decay, convention),
    }
    if steps is None:
        return np.sqrt(np.asarray(evaluate(derivations.equilibrium_square(), values)))
    values[decay_symbols.steps] = np.asarray(steps, dtype=np.float64)
    values[decay_symbols.initial_square.base] = np.asarray(initial_std, dtype=np.float64)
    return np.sqrt(np.asarray(evaluate(derivations.decayed_square(), values)))


def step_decay(
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    convention: derivations.DecayConvention = "coupled",
) -> Floats:
    """delta, the share of a weight that one step takes away.

    Shapes: both arguments broadcast, and the result has their shape.

    **Example:**

    >>> from dynsim.theory import step_decay
    >>> float(step_decay(1e-3, 0.1)), float(step_decay(1e-3, 1e-4, "independent"))
    (0.0001, 0.0001)
    """
    check_choice("convention", convention, derivations.DECAY_CONVENTIONS)
    lr = np.asarray(learning_rate, dtype=np.float64)
    decay = np.asarray(weight_decay, dtype=np.float64)
    for name, value in (("learning_rate", lr), ("weight_decay", decay)):
        if not (np.isfinite(value).all() and (value > 0).all()):
            raise InputError(name, value, "must be positive numbers")
    values = {decay_symbols.learning_rate: lr, decay_symbols.weight_decay: decay}
    if convention == "independent":
        del values[decay_symbols.learning_rate]
    found = np.asarray(evaluate(derivations.step_decay_of(convention), values))
    if (found >= 1).any():
        raise InputError("weight_decay", decay, "must take less than a whole weight in a step")
    return found


def kept_direction(
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    steps: ArrayLike,
    *,
    beta1: float = 0.9,
    convention: derivations.DecayConvention = "coupled",
) -> Floats:
    """Cosine between a row or matrix of noise at equilibrium and itself `steps` steps later.

    The same for tokens of every frequency. Source: docs/theory/weight_decay.md#decay-rotation.

    Shapes: all arguments broadcast, and the result has their shape.

    **Example:**

    >>> from dynsim.theory import kept_direction
    >>> kept_direction(1e-3, 0.1, [1000, 10000]).round(2)
    array([0.91, 0.37])
    """
    _check_beta("beta1", beta1)
    values = {
        decay_symbols.step_decay: step_decay(learning_rate, weight_decay, convention),
        decay_symbols.steps: np.asarray(steps, dtype=np.float64),
        decay_symbols.beta1: beta1,
    }
    return np.asarray(evaluate(derivations.kept_direction(), values))


def _chances(visit_chance: ArrayLike) -> Floats:
    q = np.asarray(visit_chance, dtype=np.float64)
    if not ((q > 0).all() and (q <= 1).all()):
        raise InputError("visit_chance", visit_chance, "must be above 0 and at most 1")
    return q


def _check_beta(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InputError(name, value, "must be at least 0 and less than 1")
