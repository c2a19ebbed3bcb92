"""Fresh Gaussians for the neurons: evenly spread in value, or independent.

Evenly spread ones are made orthogonal to a frame: the fresh Gaussians that neurons of the same
population had before, and the basis of the readout. Without skip connections every level of the
network is a population of its own; in a residual network one neuron has a value at every level.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._conditioning import split
from ._sampling import even_points, normals

ABOVE, BELOW = 0, 1  # where a fresh Gaussian comes from: the matrix above a level, or below it


class Population(NamedTuple):
    """Neuron particles of every level: what one stands for, and how they are drawn."""

    width: Float[Array, ""]
    metric: Float[Array, " N"]  # how many neurons each particle stands for
    used: Bool[Array, "N one"]
    even: Bool[Array, ""]


def empty_frames(
    neurons: int, columns: int, depth: int, residual: bool, single: bool = False
) -> Float[Array, "f N F"]:
    """A frame for each population, of `columns` directions for each level and side of it.

    In `single` precision directions are orthogonal to it about as well as to each other's noise.
    """
    levels = depth + 1
    shape = (1, neurons, 2 * levels * columns) if residual else (levels, neurons, 2 * columns)
    return jnp.zeros(shape, jnp.float32 if single else jnp.float64)


def frame_of(frames: Float[Array, "f N F"], level: int | Int[Array, ""]) -> Float[Array, "N F"]:
    """The frame of the population to which a level belongs."""
    return frames[0] if len(frames) == 1 else frames[level]


def new_for(
    frame: Float[Array, "N F"], vectors: Float[Array, "N n"], metric: Float[Array, " N"]
) -> Float[Array, "N n"]:
    """Orthonormal directions of vectors that the frame lacks, to the frame's precision."""
    _, fresh, _ = split(vectors, frame, metric, twice=frame.dtype == vectors.dtype)
    return fresh


def framed(
    frames: Float[Array, "f N F"],
    block: Float[Array, "N n"],
    index: Int[Array, ""],
    level: int | Int[Array, ""],
    side: int,
    columns: int,
) -> Float[Array, "f N F"]:
    """The frames with the directions that a level has seen from one side at step `index`."""
    alone = len(frames) > 1
    slots = frames.shape[2] // columns
    slot = side if alone else 2 * level + side
    place = (slots * index + slot) * block.shape[1]
    block = block[None].astype(frames.dtype)
    return jax.lax.dynamic_update_slice(frames, block, (level if alone else 0, 0, place))


def sequence_of(
    population: Population, shift: Float[Array, " n"], points: Float[Array, "N n"]
) -> Float[Array, "N n"]:
    """Standard normals: evenly spread along an order that is not known yet, or independent."""
    spread = even_points(shift, jnp.arange(len(points)))
    return normals(jnp.where(population.even, spread, points))


def fresh_normals(
    population: Population,
    sequence: Float[Array, "N n"],
    order: Int[Array, " N"],
    frame: Float[Array, "N F"],
) -> tuple[Float[Array, "N n"], Float[Array, "N n"]]:
    """New directions for the frame, and standard normals (N, n).

    They are `sequence` along `order`, orthogonal to the frame; or, if they are to be independent,
    `sequence` as it is.
    """
    drawn = jnp.where(population.even, along(order, sequence), sequence)
    even = new_for(frame, drawn, population.metric)
    scaled = even * jnp.sqrt(population.width)
    return even, jnp.where(population.even, scaled, population.used * drawn)


def along(order: Int[Array, " P"], sequence: Float[Array, "P n"]) -> Float[Array, "P n"]:
    """Row k of the sequence for the particle that is number k in the order."""
    return jnp.zeros_like(sequence).at[order].set(sequence, unique_indices=True)
