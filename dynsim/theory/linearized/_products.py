"""Products with the Jacobian of a function and with its kernel, and the kernel's largest mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.sparse.linalg import LinearOperator, eigsh

from dynsim._errors import InputError

from ._functions import Floats, output_shape, outputs

EIGH_FROM = 32  # below this size an iterative eigensolver has no room


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
