"""Tangent kernels of any JAX function: linearisation, kernel products, the kernel, its edge.

With J = df/dtheta at the parameters given and H the diagonal matrix of their learning rates,
Theta = J H J^T. Per-parameter rates belong to the kernel: embedding and projection learn at rates
of their own, and Theta then is the operator that moves the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax import Array
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator, eigsh

from dynsim._errors import InputError, check_rate

from ._functions import (
    Floats,
    check_finite_outputs,
    checked_function,
    checked_weights,
    output_shape,
    outputs,
)
from ._low_precision import warn_of_precision

BLOCK_BYTES = 128 * 2**20  # Jacobian rows held at a time while a dense kernel is built
EIGH_FROM = 32  # below this size an iterative eigensolver has no room


def linearize(f: Callable[..., Any], params: Any) -> Callable[..., Any]:
    """f about `params`: f_lin(theta, x) = f(theta_0, x) + J(x) (theta - theta_0).

    `f(params, *inputs)` is any function that JAX can differentiate forward; its outputs and
    `params` may be pytrees. All else here needs the backward derivative too. The result takes the
    same arguments, is affine in its parameters and costs one Jacobian-vector product.
    Source: docs/theory/linearized.md#linearised-model.
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
) -> Array:
    """The tangent kernel Theta = J(x1) H J(x2)^T as a matrix, in float64.

    Shape (N1 n, N2 n), row i n + k for output k of point i. It is built from kernel products, one
    column each, so that no Jacobian is ever stored: N2 n passes forward and backward.

    **Arguments:**

    - `f(params, x)`: outputs of shape (N,) or (N, n); `f(params)` where `x1` is None.
    - `params`: pytree of real floating-point arrays, taken as float64.
    - `x1`, `x2`: inputs; without `x2` the kernel of `x1` with itself.
    - `learning_rates`: one rate, or a pytree of rates that is a prefix of `params`; 0 freezes.

    Raises `InputError` for parameters, rates or outputs of another kind and for a kernel that
    does not fit the memory, `RuntimeError` without 64-bit types.
    Source: docs/theory/linearized.md#tangent-kernel.
    """
    fun, params, rates = checked_function(f, params, learning_rates)
    warn_of_precision(fun, params, x1)
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


class Linearisation(NamedTuple):
    """f(theta_0) with the two products of its Jacobian there."""

    start: Array
    push: Callable[[Any], Array]  # J displacement
    pull: Callable[[Array], Any]  # J^T vector


def linearisation(f: Callable[..., Any], params: Any, x: Any) -> Linearisation:
    """One forward pass, shared by all products taken of it.

    A function with a pull-back of its own (`jax.custom_vjp`) has no forward derivative; it is
    pushed forward by transposing the pull-back. Raises `InputError` for one without a pull-back.
    """

    def of_params(moved: Any) -> Array:
        return outputs(f, moved, x)

    start, push = jax.linearize(of_params, params)
    if _has_own_pull_back(jax.make_jaxpr(push)(params).jaxpr):
        start, pull = jax.vjp(of_params, params)
        forward = jax.linear_transpose(lambda vector: pull(vector)[0], start)
        return Linearisation(start, lambda moved: forward(moved)[0], lambda vector: pull(vector)[0])
    transposed = jax.linear_transpose(push, params)
    try:
        jax.eval_shape(transposed, start)
    except ValueError as error:
        if "everse-mode" not in str(error):
            raise
        reason = str(error).partition("\n")[0].partition(". ")[0]
        allowed = "must be differentiable backward as well as forward (scan with a fixed length is)"
        raise InputError("f", reason, allowed) from error
    return Linearisation(start, push, lambda vector: transposed(vector)[0])


def _has_own_pull_back(jaxpr: Any) -> bool:
    """Whether a derivative holds the place of one that only `jax.custom_vjp` gives, backward."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "custom_lin":
            return True
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns") and _has_own_pull_back(inner):
                    return True
    return False


def scaled(rates: Any, tree: Any) -> Any:
    return jax.tree.map(jnp.multiply, rates, tree)


@partial(jax.jit, static_argnames="f")
def kernel_product(f, params, rates, x1, x2, vector):
    return linearisation(f, params, x1).push(
        scaled(rates, linearisation(f, params, x2).pull(vector))
    )


def dense_kernel(f: Callable[..., Any], params: Any, rates: Any, x1: Any, x2: Any) -> Array:
    """The matrix Theta(x1, x2), refused where two copies exceed the memory present."""
    rows, columns = (math.prod(output_shape(f, params, x)) for x in (x1, x2))
    needed, present = 2 * 8 * rows * columns, psutil.virtual_memory().total
    if needed > present:
        raise InputError(
            "kernel",
            f"of {rows} x {columns} numbers",
            f"needs {needed / 2**30:.0f} GiB and the memory is {present / 2**30:.0f} GiB; "
            "take a smaller number of points or products without the matrix",
        )
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params)) + rows + columns
    return _columns(f, params, rates, x1, x2, max(1, min(columns, BLOCK_BYTES // (8 * numbers))))


@partial(jax.jit, static_argnames=("f", "block"))
def _columns(f, params, rates, x1, x2, block):
    left, right = linearisation(f, params, x1), linearisation(f, params, x2)
    shape, size = right.start.shape, right.start.size

    def column(index):
        unit = jnp.zeros(size).at[index].set(1).reshape(shape)
        return left.push(scaled(rates, right.pull(unit))).ravel()

    return jax.lax.map(column, jnp.arange(size), batch_size=block).T


def weighted_product(
    f: Callable[..., Any], params: Any, rates: Any, x: Any, share: Floats
) -> Callable[[Floats], Floats]:
    """v -> P^(1/2) Theta P^(1/2) v on flat vectors; `share` is the square root of p, (N n,)."""
    shape = output_shape(f, params, x)

    def product(vector: Floats) -> Floats:
        weighted = jnp.asarray((share * vector).reshape(shape))
        return share * np.asarray(kernel_product(f, params, rates, x, x, weighted)).ravel()

    return product


def largest_mode(product: Callable[[Floats], Floats], size: int) -> tuple[float, Floats]:
    """Largest eigenvalue of a symmetric operator and its unit eigenvector, shape (size,)."""
    if size < EIGH_FROM:
        values, vectors = np.linalg.eigh(np.stack([product(unit) for unit in np.eye(size)]))
        return float(values[-1]), vectors[:, -1]
    start = np.random.default_rng(0).standard_normal(size)
    if not np.any(product(start)):  # the iteration has no answer for the zero operator
        return 0.0, start / np.linalg.norm(start)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)  # type: ignore
    values, vectors = eigsh(operator, k=1, which="LA", v0=start)
    return float(values[0]), vectors[:, 0]
