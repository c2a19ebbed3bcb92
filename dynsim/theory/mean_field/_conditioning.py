"""A random Gaussian matrix Z, conditioned on the directions in which it has been seen.

The initial embedding (tokens x neurons) and every initial hidden matrix (neurons x neurons), with
entries N(0, 1), enter the dynamics only through their images of a few vectors. For the embedding
these are the fields u = Z w, one number a token, and v = Z^T b, one number a neuron. With Q_w an
orthonormal basis of the past w and Q_b one of the past b, new vectors split into old and new
directions, w = Q_w a + q root and b = Q_b c + q' root', and

    Z q    = Q_b (Z^T Q_b)^T q  + (1 - Q_b Q_b^T) g,      g ~ N(0, 1) per row
    Z^T q' = Q_w (Z Q_w)^T q'   + (1 - Q_w Q_w^T) g',     g' ~ N(0, 1) per column.

The first terms are the responses R_w and R_r, the second the fresh part of the fields. Both lines
are one, with rows and columns exchanged; a vector and its image lie on two `Side`s of the matrix.
Inner products are sums over particles, weighted by a metric: how many tokens or neurons each
particle stands for. Source: docs/theory/mean_field.md#conditioning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynsim._linear_algebra import eigh

NEW_DIRECTION = 1e-10  # smallest new part of a vector, relative to its length
NEW_AMONG_NEW = 1e-6  # and relative to the largest new part beside it
NEW_IN_SINGLE = 3e-6  # instead of the former, where tables are in single precision


class Side(NamedTuple):
    """What has been seen of a matrix on one of its sides: K = steps * outputs columns each.

    Columns are zero until written. P is the number of particles of this side.
    """

    basis: Float[Array, "*layers P K"]  # of the vectors on this side to which it was applied
    image: Float[Array, "*layers P K"]  # of the other side's basis


class Seen(NamedTuple):
    """Both sides of a matrix: Q_b and Z Q_w of its rows, Q_w and Z^T Q_b of its columns."""

    rows: Side
    columns: Side


def nothing_seen(
    rows: int, columns: int, directions: int, *layers: int, single: bool = False
) -> Seen:
    """The state before the first step, of one matrix or of several of a shape."""
    precision = jnp.float32 if single else jnp.float64
    by_row, by_column = (
        jnp.zeros((*layers, count, directions), precision) for count in (rows, columns)
    )
    return Seen(Side(by_row, by_row), Side(by_column, by_column))


class Known(NamedTuple):
    """What is known of the image of some vectors before anything fresh is drawn.

    image = expected + (responding + fresh Gaussians) @ root, and the vectors are
    basis @ old + fresh @ root.
    """

    old: Float[Array, "K n"]
    fresh: Float[Array, "P n"]
    root: Float[Array, "n n"]
    expected: Float[Array, "Q n"]
    responding: Float[Array, "Q n"]


def known_image(
    inside: Side,
    outside: Side,
    vectors: Float[Array, "P n"],
    metric: Float[Array, " P"],
    responses: bool,
) -> Known:
    """Of vectors on the side `inside`, whose metric is given, as seen from `outside`."""
    old, fresh, root = split(vectors, inside.basis, metric)
    responding = jnp.zeros((len(outside.basis), vectors.shape[1]))
    if responses:
        responding = response(outside.basis, inside.image, metric, fresh)
    return Known(old, fresh, root, pushed(outside.image, old), responding)


def split(
    vectors: Float[Array, "P n"],
    basis: Float[Array, "P K"],
    metric: Float[Array, " P"],
    twice: bool = True,
) -> tuple[Float[Array, "K n"], Float[Array, "P n"], Float[Array, "n n"]]:
    """(old, fresh, root) with vectors = basis @ old + fresh @ root.

    `fresh` is orthonormal in the metric and to the basis; a direction that is new only by rounding
    is a column of zeros. What is old is taken off `twice`, or once where rounding does no harm.
    """
    if basis.dtype != vectors.dtype:
        return _split_in_single(vectors, basis, metric, twice)
    size = jnp.sum(metric[:, None] * vectors**2)
    old, rest = _taken_off(vectors, basis, metric)
    if twice:
        again, rest = _taken_off(rest, basis, metric)
        old = old + again
    fresh, root = _orthonormal(rest, metric, NEW_DIRECTION**2 * size)
    return old, *_newton_step(fresh, root, metric)


def _split_in_single(
    vectors: Float[Array, "P n"],
    basis: Float[Array, "P K"],
    metric: Float[Array, " P"],
    twice: bool,
) -> tuple[Float[Array, "K n"], Float[Array, "P n"], Float[Array, "n n"]]:
    """`split` with a basis in single precision.

    The old part leaves rounding in the old directions, and beside a small new part that is much. So
    new directions are made of vectors of length 1 each, and get their own length before what is old
    is taken off again. What is too small for that has no direction.
    """
    lengths = jnp.sqrt(jnp.sum(metric[:, None] * vectors**2, axis=0, keepdims=True))
    lengths = jnp.where(lengths > 0, lengths, 1)
    old, rest = _taken_off(vectors / lengths, basis, metric)
    fresh, root = _orthonormal(rest, metric, NEW_IN_SINGLE**2)
    if twice:
        again, rest = _taken_off(fresh, basis, metric)
        old = old + again @ root
        fresh, more = _orthonormal(rest, metric, 0.0)
        root = more @ root
    fresh, root = _newton_step(fresh, root, metric)
    return old * lengths, fresh, root * lengths


def _newton_step(
    fresh: Float[Array, "P n"], root: Float[Array, "n n"], metric: Float[Array, " P"]
) -> tuple[Float[Array, "P n"], Float[Array, "n n"]]:
    """Both with `fresh` closer to orthonormal."""
    gram, one = fresh.T @ (metric[:, None] * fresh), jnp.eye(len(root))
    return fresh @ (1.5 * one - 0.5 * gram), 0.5 * (one + gram) @ root


def _orthonormal(
    rest: Float[Array, "P n"], metric: Float[Array, " P"], least: Float[Array, ""] | float
) -> tuple[Float[Array, "P n"], Float[Array, "n n"]]:
    """(fresh, root) with rest = fresh @ root; directions with squares up to `least` are zero."""
    squares, axes = eigh(rest.T @ (metric[:, None] * rest))
    kept = (squares > least) & (squares > NEW_AMONG_NEW**2 * squares[-1])
    lengths = jnp.sqrt(jnp.where(kept, squares, 1))
    fresh = jnp.where(kept[None, :], rest @ axes / lengths[None, :], 0)
    return fresh, jnp.where(kept, lengths, 0)[:, None] * axes.T


def _taken_off(
    vectors: Float[Array, "P n"], basis: Float[Array, "P K"], metric: Float[Array, " P"]
) -> tuple[Float[Array, "K n"], Float[Array, "P n"]]:
    """Coefficients in the basis, and what they leave."""
    old = pulled(basis, metric[:, None] * vectors)
    return old, vectors - pushed(basis, old)


_TRANSPOSED: ContextVar[bool] = ContextVar("tables are transposed", default=True)


@contextmanager
def transposed_tables(transposed: bool) -> Iterator[None]:
    """Within it, how the products of `pulled` are traced; by default tables are transposed."""
    token = _TRANSPOSED.set(transposed)
    try:
        yield
    finally:
        _TRANSPOSED.reset(token)


def pulled(table: Float[Array, "P N"], vectors: Float[Array, "P n"]) -> Float[Array, "N n"]:
    """The transposed table times vectors, in the table's precision.

    To transpose the table takes longer than the product, so it is written without. With
    `transposed_tables`, sums in double precision keep the order that stored results have.
    """
    given = vectors.astype(table.dtype)
    if not _TRANSPOSED.get():  # with barriers, else XLA would turn it round
        across = jax.lax.optimization_barrier(given.T)
        product = jax.lax.optimization_barrier(across @ table).T
    elif table.dtype == jnp.float32:
        product = (given.T @ table).T
    else:
        product = table.T @ given
    return product.astype(vectors.dtype)


def pushed(table: Float[Array, "P N"], coefficients: Float[Array, "N n"]) -> Float[Array, "P n"]:
    """The table times coefficients, in the table's precision."""
    return (table @ coefficients.astype(table.dtype)).astype(coefficients.dtype)


def response(
    basis: Float[Array, "P K"],
    other_image: Float[Array, "Q K"],
    metric: Float[Array, " Q"],
    fresh: Float[Array, "Q n"],
) -> Float[Array, "P n"]:
    """Q_b (Z^T Q_b)^T q, or Q_w (Z Q_w)^T q': what the fields already seen say of a new one."""
    return pushed(basis, pulled(other_image, metric[:, None] * fresh))


def without(
    basis: Float[Array, "P K"], metric: Float[Array, " P"], noise: Float[Array, "P n"]
) -> Float[Array, "P n"]:
    """(1 - Q Q^T) g: the part of fresh Gaussians that is orthogonal to the basis."""
    return noise - pushed(basis, pulled(basis, metric[:, None] * noise))


def where_new(fresh: Float[Array, "P n"], image: Float[Array, "Q n"]) -> Float[Array, "Q n"]:
    """The image of each direction, zero for a column that `split` left empty."""
    return jnp.where(jnp.any(fresh != 0, axis=0)[None, :], image, 0)


def write(
    columns: Float[Array, "P K"], block: Float[Array, "P n"], place: Int[Array, ""]
) -> Float[Array, "P K"]:
    """`columns` with `block` at columns place * n and after."""
    return jax.lax.dynamic_update_slice(
        columns, block.astype(columns.dtype), (0, place * block.shape[1])
    )


def defect(
    seen: Seen, by_row: Float[Array, " P"], by_column: Float[Array, " Q"]
) -> Float[Array, ""]:
    """Largest violation of Q_b^T (Z Q_w) = (Z^T Q_b)^T Q_w and of both bases' orthogonality.

    `by_row` and `by_column` are the metrics of rows and columns.
    """
    rows, columns = seen

    def weighted(metric, table):
        return metric.astype(table.dtype)[:, None] * table

    from_rows = rows.basis.T @ weighted(by_row, rows.image)
    from_columns = columns.image.T @ weighted(by_column, columns.basis)
    squares = jnp.sum(weighted(by_column, columns.image**2), axis=0)
    size = jnp.sqrt(jnp.mean(squares) + 1e-30)
    gaps = [jnp.max(jnp.abs(from_rows - from_columns)) / size]
    for basis, metric in ((columns.basis, by_column), (rows.basis, by_row)):
        gram = basis.T @ weighted(metric, basis)
        gaps.append(jnp.max(jnp.abs(gram - jnp.diag(jnp.round(jnp.diag(gram))))))
    return jnp.max(jnp.stack(gaps)).astype(float)
