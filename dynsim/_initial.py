"""Initial weights of finite networks: one draw for the trainers and for finite flows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32
from numpy.typing import ArrayLike

from ._draws import keys_of, normal, normal_rows, padded, words_of
from ._layers import Label, LayerValues
from ._optimizers import weight_copies
from ._programs import program
from ._runs import MAX_SEEDS as MAX_SEEDS
from ._runs import check_fits, seed_labels, sized_key
from ._setup import Setup
from ._targets import BLOCK_ROWS, has_sparse_targets

MATRICES_A_LAYER = 6  # of a transformer, which has the most


class Weights(NamedTuple):
    """Of a linear network; also its gradients, and the learning rates of the two layers."""

    embedding: Array  # (m, d)
    projection: Array  # (n, d)


def seed_keys(setup: Setup, seeds: int | ArrayLike) -> Key[Array, " seeds"]:
    """One key a seed, given by count or labels; a key depends on its label alone."""
    labels = seed_labels(seeds)
    key = sized_key(setup)
    words = _label_words(key, padded(labels.astype(np.uint32)))
    return keys_of(np.asarray(words)[: len(labels)], key)


@partial(program, without_sums=True)
def _label_words(
    key: Key[Array, ""], labels: UInt32[Array, " labels"]
) -> UInt32[Array, "labels words"]:
    return jax.random.key_data(jax.vmap(partial(jax.random.fold_in, key))(labels))


def initial_weights(
    sizes: tuple[int, int, int], projection_std: Float[Array, ""], key: Key[Array, ""], dtype: str
) -> Weights:
    """E with entries N(0, 1) and W with entries N(0, projection_std^2); `sizes` are (m, n, d)."""
    weights = initial_networks(sizes, projection_std, key[None], dtype)
    return Weights(weights.embedding[0], weights.projection[0])


def initial_networks(
    sizes: tuple[int, int, int],
    projection_std: Float[Array, ""],
    keys: Key[Array, " seeds"],
    dtype: str,
) -> Weights:
    """The initial weights of every key, (seeds, m, d) and (seeds, n, d)."""
    types, outputs, width = sizes
    pairs = _layer_words(keys_of(padded(words_of(keys)), keys))
    for_embedding, for_projection = (keys_of(np.asarray(one)[: len(keys)], keys) for one in pairs)
    return Weights(
        normal_rows(for_embedding, 1.0, (types, width), dtype),
        normal_rows(for_projection, projection_std, (outputs, width), dtype),
    )


@partial(program, without_sums=True)
def _layer_words(
    keys: Key[Array, " keys"],
) -> tuple[UInt32[Array, "keys words"], UInt32[Array, "keys words"]]:
    pairs = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 0)))(keys)
    return jax.random.key_data(pairs[:, 0]), jax.random.key_data(pairs[:, 1])


class DeepWeights(NamedTuple):
    """Of a network with hidden layers, without the gains of its norms."""

    embedding: Float[Array, "m d"]
    hidden: tuple[Float[Array, "d d"], ...]
    readout: Float[Array, "n d"] | None  # None if it is the embedding


def initial_deep_weights(
    sizes: tuple[int, int, int],
    depth: int,
    init_factor: LayerValues,
    keys: Key[Array, " matrices"],
    dtype: str,
    *,
    tied: bool = False,
) -> DeepWeights:
    """The weights of an mlp with `depth` hidden layers; `sizes` are (m, n, d), `keys` those of
    `matrix_keys`."""
    types, outputs, width = sizes
    draw = matrix_draws(init_factor, keys, dtype)
    embedding = draw("embedding", types, width)
    readout = None if tied else draw("readout", outputs, width)
    hidden = tuple(draw("hidden", width, width) for _ in range(depth))
    return DeepWeights(embedding, hidden, readout)


def matrix_keys(depth: int, key: Key[Array, ""]) -> Key[Array, " matrices"]:
    """A key for every matrix: two, and `MATRICES_A_LAYER` for each layer."""
    return jax.random.split(key, 2 + MATRICES_A_LAYER * depth)


def matrix_draws(
    init_factor: LayerValues, keys: Key[Array, " matrices"], dtype: str
) -> Callable[..., Array]:
    """`draw(label, rows, columns)`, which draws one matrix after another.

    Entries are Gaussian with the standard deviation 1 (embedding) or 1/sqrt(columns), times the
    label's `init_factor`.
    """
    left = iter(keys)

    def draw(label: Label, *size: int) -> Array:
        std = 1.0 if label == "embedding" else size[-1] ** -0.5
        scale = jnp.asarray(std * init_factor.of(label), dtype)
        return scale * normal(next(left), size, dtype)

    return draw


def network_bytes(setup: Setup, dtype: str = "float32", head: int | None = None) -> int:
    """Bytes of one linear network in training: weights, their start, gradient, optimizer state.

    `head`: as many token types and outputs instead of the setup's.
    """
    types, outputs = (setup.vocab_size, setup.output_count) if head is None else (head, head)
    copies = 4 + weight_copies(setup.optimizer)
    size = np.dtype(dtype).itemsize
    weights = (types + outputs) * setup.width
    batch = 32 * setup.batch_size  # random numbers and token ids of one batch
    tokens = min(types, BLOCK_ROWS) if has_sparse_targets(setup) else types
    return size * (copies * weights + 6 * tokens * outputs) + batch


def check_memory(setup: Setup, dtype: str) -> None:
    """Raises `InputError` if one network needs more memory than the machine has."""
    by_head = partial(network_bytes, setup, dtype)
    check_fits(network_bytes(setup, dtype), setup, bytes_with_head=by_head)
