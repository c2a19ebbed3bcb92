"""Uniform points, evenly spread or random and stratified, and the normals made of them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
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


def even_points(shift: Float[Array, " n"], order: Int[Array, " P"]) -> Float[Array, "P n"]:
    """Uniform points that fill the space of (place in the order, values) evenly.

    A Kronecker sequence (powers of the root of x^(n+1) = x + 1) along the order, shifted.
    """
    count = len(order)
    place = jnp.zeros(count).at[order].set(jnp.arange(1.0, count + 1))
    return _kronecker(place, shift)


def _kronecker(place: Any, shift: Any) -> Any:
    return (place[:, None] * _slopes(len(shift))[None, :] + shift[None, :]) % 1.0


def _slopes(outputs: int) -> Float[np.ndarray, " n"]:
    base = 2.0
    for _ in range(64):
        base = (1 + base) ** (1 / (outputs + 1))
    return np.asarray([base ** -(axis + 1) for axis in range(outputs)])


@partial(jax.jit, static_argnames="count")
def even_normals(shifts: Float[Array, "S n"], count: int) -> Float[Array, "S count n"]:
    """Normals at `even_points` one after another, for each shift."""
    along = jnp.arange(count)
    return jax.vmap(lambda shift: normals(even_points(shift, along)))(shifts)


@jax.jit
def normals_at(points: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`normals` as a program of its own."""
    return normals(points)


def normals(points: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Standard normals at uniform points, by the inverse of their distribution function."""
    return math.sqrt(2) * jax.scipy.special.erfinv(jnp.clip(2 * points - 1, -LARGEST, LARGEST))


LARGEST = 1 - 1e-12
"""value of the error function, of either sign, whose inverse is a normal over sqrt(2)"""


def normals_of_few(points: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """`normals` by scipy, to rounding: nothing is compiled, and each takes longer."""
    return math.sqrt(2) * scipy.special.erfinv(np.clip(2 * points - 1, -LARGEST, LARGEST))


def few_even_normals(
    shifts: Float[np.ndarray, "S n"], count: int
) -> Float[np.ndarray, "S count n"]:
    """`even_normals` by scipy."""
    place = np.arange(1.0, count + 1)
    return normals_of_few(np.stack([_kronecker(place, shift) for shift in shifts]))
