"""Random arrays that compile sooner."""

from __future__ import annotations

import math
from typing import Any

import jax
from jax import Array


def normal(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """The numbers of `jax.random.normal`, drawn in a row: XLA's program for several dimensions
    takes three times as long to compile, for each of the shapes."""
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


def uniform(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """The numbers of `jax.random.uniform`, drawn in a row as those of `normal` are."""
    return jax.random.uniform(key, (math.prod(shape),), dtype).reshape(shape)
