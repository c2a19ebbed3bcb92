"""The normals of all steps, drawn before the first by programs of their own.

Random bits and inverse error functions take long to compile where they are used many times: small
programs that are compiled once take a fraction of that.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ._sampling import even_points, normals

ROWS = 6  # neurons of a hidden layer whose rows stand for all of them


class Points(NamedTuple):
    """Random numbers of solutions side by side, uniform in (0, 1), and a seed for others.

    Places 0 to T - 1 are for the steps' fresh Gaussians, the last token place for Z w^T and the
    last neuron place for the initial projection.
    """

    seed: Int[Array, " cases"]  # of the random numbers of hidden layers
    tokens: Float[Array, "cases places M n"]
    token_shifts: Float[Array, "cases places n"]  # of the evenly spread ones
    neurons: Float[Array, "cases places N n"]
    neuron_shifts: Float[Array, "cases places n"]


class Random(NamedTuple):
    """Normals of every step; those that are evenly spread have yet to be put in an order.

    `hidden` is for both directions of passage through a matrix; `rows` and `row_points` are what
    the sizes of updates need. All three are empty where no layer is hidden.
    """

    tokens: Float[Array, "*cases places M n"]
    neurons: Float[Array, "*cases places N n"]
    hidden: Float[Array, "*cases T L 2 N n"]
    rows: Float[Array, "*cases T L N c"]
    row_points: Float[Array, "*cases T L"]


def random_numbers(
    depth: int,
    points: Points,
    is_tail: Bool[Array, " M"],
    even: Bool[Array, ""],
) -> Random:
    """Evenly spread for the tokens of the tail and, where `even`, for neurons; else independent."""
    cases, places, neurons, n = points.neurons.shape
    steps = places - 1
    keys = _folded(jax.vmap(jax.random.key)(points.seed), steps)  # (cases, T)
    passages = _folded(keys, 2 * depth + 1)
    bits = _uniform(passages[..., :-1], (neurons + 1, n))
    bits = bits.reshape(cases, steps, depth, 2, neurons + 1, n)
    layers = _folded(passages[..., -1], depth)
    chosen, noise = _halves(layers)
    return Random(
        _spread_or_given(is_tail[:, None], points.token_shifts, points.tokens),
        _spread_or_given(even, points.neuron_shifts, points.neurons),
        _spread_or_given(even, bits[..., 0, :], bits[..., 1:, :]),
        _normal(noise, (neurons, 2 * n + ROWS * depth)),
        _uniform(chosen, ()),
    )


@jax.jit
def _spread_or_given(
    spread: Bool[Array, "*rows"],
    shifts: Float[Array, "*draws n"],
    points: Float[Array, "*draws P n"],
) -> Float[Array, "*draws P n"]:
    """Normals evenly spread along the rows, where that is wanted, or made of `points`."""
    spread = jnp.broadcast_to(spread, points.shape)
    return normals(jnp.where(spread, even_points(shifts, points.shape[-2]), points))


@partial(jax.jit, static_argnums=1)
def _folded(keys: Key[Array, "*draws"], count: int) -> Key[Array, "*draws count"]:
    """Every key folded with 0, ..., count - 1."""
    one = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    found = jax.vmap(one, in_axes=(0, None))(keys.ravel(), jnp.arange(count))
    return found.reshape(*keys.shape, count)


@jax.jit
def _halves(keys: Key[Array, "*draws"]) -> tuple[Key[Array, "*draws"], Key[Array, "*draws"]]:
    pair = jax.vmap(jax.random.split)(keys.ravel())
    return pair[:, 0].reshape(keys.shape), pair[:, 1].reshape(keys.shape)


@partial(jax.jit, static_argnums=1)
def _uniform(keys: Key[Array, "*draws"], shape: tuple[int, ...]) -> Array:
    drawn = jax.vmap(lambda key: jax.random.uniform(key, shape))(keys.ravel())
    return drawn.reshape(*keys.shape, *shape)


@partial(jax.jit, static_argnums=1)
def _normal(keys: Key[Array, "*draws"], shape: tuple[int, ...]) -> Array:
    drawn = jax.vmap(lambda key: jax.random.normal(key, shape))(keys.ravel())
    return drawn.reshape(*keys.shape, *shape)
