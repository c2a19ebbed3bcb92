"""Uniform points, evenly spread or random and stratified, and the normals made of them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def stratified_points(
    random: np.random.Generator, draws: int, shape: tuple[int, ...]
) -> Float[np.ndarray, "draws ..."]:
    """Uniform points (draws, *shape), whose distances from 1/2 are a Latin hypercube over draws.

    Normals made of them have stratified sizes; a single draw is as random as any.
    """
    stratum = np.broadcast_to(np.arange(draws).reshape(-1, *(1 for _ in shape)), (draws, *shape))
    distance = (random.permuted(stratum, axis=0) + random.random((draws, *shape))) / (2 * draws)
    return 0.5 + np.where(random.random(shape) < 0.5, -distance, distance)


def even_points(shifts: Float[Array, "*draws n"], count: int) -> Float[Array, "*draws P n"]:
    """Uniform points, `count` a draw, that fill the space of (place in the draw, values) evenly.

    A Kronecker sequence (powers of the root of x^(n+1) = x + 1), shifted.
    """
    outputs = shifts.shape[-1]
    base = 2.0
    for _ in range(64):
        base = (1 + base) ** (1 / (outputs + 1))
    slopes = np.asarray([base ** -(axis + 1) for axis in range(outputs)])
    steps = jnp.arange(1.0, count + 1)[:, None] * slopes[None, :]
    steps = jnp.expand_dims(steps, tuple(range(shifts.ndim - 1)))
    return (steps + shifts[..., None, :]) % 1.0


def in_order(values: Float[Array, "P n"], order: Int[Array, " P"]) -> Float[Array, "P n"]:
    """The first row at the place that is first in the order, and so on."""
    return jnp.zeros_like(values).at[order].set(values, unique_indices=True)


def normals(points: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Standard normals at uniform points, by the inverse of their distribution function."""
    return math.sqrt(2) * jax.scipy.special.erfinv(jnp.clip(2 * points - 1, -1 + 1e-12, 1 - 1e-12))
