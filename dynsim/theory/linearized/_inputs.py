"""What `predict_linearized` accepts: optimizers, targets and times, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_choice
from dynsim._setup import Loss

from ._functions import Floats

Kernel = Literal["auto", "dense", "matrix-free"]
LinearizedOptimizer = Literal[
    "gradient-flow", "smoothed-sign-flow", "sgd", "sign", "smoothed-sign", "adam", "momentum"
]


def checked_rule(
    optimizer: Any, learning_rates: Any, epsilon: float | None
) -> tuple[str | optax.GradientTransformation, Any]:
    """The rule and its learning rates, which an optax transformation has in itself."""
    if isinstance(optimizer, optax.GradientTransformation):
        if learning_rates is not None:
            raise InputError(
                "learning_rates",
                learning_rates,
                "must be left out with an optax transformation, which holds its own",
            )
        return optimizer, 1.0
    if optimizer in ("sign-flow", "adam-flow"):
        raise InputError(
            "optimizer",
            optimizer,
            "has no flow: sign(g) is discontinuous; take smoothed-sign-flow with an epsilon",
        )
    check_choice("optimizer", optimizer, get_args(LinearizedOptimizer))
    smoothed = optimizer.startswith("smoothed-sign")
    if smoothed and not (epsilon is not None and 0 < epsilon < math.inf):
        raise InputError("epsilon", epsilon, f"must be positive and finite for {optimizer}")
    if not smoothed and epsilon is not None:
        raise InputError("epsilon", epsilon, "belongs to smoothed-sign and smoothed-sign-flow")
    return optimizer, 1.0 if learning_rates is None else learning_rates


def checked_loss(loss: Any) -> str | Callable[[Any, Any], Any]:
    """The name of a loss, or a function of a point's outputs and target that jit can hash."""
    if not callable(loss):
        if loss not in get_args(Loss):
            allowed = (
                f"must be one of {', '.join(get_args(Loss))}, or a function l(outputs, target)"
            )
            raise InputError("loss", loss, allowed)
        return loss
    try:
        hash(loss)
    except TypeError:
        return lambda outputs, target: loss(outputs, target)
    return loss


def targets_of_function(y: ArrayLike, outputs: Any, loss: Callable[[Any, Any], Any]) -> Any:
    """Targets of a loss of one's own: one for each point, of any shape; numbers keep their kind.

    Raises `InputError` for a loss that is not one finite number a point with a finite derivative.
    """
    target = np.asarray(y)
    if target.dtype.kind not in "biuf":
        raise InputError("y", str(target.dtype), "must be numbers")
    if target.dtype.kind == "f":
        target = target.astype(np.float64)
    if target.ndim < 1 or len(target) != len(outputs):
        raise InputError(
            "y", target.shape, f"must have one target for each of {len(outputs)} points"
        )
    try:
        value = jax.eval_shape(loss, outputs[0], jnp.asarray(target[0]))
        if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"it gives {value.dtype} of shape {value.shape}")
        start = jax.vmap(jax.value_and_grad(loss))(outputs, jnp.asarray(target))
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        allowed = "must map a point's outputs and its target to one real number"
        raise InputError("loss", reason, allowed) from error
    if not all(np.isfinite(part).all() for part in start):
        raise InputError("loss", "is not finite at the start", "must be finite, and its derivative")
    return target


def checked_targets(y: ArrayLike, shape: tuple[int, ...], loss: str) -> Floats:
    target = np.asarray(y, np.float64)
    if target.shape != shape:
        raise InputError("y", target.shape, f"must have the shape {shape} of the outputs")
    if not np.isfinite(target).all():
        raise InputError("y", float(target[~np.isfinite(target)][0]), "must be finite")
    if loss == "ce":
        if len(shape) == 1 or shape[1] < 2:
            raise InputError("f", shape, "must give at least 2 outputs a point with loss ce")
        if np.any(target < 0) or not np.allclose(target.sum(axis=1), 1):
            raise InputError("y", target.min(), "must be class probabilities with loss ce")
    return target


def checked_times(times: ArrayLike, flow: bool, closed_form: bool) -> Floats:
    moments = np.atleast_1d(np.asarray(times, np.float64))
    if moments.ndim != 1 or not moments.size:
        raise InputError("times", moments.shape, "must be one number or a list of numbers")
    if not np.all(moments >= 0) or np.any(np.diff(moments) < 0):
        raise InputError("times", moments, "must be non-negative and in increasing order")
    if not np.isfinite(moments[-1]) and not (flow and closed_form):
        raise InputError("times", moments[-1], "must be finite unless for gradient-flow with mse")
    if not flow and np.any(moments % 1):
        raise InputError("times", moments, "must be whole numbers of steps for this optimizer")
    return moments
