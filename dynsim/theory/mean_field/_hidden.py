"""The hidden layers of one step: the readout pulled down through them, the residuals carried up.

h_l = s h_{l-1} + A_l h_{l-1}, s = 1 with skip connections and 0 without. With n outputs the
gradient of A_l has rank n: it is the readout at level l, B_l, times the residuals at level l - 1,
M_{l-1},

    B_{l-1} = s B_l + A_l^T B_l,      B_L = W
    M_l     = s M_{l-1} + A_l M_{l-1},  M_0 = sum_i b_i e_i,

n numbers a neuron each. A_l is (a_t)(its start, a Gaussian matrix) + (what training has moved), and
the Gaussian matrix is conditioned on what it has been seen to do to B_l and M_{l-1}. With tables
the gradient's entries are those of B_l M_{l-1}^T over pairs of neuron particles; in the bases of
the directions seen it is a small matrix of coefficients, which is all that Muon needs.

Source: docs/theory/mean_field.md#hidden-layers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._conditioning import Seen, known_image, pulled, where_new, without, write
from ._population import ABOVE, BELOW, Population, frame_of, framed, fresh_normals


class Hidden(NamedTuple):
    """All hidden matrices of a network with L of them, rows at the upper level."""

    moved: Float[Array, "L N N"]
    scales: Float[Array, " L"]  # of the Gaussian matrix: initial std and what decay has left
    seen: Seen


class Pass(NamedTuple):
    """One step's passage through all hidden layers, in either direction."""

    reached: Float[Array, "N n"]  # the other end
    inputs: Float[Array, "L N n"]  # what every matrix was applied to
    coefficients: Float[Array, "L K n"]  # the same in the basis of its side
    seen: Seen
    frames: Float[Array, "f N F"]


class Rule(NamedTuple):
    """What both passes need besides the layers."""

    population: Population
    skip: float
    responses: bool
    columns: int  # of a frame, for each level and side
    at: Int[Array, ""]  # the step


def pulled_down(
    rule: Rule,
    hidden: Hidden,
    readout: Float[Array, "N n"],
    frames: Float[Array, "f N F"],
    sequences: Float[Array, "L N n"],
) -> Pass:
    """From B_L = W to B_0. `sequences` are the fresh Gaussians of every matrix."""
    return _through(rule, hidden, readout, frames, sequences, upwards=False)


def carried_up(
    rule: Rule,
    hidden: Hidden,
    residuals: Float[Array, "N n"],
    frames: Float[Array, "f N F"],
    sequences: Float[Array, "L N n"],
) -> Pass:
    """From M_0 to M_L."""
    return _through(rule, hidden, residuals, frames, sequences, upwards=True)


def _through(
    rule: Rule,
    hidden: Hidden,
    start: Float[Array, "N n"],
    frames: Float[Array, "f N F"],
    sequences: Float[Array, "L N n"],
    upwards: bool,
) -> Pass:
    depth, metric = len(hidden.scales), rule.population.metric

    def layer(carry, inputs):
        vectors, frames = carry
        place, moved, scale, seen, sequence = inputs
        direct = rule.skip * vectors + applied(moved, metric, vectors, upwards)
        step = through_matrix(rule, place, scale, seen, vectors, direct, frames, sequence, upwards)
        return (step.reached, step.frames), (vectors, step.coefficients, step.seen)

    places = jnp.arange(depth)
    (reached, frames), (inputs, coefficients, seen) = jax.lax.scan(
        layer,
        (start, frames),
        (places, hidden.moved, hidden.scales, hidden.seen, sequences),
        reverse=not upwards,
    )
    return Pass(reached, inputs, coefficients, seen, frames)


def applied(
    table: Float[Array, "P N"],
    metric: Float[Array, " inside"],
    vectors: Float[Array, "inside n"],
    upwards: bool = True,
) -> Float[Array, "outside n"]:
    """A table of pairs (or the transposed one) times vectors, in the table's precision."""
    weighted = (metric[:, None] * vectors).astype(table.dtype)
    product = table @ weighted if upwards else pulled(table, weighted)
    return product.astype(vectors.dtype)


class Met(NamedTuple):
    """One matrix that was applied to c vectors."""

    reached: Float[Array, "N c"]
    coefficients: Float[Array, "K c"]  # of the vectors in the basis of their side
    seen: Seen
    frames: Float[Array, "f N F"]


def through_matrix(
    rule: Rule,
    place: int | Int[Array, ""],
    scale: Float[Array, ""],
    seen: Seen,
    vectors: Float[Array, "N c"],
    direct: Float[Array, "N c"],
    frames: Float[Array, "f N F"],
    sequence: Float[Array, "N c"],
    upwards: bool,
) -> Met:
    """(scale)(Gaussian matrix) vectors + direct, of the matrix between levels place and place + 1.

    Upwards it is applied to vectors of the lower level, else its transpose to ones of the upper.
    `sequence` holds the fresh Gaussians, as in `fresh_normals`.
    """
    metric, count = rule.population.metric, vectors.shape[1]
    side = BELOW if upwards else ABOVE
    inside, outside = (seen.columns, seen.rows) if upwards else (seen.rows, seen.columns)
    level = place + 1 if upwards else place  # of the image; level 0 reads the embedding
    known = known_image(inside, outside, vectors, metric, rule.responses)
    guess = scale * (known.expected + known.responding @ known.root) + direct
    order = jnp.argsort(guess[:, rule.at % count])
    frame = frame_of(frames, level)
    block, noise = fresh_normals(rule.population, sequence, order, frame)
    noise = without(outside.basis, metric, noise)
    image = where_new(known.fresh, known.responding + noise)
    frames = framed(frames, block, rule.at, level, side, rule.columns)
    coefficients = write(known.old.T, known.root.T, rule.at).T
    inside = inside._replace(basis=write(inside.basis, known.fresh, rule.at))
    outside = outside._replace(image=write(outside.image, image, rule.at))
    seen = Seen(outside, inside) if upwards else Seen(inside, outside)
    reached = scale * (known.expected + image @ known.root) + direct
    return Met(reached, coefficients, seen, frames)


def pair_table(
    rows: Float[Array, "L N n"], columns: Float[Array, "L N n"]
) -> Float[Array, "L N N"]:
    """sum_k rows_k columns_k of every pair of neurons, layer by layer."""
    return jnp.einsum("lan,lbn->lab", rows, columns)
