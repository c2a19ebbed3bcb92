"""Activation functions, the same for finite networks and mean-field theory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NORM_EPSILON = 1e-6  # added to the mean square by which a norm divides


def activated(name: str, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """relu, gelu (its tanh form), tanh or identity, entry by entry."""
    functions = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "tanh": jnp.tanh}
    return x if name == "identity" else functions[name](x)
