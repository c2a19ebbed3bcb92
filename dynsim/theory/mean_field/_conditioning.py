"""The random embedding Z, conditioned on the directions in which it has been seen.

Z (tokens x width, entries N(0, 1)) enters the dynamics only through the fields u = Z w, one number
a token, and v = Z^T b, one number a neuron. With Q_w an orthonormal basis of the past w and Q_b one
of the past b, new vectors split into old and new directions, w = Q_w a + q root and
b = Q_b c + q' root', and

    Z q    = Q_b (Z^T Q_b)^T q  + (1 - Q_b Q_b^T) g,      g ~ N(0, 1) per token
    Z^T q' = Q_w (Z Q_w)^T q'   + (1 - Q_w Q_w^T) g',     g' ~ N(0, 1) per neuron.

The first terms are the responses R_w and R_r, the second the fresh part of the fields.
Inner products are sums over particles, weighted by a metric: how many tokens or neurons each
particle stands for. Source: docs/theory/mean_field.md#conditioning.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

NEW_DIRECTION = 1e-10  # smallest new part of a vector, relative to its length
NEW_AMONG_NEW = 1e-6  # and relative to the largest new part beside it


class Seen(NamedTuple):
    """What has been seen of Z: K = steps * outputs columns each, zero until written.

    N neuron particles, M token particles.
    """

    neuron_basis: Float[Array, "N K"]  # Q_w
    token_basis: Float[Array, "M K"]  # Q_b
    token_image: Float[Array, "M K"]  # Z Q_w
    neuron_image: Float[Array, "N K"]  # Z^T Q_b
    frame: Float[Array, "N twice_K"]  # orthonormal basis of Q_w and all fresh parts g'


def nothing_seen(tokens: int, neurons: int, columns: int) -> Seen:
    """The state before the first step."""
    by_token, by_neuron = (jnp.zeros((rows, columns)) for rows in (tokens, neurons))
    return Seen(by_neuron, by_token, by_token, by_neuron, jnp.zeros((neurons, 2 * columns)))


def split(
    vectors: Float[Array, "P n"], basis: Float[Array, "P K"], metric: Float[Array, " P"]
) -> tuple[Float[Array, "K n"], Float[Array, "P n"], Float[Array, "n n"]]:
    """(old, fresh, root) with vectors = basis @ old + fresh @ root.

    `fresh` is orthonormal in the metric and to the basis; a direction that is new only by rounding
    is a column of zeros.
    """
    size = jnp.sum(metric[:, None] * vectors**2)
    old = basis.T @ (metric[:, None] * vectors)
    rest = vectors - basis @ old
    again = basis.T @ (metric[:, None] * rest)
    old, rest = old + again, rest - basis @ again
    squares, axes = jnp.linalg.eigh(rest.T @ (metric[:, None] * rest))
    kept = (squares > NEW_DIRECTION**2 * size) & (squares > NEW_AMONG_NEW**2 * squares[-1])
    lengths = jnp.sqrt(jnp.where(kept, squares, 1))
    fresh = jnp.where(kept[None, :], rest @ axes / lengths[None, :], 0)
    root = jnp.where(kept, lengths, 0)[:, None] * axes.T
    gram, one = fresh.T @ (metric[:, None] * fresh), jnp.eye(len(squares))
    return old, fresh @ (1.5 * one - 0.5 * gram), 0.5 * (one + gram) @ root  # one Newton step


def response(
    basis: Float[Array, "P K"],
    other_image: Float[Array, "Q K"],
    metric: Float[Array, " Q"],
    fresh: Float[Array, "Q n"],
) -> Float[Array, "P n"]:
    """Q_b (Z^T Q_b)^T q, or Q_w (Z Q_w)^T q': what the fields already seen say of a new one."""
    return basis @ (other_image.T @ (metric[:, None] * fresh))


def without(
    basis: Float[Array, "P K"], metric: Float[Array, " P"], noise: Float[Array, "P n"]
) -> Float[Array, "P n"]:
    """(1 - Q Q^T) g: the part of fresh Gaussians that is orthogonal to the basis."""
    return noise - basis @ (basis.T @ (metric[:, None] * noise))


def where_new(fresh: Float[Array, "P n"], image: Float[Array, "Q n"]) -> Float[Array, "Q n"]:
    """The image of each direction, zero for a column that `split` left empty."""
    return jnp.where(jnp.any(fresh != 0, axis=0)[None, :], image, 0)


def write(
    columns: Float[Array, "P K"], block: Float[Array, "P n"], place: Int[Array, ""]
) -> Float[Array, "P K"]:
    """`columns` with `block` at columns place * n and after."""
    return jax.lax.dynamic_update_slice(columns, block, (0, place * block.shape[1]))


def defect(
    seen: Seen, multiplicities: Float[Array, " M"], neurons: Float[Array, " N"]
) -> Float[Array, ""]:
    """Largest violation of Q_b^T (Z Q_w) = (Z^T Q_b)^T Q_w and of both bases' orthogonality.

    `multiplicities` and `neurons` are the metrics of tokens and neurons.
    """
    by_token = seen.token_basis.T @ (multiplicities[:, None] * seen.token_image)
    by_neuron = seen.neuron_image.T @ (neurons[:, None] * seen.neuron_basis)
    size = jnp.sqrt(jnp.mean(jnp.sum(neurons[:, None] * seen.neuron_image**2, axis=0)) + 1e-300)
    gaps = [jnp.max(jnp.abs(by_token - by_neuron)) / size]
    for basis, metric in ((seen.token_basis, multiplicities), (seen.neuron_basis, neurons)):
        gram = basis.T @ (metric[:, None] * basis)
        gaps.append(jnp.max(jnp.abs(gram - jnp.diag(jnp.round(jnp.diag(gram))))))
    return jnp.max(jnp.stack(gaps))
