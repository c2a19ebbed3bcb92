"""The losses of all networks and theories, their residuals, and when a loss has diverged."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

DIVERGENCE_FACTOR = 1e6


def loss_and_residual(
    loss: str, outputs: Float[Array, "*batch n"], targets: Float[Array, "*batch n"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch n"]]:
    """l(f_i, y_i) of each token, shape (m,), and r = dl/df, shape (m, n).

    `mse`: l = |f - y|^2 / 2, r = f - y. `ce`: l = -sum_k y_k ln softmax(f)_k in nats,
    r = softmax(f) - y.
    """
    if loss == "mse":
        residual = outputs - targets
        return 0.5 * jnp.sum(residual**2, axis=-1), residual
    log_probabilities = jax.nn.log_softmax(outputs, axis=-1)
    losses = -jnp.sum(targets * log_probabilities, axis=-1)
    return losses, jnp.exp(log_probabilities) - targets


def diverged(loss: Float[np.ndarray, "*runs steps"]) -> NDArray[np.bool_]:
    """Whether a loss (steps last) became non-finite or 1e6 times its start (and at least 1)."""
    limit = DIVERGENCE_FACTOR * np.maximum(loss[..., :1], 1)
    return np.asarray(~np.all(np.isfinite(loss) & (loss <= limit), axis=-1))


def overflowed(updates: Float[np.ndarray, "*runs steps"]) -> NDArray[np.bool_]:
    """Whether the size of an update (steps last) became non-finite; not where none was recorded.

    A loss may stay finite then: cross-entropy is 0 where one output is infinitely far ahead.
    """
    recorded = np.isfinite(updates[..., 0])  # before the first step it is 0
    return np.asarray(recorded & ~np.all(np.isfinite(updates), axis=-1))
