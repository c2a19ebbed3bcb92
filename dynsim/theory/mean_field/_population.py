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
from ._sampling import in_order

ABOVE, BELOW = 0, 1  # where a fresh Gaussian comes from: the matrix above a level, or below it


class Population(NamedTuple):
    """Neuron particles of every level: what one stands for, and how they are drawn."""

    width: Float[Array, ""]
    metric: Float[Array, " N"]  # how many neurons each particle stands for
    used: Bool[Array, "N one"]
    even: Bool[Array, ""]


def empty_frames(neurons: int, columns: int, depth: int, residual: bool) -> Float[Array, "f N F"]:
    """A frame for each population, of `columns` directions for each level and side of it."""
    levels = depth + 1
    shape = (1, neurons, 2 * levels * columns) if residual else (levels, neurons, 2 * columns)
    return jnp.zeros(shape)


def frame_of(frames: Float[Array, "f N F"], level: int | Int[Array, ""]) -> Float[Array, "N F"]:
    """The frame of the population to which a level belongs."""
    return frames[0] if len(frames) == 1 else frames[level]


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
    return jax.lax.dynamic_update_slice(frames, block[None], (level if alone else 0, 0, place))


def fresh_normals(
    population: Population,
    undirected: Float[Array, "N n"],
    order: Int[Array, " N"],
    frame: Float[Array, "N F"],
) -> tuple[Float[Array, "N n"], Float[Array, "N n"]]:
    """New directions for the frame, and standard normals (N, n).

    They are evenly spread along `order` and orthogonal to the frame, or independent.
    """
    drawn = in_order(undirected, jnp.where(population.even, order, jnp.arange(len(order))))
    _, even, _ = split(drawn, frame, population.metric)
    scaled = even * jnp.sqrt(population.width)
    return even, jnp.where(population.even, scaled, population.used * drawn)
