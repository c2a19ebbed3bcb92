"""Tangent kernels of any JAX function: linearisation, kernel products, the kernel, its edge.

With J = df/dtheta at the parameters given and H the diagonal matrix of their learning rates,
Theta = J H J^T. Per-parameter rates belong to the kernel: embedding and projection learn at rates
of their own, and Theta then is the operator that moves the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_rate

from ._functions import (
    check_finite_outputs,
    checked_function,
    checked_weights,
    output_shape,
)
from ._low_precision import warn_of_precision
from ._matrix import dense_kernel, point_kernels
from ._products import kernel_product, largest_mode, weighted_product


def linearize(f: Callable[..., Any], params: Any) -> Callable[..., Any]:
    """f about `params`: f_lin(theta, x) = f(theta_0, x) + J(x) (theta - theta_0).

    `f(params, *inputs)` is any function that JAX can differentiate forward; its outputs and
    `params` may be pytrees. All else here needs the backward derivative too. The result takes the
    same arguments, is affine in its parameters and costs one Jacobian-vector product.
    Source: docs/theory/linearized.md#linearised-model.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from dynsim import linearize
    >>> tangent = linearize(lambda weight, x: jnp.sin(weight * x), 0.0)
    >>> float(tangent(0.5, 2.0))  # sin(w x) about w = 0 is w x
    1.0
    """

    def linearized(moved: Any, *inputs: Any) -> Any:
        displacement = jax.tree.map(lambda new, old: jnp.asarray(new - old, old.dtype), moved, base)
        start, change = jax.jvp(lambda p: f(p, *inputs), (base,), (displacement,))
        return jax.tree.map(jnp.add, start, change)

    base = jax.tree.map(jnp.asarray, params)
    return linearized


def tangent_kernel_product(
    f: Callable[..., Any],
    params: Any,
    x1: Any = None,
    x2: Any = None,
    *,
    learning_rates: Any = 1.0,
) -> Callable[[ArrayLike], Array]:
    """The function v -> Theta(x1, x2) v, without the kernel: J(x1) H J(x2)^T v.

    `v` has the shape of the outputs at `x2`, the result that of the outputs at `x1`. One call
    costs a backward pass on `x2` and a forward pass on `x1`, and the memory of one gradient.
    Arguments and errors are those of `tangent_kernel`.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from dynsim.theory import tangent_kernel_product
    >>> x = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    >>> product = tangent_kernel_product(lambda weight, x: x @ weight, jnp.zeros(2), x)
    >>> product(jnp.array([1.0, 0.0]))  # the kernel's first column
    Array([1., 1.], dtype=float64)
    """
    fun, params, rates = checked_function(f, params, learning_rates)
    x2 = x1 if x2 is None else x2
    shape = output_shape(fun, params, x2)

    def product(vector: ArrayLike) -> Array:
        if np.shape(vector) != shape:
            raise InputError("v", np.shape(vector), f"must have the shape {shape} of f at x2")
        return kernel_product(fun, params, rates, x1, x2, jnp.asarray(vector, "float64"))

    return product


def tangent_kernel(
    f: Callable[..., Any],
    params: Any,
    x1: Any = None,
    x2: Any = None,
    *,
    learning_rates: Any = 1.0,
    per_example: bool = False,
) -> Array:
    """The tangent kernel Theta = J(x1) H J(x2)^T as a matrix, in float64.

    Shape (N1 n, N2 n), row i n + k for output k of point i. Where every output depends on its own
    point alone, which is tested, Jacobians of blocks of points are multiplied, at the cost of n
    backward passes; or the gradient of every output is pushed forward, if that is cheaper. Of other
    functions, such as those with batch normalisation, each column needs a pass backward and one
    forward. Blocks take about 128 MiB, with what a pass computes on the way counted.

    **Arguments:**

    - `f(params, x)`: outputs of shape (N,) or (N, n); `f(params)` where `x1` is None.
    - `params`: pytree of real floating-point arrays, taken as float64.
    - `x1`, `x2`: inputs; without `x2` the kernel of `x1` with itself.
    - `learning_rates`: one rate, or a pytree of rates that is a prefix of `params`; 0 freezes.
    - `per_example`: only the blocks of every point of `x1` with itself, shape (N1, n, n).

    Raises `InputError` for parameters, rates or outputs of another kind and for a kernel that
    does not fit the memory, `RuntimeError` without 64-bit types.
    Source: docs/theory/linearized.md#tangent-kernel.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from dynsim import tangent_kernel
    >>> x = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    >>> tangent_kernel(lambda weight, x: x @ weight, jnp.zeros(2), x)  # x x^T
    Array([[1., 1.],
           [1., 2.]], dtype=float64)
    """
    fun, params, rates = checked_function(f, params, learning_rates)
    warn_of_precision(fun, params, x1)
    if per_example:
        if x2 is not None:
            raise InputError("x2", "given", "must be left out with `per_example`")
        return point_kernels(fun, params, rates, x1)
    return dense_kernel(fun, params, rates, x1, x1 if x2 is None else x2)


def max_learning_rate(
    f: Callable[..., Any],
    params: Any,
    x: Any = None,
    *,
    weights: ArrayLike | None = None,
    learning_rates: Any = 1.0,
    momentum: float = 0.0,
) -> float:
    """Largest factor on all learning rates at which full-batch descent on mse stays stable.

    2 (1 + momentum) / lambda_max, with lambda_max the largest eigenvalue of
    P^(1/2) Theta P^(1/2) (heavy-ball momentum, 0 for plain descent), found by kernel products.
    `weights` are the points' p_i, by default 1/N each; infinite where nothing learns.
    Other arguments and errors are those of `tangent_kernel`.

    Shapes: `weights` (N,), one entry a point.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from dynsim.theory import max_learning_rate
    >>> x = jnp.array([[1.0], [2.0]])
    >>> round(max_learning_rate(lambda weight, x: x @ weight, jnp.zeros(1), x), 3)  # 2 / (5/2)
    0.8
    """
    check_rate("momentum", momentum)
    if momentum >= 1:
        raise InputError("momentum", momentum, "must be below 1")
    fun, params, rates = checked_function(f, params, learning_rates)
    shape = output_shape(fun, params, x)
    check_finite_outputs(fun, params, x)
    warn_of_precision(fun, params, x)
    share = np.sqrt(checked_weights(weights, shape))
    largest, _ = largest_mode(weighted_product(fun, params, rates, x, share), share.size)
    return 2 * (1 + momentum) / largest if largest > 0 else math.inf
