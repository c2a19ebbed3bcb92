"""Softmax heads with many outputs: cross-entropy against sparse targets, in blocks of tokens.

The logits of a block are held once, in cache, and used for the loss and for both gradients: what
a step costs is its three matrix products. Nothing of size tokens x outputs is kept.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynsim._targets import BLOCK_ROWS
from dynsim.tokens._bigrams import Bigrams

CLASSES_FROM = 2048
"""outputs from which one class a token is worth blocks; below, all logits at once are as fast"""


class Pairs(NamedTuple):
    """Class probabilities of S tokens by block, (K, P) each: block k holds tokens k, k + K, ...

    `row` is the token's place in its block. Blocks are filled up with pairs of probability 0.
    """

    row: Int[Array, "blocks pairs"]
    target: Int[Array, "blocks pairs"]
    probability: Float[Array, "blocks pairs"]


class HeadPass(NamedTuple):
    """Losses (S,), and with r_i the residuals: w_i r_i W (S, d) and sum_i w_i r_i z_i (n, d)."""

    loss: Float[Array, " S"]
    by_features: Float[Array, "S d"]
    by_readout: Float[Array, "n d"]


def block_count(tokens: int) -> int:
    return math.ceil(tokens / BLOCK_ROWS)


def bigram_pairs(bigrams: Bigrams, dtype: str) -> Pairs:
    """The pairs of a table, for a batch of all its tokens in their order."""
    blocks = block_count(bigrams.vocab_size)
    block = bigrams.context % blocks
    order = np.argsort(block, kind="stable")
    counts = np.bincount(block, minlength=blocks)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    where = block[order], place

    def laid_out(values: np.ndarray, kind: str) -> Array:
        filled = np.zeros((blocks, counts.max()), kind)
        filled[where] = values[order]
        return jnp.asarray(filled)

    return Pairs(
        laid_out(bigrams.context // blocks, "int32"),
        laid_out(bigrams.target, "int32"),
        laid_out(bigrams.probability, dtype),
    )


def class_pairs(classes: Int[Array, " S"], dtype: str) -> Pairs:
    """One class a token."""
    blocks = _blocked(classes, block_count(len(classes)))
    row = jnp.broadcast_to(jnp.arange(blocks.shape[1], dtype="int32")[None, :], blocks.shape)
    return Pairs(row, blocks, jnp.ones(blocks.shape, dtype))


def _blocked(x: Array, blocks: int) -> Array:
    """(S, ...) as (K, S/K, ...), filled up with zeros."""
    rows = math.ceil(len(x) / blocks)
    filled = jnp.pad(x, [(0, blocks * rows - len(x))] + [(0, 0)] * (x.ndim - 1))
    return jnp.swapaxes(filled.reshape(rows, blocks, *x.shape[1:]), 0, 1)


def _joined(x: Array, tokens: int) -> Array:
    return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])[:tokens]


def head_pass(
    features: Float[Array, "S d"],
    readout: Float[Array, "n d"],
    weights: Float[Array, " S"],
    pairs: Pairs,
) -> HeadPass:
    """Cross-entropy of logits W z_i of every token, and both gradients of their weighted sum."""
    blocks = len(pairs.row)

    def step(total, block):
        z, weight, here = block
        loss, share, norm = _softmax(z @ readout.T, here)
        minus = -weight[here.row] * here.probability
        residual = (share * (weight[:, None] / norm)).at[here.row, here.target].add(minus)
        return total + residual.T @ z, (loss, residual @ readout)

    split = _blocked(features, blocks), _blocked(weights, blocks), pairs
    by_readout, (loss, by_features) = jax.lax.scan(step, jnp.zeros_like(readout), split)
    tokens = len(features)
    return HeadPass(_joined(loss, tokens), _joined(by_features, tokens), by_readout)


def _softmax(
    logits: Float[Array, "S n"], pairs: Pairs
) -> tuple[Float[Array, " S"], Float[Array, "S n"], Float[Array, "S 1"]]:
    """Losses, exp(f - max f) and its sums, of one block."""
    top = jnp.max(logits, axis=-1, keepdims=True)
    share = jnp.exp(logits - top)
    norm = jnp.sum(share, axis=-1, keepdims=True)
    along = pairs.probability * logits[pairs.row, pairs.target]
    known = jnp.zeros(len(logits), logits.dtype).at[pairs.row].add(along)
    return (top + jnp.log(norm))[:, 0] - known, share, norm


@jax.custom_vjp
def head_loss(
    features: Float[Array, "S d"],
    readout: Float[Array, "n d"],
    weights: Float[Array, " S"],
    pairs: Pairs,
) -> Float[Array, ""]:
    """Weighted sum of the cross-entropy of logits W z_i; features and readout have gradients."""

    def step(total, block):
        z, weight, here = block
        return total + weight @ _softmax(z @ readout.T, here)[0], None

    blocks = len(pairs.row)
    split = _blocked(features, blocks), _blocked(weights, blocks), pairs
    return jax.lax.scan(step, jnp.zeros((), features.dtype), split)[0]


def _head_loss_forward(features, readout, weights, pairs):
    found = head_pass(features, readout, weights, pairs)
    return weights @ found.loss, (found.by_features, found.by_readout)


def _head_loss_backward(kept, pulled):
    by_features, by_readout = kept
    return pulled * by_features, pulled * by_readout, None, None


head_loss.defvjp(_head_loss_forward, _head_loss_backward)


def mean_square_outputs(
    features: Float[Array, "S d"], matrix: Float[Array, "n d"]
) -> Float[Array, " S"]:
    """mean_k (A z_i)_k^2 of each token by the Gram matrix of A: no outputs are held."""
    return jnp.sum((features @ (matrix.T @ matrix)) * features, axis=-1) / len(matrix)
