"""Entrywise optimizers, the same for finite networks and mean-field theory.

A step is theta <- theta - eta_t (Phi(gradients up to t) + lambda theta), with Phi the optimizer's
entrywise map, lambda the decoupled weight decay and eta_t the layer's learning rate times the
schedule's factor. Which map it is is compiled in; the numbers are arguments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float

from ._errors import InputError
from ._setup import Descent


class Constants(NamedTuple):
    """An optimizer's numbers, as plain floats: they take on the precision of the weights."""

    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float


def constants(setup: Descent) -> Constants:
    return Constants(
        float(setup.beta1), float(setup.beta2), float(setup.epsilon), float(setup.decay_rate)
    )


def schedule(setup: Descent) -> Float[np.ndarray, " T"]:
    """eta_t over the learning rate at every step, shape (T,).

    Step t of w = `warmup_steps` has (t + 1) / w; from step w on the factor is 1 (constant), or it
    falls from 1 at step w to 0 at step T, linearly or as half a cosine.
    """
    warmup, steps = min(setup.warmup_steps, setup.steps), setup.steps
    rest = max(steps - warmup, 1)
    decay = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(1.0, rest),
    }[setup.schedule]
    if setup.warmup_steps:
        first = 1 / setup.warmup_steps
        rise = optax.linear_schedule(first, 1 + first, setup.warmup_steps)
        decay = optax.join_schedules([rise, decay], [warmup])
    return np.broadcast_to(np.asarray(decay(np.arange(steps)), np.float64), steps)


def direction(optimizer: str, constants: Constants) -> optax.GradientTransformation:
    """Phi: from gradients to the step per unit of learning rate, entry by entry."""
    match optimizer:
        case "sgd":
            return optax.identity()
        case "momentum":
            return optax.trace(constants.beta1)
        case "sign":
            return optax.scale_by_sign()
        case "smoothed-sign":
            return optax.stateless(lambda gradients, _: _smoothed_sign(gradients, constants))
        case "adam":
            return optax.scale_by_adam(constants.beta1, constants.beta2, constants.epsilon)
    raise InputError(
        "optimizer", optimizer, "must be entrywise: sgd, momentum, sign, smoothed-sign or adam"
    )


def _smoothed_sign(gradients: Any, constants: Constants) -> Any:
    import derivations  # sympy takes longer to import than a prediction's other parts
    from derivations import flow_symbols

    from ._compiled import evaluate

    def of(gradient: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        values = {flow_symbols.gradient: gradient, flow_symbols.smoothing: constants.epsilon}
        return evaluate(derivations.smoothed_sign(), values)

    return jax.tree.map(of, gradients)


def weight_copies(optimizer: str) -> int:
    """How many numbers of the size of the weights the optimizer remembers."""
    return {"adam": 2, "momentum": 1}.get(optimizer, 0)
