"""What `predict_linearized` accepts: optimizers, targets and times, checked."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

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


def checked_targets(y: ArrayLike, shape: tuple[int, ...], loss: str) -> Floats:
    check_choice("loss", loss, get_args(Loss))
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
