"""Sizes of updates in a network with hidden layers: mean squares of what they do to all tokens.

An update of a layer, such as (A_l - A_l(0)) h_{l-1,i}, is a sum over neurons of level l - 1. Its
coefficients are rows of a matrix: those of the outputs for the readout, those of a few neurons for
a hidden layer, drawn with a probability in proportion to the square of their row and weighted by
its inverse. A row is pulled down through the layers below as the readout is. There it
meets the embedding, and the mean square over tokens is a sum over token particles. What has been
seen of the Gaussian matrices is used; the rest is drawn anew, or averaged over for the embedding,
and not kept: it stands for the vectors of a step alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dynsim._draws import normal

from ._conditioning import Seen, Side, pulled, pushed, without
from ._hidden import Hidden
from ._population import Population

ROWS = 6  # neurons of a hidden layer whose rows stand for all of them


def readout_and_hidden_squares(
    population: Population,
    skip: float,
    hidden: Hidden,
    hidden_std: Float[Array, ""],
    readouts: Float[Array, "N c"],
    embedding: tuple[Seen, Float[Array, ""], Float[Array, "M N"]],
    mass: Float[Array, " M"],
    key: Key[Array, ""],
) -> tuple[Float[Array, " c"], Float[Array, " L"]]:
    """sum_i p_i x_i^2 of every row of `readouts`, x_i = row . h_{L,i}, and of hidden layers.

    For hidden layers x_i is (A_l - A_l(0)) h_{l-1,i}, averaged over some neurons of the layer.
    `embedding` holds what has been seen of the initial one, its scale, and what training has moved;
    `mass` is the frequency of a token particle times its multiplicity.
    """
    depth, count = len(hidden.scales), readouts.shape[1]
    metric = population.metric

    def layer(vectors, inputs):
        place, moved, scale, seen = inputs
        chosen_key, noise_key = jax.random.split(jax.random.fold_in(key, place))
        noise = normal(noise_key, vectors.shape)
        image = image_by_itself(seen.rows, seen.columns, vectors, metric, population.used * noise)
        vectors = skip * vectors + scale * image + moved.T @ (metric[:, None] * vectors)
        shrunk = scale - hidden_std
        energy = metric * (moved**2 @ metric + shrunk**2 * population.width)
        chosen, weight = _drawn_rows(chosen_key, energy)
        own = moved[chosen].T + shrunk * _rows(seen, chosen, metric, noise[:, :ROWS])
        own = own * jnp.sqrt(metric[chosen] * weight / population.width)[None, :]
        start = count + ROWS * place
        return jax.lax.dynamic_update_slice(vectors, own, (0, start)), None

    vectors = jnp.pad(readouts, ((0, 0), (0, ROWS * depth)))
    places = jnp.arange(depth)
    vectors, _ = jax.lax.scan(
        layer, vectors, (places, hidden.moved, hidden.scales, hidden.seen), reverse=True
    )
    squares = mass @ _token_squares(vectors, metric, *embedding)
    return squares[:count], jnp.mean(squares[count:].reshape(depth, ROWS), axis=1)


def _drawn_rows(
    key: Key[Array, ""], energy: Float[Array, " N"]
) -> tuple[Int[Array, " rows"], Float[Array, " rows"]]:
    """`ROWS` particles, evenly along the running sum of their energies, and 1/probability."""
    running = jnp.cumsum(energy)
    places = (jax.random.uniform(key) + jnp.arange(ROWS)) / ROWS * running[-1]
    chosen = jnp.minimum(jnp.searchsorted(running, places, side="right"), len(energy) - 1)
    own = energy[chosen]
    return chosen, jnp.where(own > 0, running[-1] / jnp.where(own > 0, own, 1), 0)


def image_by_itself(
    inside: Side,
    outside: Side,
    vectors: Float[Array, "P c"],
    metric: Float[Array, " P"],
    noise: Float[Array, "Q c"],
) -> Float[Array, "Q c"]:
    """What a Gaussian matrix makes of each vector by itself, given what has been seen of it."""
    old = pulled(inside.basis, metric[:, None] * vectors)
    rest = vectors - pushed(inside.basis, old)
    length = jnp.sqrt(jnp.sum(metric[:, None] * rest**2, axis=0))
    answer = pushed(outside.basis, pulled(inside.image, metric[:, None] * rest))
    return (
        pushed(outside.image, old)
        + answer
        + length[None, :] * without(outside.basis, metric, noise)
    )


def _rows(
    seen: Seen, chosen: Array, metric: Float[Array, " N"], noise: Float[Array, "N c"]
) -> Float[Array, "N c"]:
    """Rows of a Gaussian matrix, one for each chosen neuron."""
    rows, columns = seen
    basis = rows.basis[chosen]
    answer = rows.image[chosen].T - (rows.image.T @ (metric[:, None] * rows.basis)) @ basis.T
    length = jnp.sqrt(jnp.maximum(1 - jnp.sum(basis**2, axis=1), 0))
    known = columns.image @ basis.T + columns.basis @ answer
    return known + length[None, :] * without(columns.basis, metric, noise)


def _token_squares(
    vectors: Float[Array, "N c"],
    metric: Float[Array, " N"],
    seen: Seen,
    scale: Float[Array, ""],
    moved: Float[Array, "M N"],
) -> Float[Array, "M c"]:
    """(e_i . vector)^2 of every token, the mean over what is not known of its embedding."""
    rows, columns = seen
    weighted = metric[:, None] * vectors
    old = pulled(columns.basis, weighted)
    rest = vectors - pushed(columns.basis, old)
    square = jnp.sum(metric[:, None] * rest**2, axis=0)
    answer = pushed(rows.basis, pulled(columns.image, metric[:, None] * rest))
    known = scale * (pushed(rows.image, old) + answer) + moved @ weighted
    unknown = jnp.maximum(1 - jnp.sum(rows.basis**2, axis=1), 0)
    return known**2 + scale**2 * unknown[:, None] * square[None, :]
