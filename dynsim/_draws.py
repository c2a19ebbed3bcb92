"""Random arrays that compile sooner."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike, NDArray

from ._programs import program

SHORT = 2**21
"""Numbers in a row that are drawn with some to spare, so that rows of other lengths share the
program; a longer one takes longer to draw than to compile."""
SHORTEST = 4096
"""Numbers in the shortest row that is drawn so."""
FEW = 16
"""Rows that are drawn one by one; more take longer so than their own program to compile."""
PADDED = 64
"""Least number of keys that are made at once, so that all smaller numbers share the program."""


def normal(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """The numbers of `jax.random.normal`, drawn in a row: XLA's program for several dimensions
    takes three times as long to compile, for each of the shapes."""
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


def uniform(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """The numbers of `jax.random.uniform`, drawn in a row as those of `normal` are."""
    return jax.random.uniform(key, (math.prod(shape),), dtype).reshape(shape)


def normal_rows(
    keys: Key[Array, " keys"],
    std: float | Float[Array, ""],
    shape: tuple[int, ...],
    dtype: str,
) -> Float[Array, "keys ..."]:
    """`std` times `normal(key, shape, dtype)` of every key.

    The first numbers of a longer row are those of a shorter one: each number is made of its
    place alone (unless `jax_threefry_partitionable` is off).
    """
    scale, count = jnp.asarray(std, dtype), math.prod(shape)
    short = 8 <= count <= SHORT  # XLA makes a single number in another way
    if len(keys) > FEW or not short or not jax.config.jax_threefry_partitionable:
        return _rows(keys, scale, count, dtype).reshape(len(keys), *shape)
    drawn = _enough(count, SHORTEST)
    rows = [_row(key, scale, drawn, dtype) for key in separate(keys)]
    return jax.device_put(np.stack([np.asarray(row)[:count].reshape(shape) for row in rows]))


@partial(program, without_sums=True, static_argnames=("count", "dtype"))
def _row(
    key: Key[Array, ""], std: Float[Array, ""], count: int, dtype: str
) -> Float[Array, " count"]:
    return std * jax.random.normal(key, (count,), dtype)


@partial(program, without_sums=True, static_argnames=("count", "dtype"))
def _rows(
    keys: Key[Array, " keys"], std: Float[Array, ""], count: int, dtype: str
) -> Float[Array, "keys count"]:
    return jax.vmap(lambda key: std * jax.random.normal(key, (count,), dtype))(keys)


def padded(values: NDArray[Any]) -> Array:
    """Values with zeros after them, up to `PADDED` or to a power of two."""
    zeros = np.zeros((_enough(len(values), PADDED) - len(values), *values.shape[1:]), values.dtype)
    return jax.device_put(np.concatenate([values, zeros]))


def _enough(count: int, least: int) -> int:
    """The power of two from `count` on, and at least `least`."""
    return max(least, 1 << (count - 1).bit_length())


def keys_of(words: ArrayLike, like: Array) -> Array:
    """Keys of the kind of `like` from their words, the last axis."""
    return jax.random.wrap_key_data(jax.device_put(words), impl=jax.random.key_impl(like))


def words_of(keys: Array) -> NDArray[np.uint32]:
    """The words of keys, which numpy cuts and joins without a program for their number."""
    return np.asarray(jax.random.key_data(keys))


def separate(keys: Key[Array, " keys"]) -> list[Key[Array, ""]]:
    """The keys one by one."""
    return [keys_of(words, keys) for words in words_of(keys)]
