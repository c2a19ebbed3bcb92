"""A function f(params, x) to linearise, checked: parameters, learning rates, outputs, weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError, check_rate
from dynsim._precision import require_x64

Floats = NDArray[np.float64]


def checked_function(
    f: Callable[..., Any], params: Any, learning_rates: Any
) -> tuple[Callable[..., Any], Any, Any]:
    """f as something jit can hash, parameters in float64, and a rate for every leaf of them."""
    require_x64()
    params = checked_params(params)
    rates = checked_rates(learning_rates, params)
    try:
        hash(f)
    except TypeError:  # a module with arrays in it
        return lambda *inputs: f(*inputs), params, rates
    return f, params, rates


def checked_params(params: Any) -> Any:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        try:
            real = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        except (TypeError, ValueError):
            real = False
        if not real:
            raise InputError(
                "params" + jax.tree_util.keystr(path),
                leaf,
                "must be a real floating-point array; keep everything else inside f",
            )
    if not sum(np.size(leaf) for leaf in jax.tree.leaves(params)):
        raise InputError("params", None, "nothing to train; give at least one parameter")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), params)


def checked_rates(learning_rates: Any, params: Any) -> Any:
    """`learning_rates` spread over the leaves of `params`."""
    for path, rate in jax.tree_util.tree_leaves_with_path(learning_rates):
        name = "learning_rates" + jax.tree_util.keystr(path)
        allowed = "must be one number for each layer"
        if np.ndim(rate) != 0:
            raise InputError(name, rate, allowed)
        try:
            number = float(rate)
        except (TypeError, ValueError):
            raise InputError(name, rate, allowed) from None
        check_rate(name, number)
    try:
        return jax.tree.map(
            lambda rate, layer: jax.tree.map(lambda _: jnp.asarray(rate, "float64"), layer),
            learning_rates,
            params,
        )
    except ValueError:
        raise InputError(
            "learning_rates",
            jax.tree.structure(learning_rates),
            "must be one number or a pytree that is a prefix of params",
        ) from None


def output_shape(f: Callable[..., Any], params: Any, x: Any) -> tuple[int, ...]:
    """Shape of the outputs, refused unless (N,) or (N, n)."""
    try:
        result = jax.eval_shape(lambda: _outputs(f, params, x))
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError("f", reason, "must map (params, x) to one array of outputs") from error
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise InputError("f", result.dtype, "must give real floating-point outputs")
    shape = result.shape
    if len(shape) not in (1, 2) or 0 in shape:
        raise InputError("f", shape, "must give outputs of shape (points,) or (points, outputs)")
    return shape


def check_finite_outputs(f: Callable[..., Any], params: Any, x: Any) -> None:
    """Raises `InputError` unless f is finite at `params`."""
    if not np.isfinite(outputs(f, params, x)).all():
        raise InputError("f", "gives outputs that are not finite", "must be finite at params")


def checked_weights(weights: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    """p of every single output, flat, shape (N n,)."""
    points = shape[0]
    share = np.full(points, 1 / points) if weights is None else np.asarray(weights, np.float64)
    if share.shape != (points,):
        raise InputError("weights", share.shape, f"must have shape {(points,)}, one for each point")
    if not np.all(np.isfinite(share) & (share > 0)):
        raise InputError(
            "weights",
            float(share[~(np.isfinite(share) & (share > 0))][0]),
            "must be positive and finite; points that do not train belong into x_test",
        )
    return np.repeat(share, math.prod(shape[1:]))


def outputs(f: Callable[..., Any], params: Any, x: Any) -> Array:
    return _outputs(f, params, x).astype("float64")


def _outputs(f: Callable[..., Any], params: Any, x: Any) -> Array:
    return jnp.asarray(f(params) if x is None else f(params, x))
