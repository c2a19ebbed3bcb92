"""A Gaussian matrix as each of many members sees it: shared directions, and ones of its own.

In a nonlinear layer hidden neuron a meets the initial embedding Z through vectors that differ from
neuron to neuron. What all neurons have in common are a few shared directions, with one image for
all. The rest of a vector is independent between neurons, and for it neuron a may be given a
Gaussian matrix of its own (Gaussian equivalence): its image is drawn for this neuron alone, given
all that the neuron has seen. Tokens see the initial hidden matrix in the same way.

Everything of one member is conditioned by `_conditioning`; here it is done for all of them.
Source: docs/theory/mean_field.md#gaussian-equivalence.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dynsim._draws import normal
from dynsim.theory.mean_field._conditioning import (
    Seen,
    Side,
    known_image,
    nothing_seen,
    split,
    where_new,
    without,
    write,
)


class Copies(NamedTuple):
    """What has been seen by all together, and by each member; metrics of rows and columns."""

    shared: Seen
    own: Seen  # of every member, on a leading axis
    by_row: Float[Array, " P"]
    by_column: Float[Array, " Q"]


def no_copies(
    members: int, by_row: Float[Array, " P"], by_column: Float[Array, " Q"], directions: int
) -> Copies:
    """Before anything was seen; `directions` of each member on either side at the most."""
    size = len(by_row), len(by_column), directions
    return Copies(nothing_seen(*size), nothing_seen(*size, members), by_row, by_column)


def shared_direction(
    copies: Copies,
    vector: Float[Array, " P"],
    of_rows: bool,
    place: Int[Array, ""],
    noise: Float[Array, " Q"],
) -> Copies:
    """Every member learns one image of a vector on the side of rows (or of columns)."""
    inside, outside, metric, other = _sides(copies.shared, copies, of_rows)
    known = known_image(inside, outside, vector[:, None], metric, True)
    drawn = without(outside.basis, other, noise[:, None])
    image = where_new(known.fresh, known.responding + drawn)
    direction = known.fresh
    inside = inside._replace(basis=write(inside.basis, direction, place))
    outside = outside._replace(image=write(outside.image, image, place))
    copies = copies._replace(shared=_seen(inside, outside, of_rows))
    members = len(copies.own.rows.basis)
    vectors, images = (
        jnp.broadcast_to(one[:, 0][None, :], (members, len(one))) for one in (direction, image)
    )
    return given_images(copies, vectors, images, of_rows, place)


def shared_image(
    copies: Copies,
    vector: Float[Array, " P"],
    image: Float[Array, " Q"],
    of_rows: bool,
    place: Int[Array, ""],
) -> Copies:
    """Every member learns one image of a vector that is known already."""
    inside, outside, metric, _ = _sides(copies.shared, copies, of_rows)
    inside, outside = _with_image(inside, outside, metric, vector, image, place)
    copies = copies._replace(shared=_seen(inside, outside, of_rows))
    members = len(copies.own.rows.basis)
    vectors, images = (
        jnp.broadcast_to(one[None, :], (members, len(one))) for one in (vector, image)
    )
    return given_images(copies, vectors, images, of_rows, place)


def image_for_all(copies: Copies, vector: Float[Array, " P"], of_rows: bool) -> Float[Array, " Q"]:
    """The image of a vector in the span of the shared directions."""
    inside, outside, metric, _ = _sides(copies.shared, copies, of_rows)
    return outside.image @ (inside.basis.T @ (metric * vector))


def _with_image(
    inside: Side,
    outside: Side,
    metric: Float[Array, " P"],
    vector: Float[Array, " P"],
    image: Float[Array, " Q"],
    place: Int[Array, ""],
) -> tuple[Side, Side]:
    """Both sides with what is new in a vector, and with its image."""
    old, fresh, root = split(vector[:, None], inside.basis, metric)
    new = (image[:, None] - outside.image @ old) / jnp.where(root == 0, 1, root)
    inside = inside._replace(basis=write(inside.basis, fresh, place))
    return inside, outside._replace(image=write(outside.image, where_new(fresh, new), place))


def given_images(
    copies: Copies,
    vectors: Float[Array, "A P"],
    images: Float[Array, "A Q"],
    of_rows: bool,
    place: Int[Array, ""],
) -> Copies:
    """Every member learns the image of a vector that is known already."""
    inside, outside, metric, _ = _sides(copies.own, copies, of_rows)

    def one(inside: Side, outside: Side, vector, image):
        return _with_image(inside, outside, metric, vector, image, place)

    inside, outside = jax.vmap(one)(inside, outside, vectors, images)
    return copies._replace(own=_seen(inside, outside, of_rows))


def own_images(
    copies: Copies,
    vectors: Float[Array, "A P"],
    of_rows: bool,
    place: Int[Array, ""],
    key: Key[Array, ""],
) -> tuple[Float[Array, "A Q"], Copies]:
    """The image of a vector of every member under the matrix as that member sees it."""
    inside, outside, metric, other = _sides(copies.own, copies, of_rows)
    noise = normal(key, (len(vectors), len(other)))

    def one(inside: Side, outside: Side, vector, noise):
        known = known_image(inside, outside, vector[:, None], metric, True)
        drawn = without(outside.basis, other, noise[:, None])
        image = where_new(known.fresh, known.responding + drawn)
        inside = inside._replace(basis=write(inside.basis, known.fresh, place))
        outside = outside._replace(image=write(outside.image, image, place))
        return (known.expected + image @ known.root)[:, 0], inside, outside

    images, inside, outside = jax.vmap(one)(inside, outside, vectors, noise)
    return images, copies._replace(own=_seen(inside, outside, of_rows))


def _sides(
    seen: Seen, copies: Copies, of_rows: bool
) -> tuple[Side, Side, Float[Array, " P"], Float[Array, " Q"]]:
    """The side of the vectors and that of their images, with the metric of each."""
    rows = seen.rows, copies.by_row
    columns = seen.columns, copies.by_column
    (inside, metric), (outside, other) = (rows, columns) if of_rows else (columns, rows)
    return inside, outside, metric, other


def _seen(inside: Side, outside: Side, of_rows: bool) -> Seen:
    return Seen(inside, outside) if of_rows else Seen(outside, inside)
