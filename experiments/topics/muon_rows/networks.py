"""Networks f = W e below a softmax whose embedding has Muon, a repair of it, or Adam."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from dynsim import token_law
from dynsim._draws import normal
from dynsim._linear_algebra import eigh
from experiments.topics._seeds import run_seed

Floats = NDArray[np.float64]
UPDATES = ("muon", "fourth root", "row norm, then muon", "muon, then row norm", "adam")
"""Of the embedding. Fourth root: U S^(1/2) V^T of a gradient U S V^T, half of Shampoo's."""
OCTAVES = (-8, -7, -6, -5, -4, -3, -2, -1, 0)
GROUPS = ("frequent", "between", "starved")
EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Between these ranks means are taken."""
RANKS = [f"{low + 1} to {high}" for low, high in itertools.pairwise(EDGES)]
MOMENTUM, HEAD_RATE, SHARPNESS = 0.95, 0.003, 2.0


def means(values: Floats) -> Floats:
    """Means between `EDGES`."""
    return np.array([values[low:high].mean() for low, high in itertools.pairwise(EDGES)])


def polar(gradient: Array, power: float = 0.0) -> Array:
    """U S^power V^T of U S V^T for a gradient with more rows than columns, in its precision."""
    values, vectors = eigh(gradient.T @ gradient)
    least = values[-1] * jnp.finfo(gradient.dtype).eps * gradient.shape[1]
    kept = jnp.where(values > least, jnp.maximum(values, least) ** ((power - 1) / 2), 0.0)
    return (gradient @ vectors) * kept[None, :] @ vectors.T


def _loss(embedding: Array, head: Array, wanted: Array, weight: Array, softmax: bool) -> Array:
    """`wanted` is the index of the target of every token, or its target values."""
    output = embedding @ head.T
    if softmax:
        every = optax.softmax_cross_entropy_with_integer_labels(output, wanted)
    else:
        every = 0.5 * jnp.sum(jnp.square(output - wanted), axis=-1)
    return weight @ every


@partial(jax.jit, static_argnames="softmax")
def row_squares(
    embedding: Array, head: Array, wanted: Array, weight: Array, softmax: bool
) -> Array:
    """Squared lengths of the rows of the orthogonalised gradient."""
    gradient = jax.grad(_loss)(embedding, head, wanted, weight, softmax)
    # Rows are made of one size in pairs with their frequency before products lose digits.
    return jnp.sum(jnp.square(polar(gradient.astype(jnp.float64))), axis=-1)


def _rows(x: Array) -> Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-30)


def moved(update: str, gradient: Array) -> Array:
    """The direction of an update that has no memory but the momentum, largest row about 1."""
    match update:
        case "row norm, then muon":
            return polar(_rows(gradient))
        case "muon, then row norm":
            return _rows(polar(gradient))
        case "fourth root":
            found = polar(gradient, 0.5)
            return found / (jnp.linalg.norm(found, axis=-1).max() + 1e-30)
    return polar(gradient)


@partial(jax.jit, static_argnames=("update", "steps", "batch_size", "width", "schedule"))
def excess_losses(
    update: str, schedule: str, width: int, batch_size: int, steps: int, rates: Array, key: Array,
    logits: Array, law: Array,
) -> Array:  # fmt: skip
    """Kullback-Leibler divergence from the teacher after training on batches, by rate and token.

    All rates share initial weights and batches.
    """
    tokens, outputs = logits.shape
    for_embedding, for_head, for_batches = jax.random.split(key, 3)
    embedding = normal(for_embedding, (tokens, width), jnp.float32)
    head = normal(for_head, (outputs, width), jnp.float32) * 0.1 * width**-0.5
    adam = optax.scale_by_adam(0.9, 0.95)

    def loss(weights: Any, inputs: Array, wanted: Array) -> Array:
        output = weights[0][inputs] @ weights[1].T
        return optax.softmax_cross_entropy_with_integer_labels(output, wanted).mean()

    def moved_once(network: Any, rate: Array, inputs: Array, wanted: Array, falling: Any) -> Any:
        weights, of_embedding, of_head = network
        gradients = jax.grad(loss)(weights, inputs, wanted)
        if update == "adam":
            by_embedding, of_embedding = adam.update(gradients[0], of_embedding)
        else:
            of_embedding = MOMENTUM * of_embedding + gradients[0]
            by_embedding = moved(update, of_embedding)
        by_head, of_head = adam.update(gradients[1], of_head)
        steps_by = (rate * by_embedding, HEAD_RATE * by_head)
        weights = jax.tree.map(lambda one, by: one - falling * by, weights, steps_by)
        return weights, of_embedding, of_head

    def step(networks: Any, number: Array) -> Any:
        first, second = jax.random.split(jax.random.fold_in(for_batches, number))
        inputs = jax.random.choice(first, tokens, (batch_size,), p=law)
        wanted = jax.random.categorical(second, logits[inputs])
        falling = 1 - number.astype(jnp.float32) / steps if schedule == "linear" else 1.0

        def at(one: Any) -> Any:
            return moved_once(*one, inputs=inputs, wanted=wanted, falling=falling)

        # One rate after the other: a batch of eigenvector problems waits for itself on few cores.
        return jax.lax.map(at, (networks, rates)), None

    state = adam.init(embedding) if update == "adam" else jnp.zeros_like(embedding)
    first = ((embedding, head), state, adam.init(head))
    networks = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(rates), *x.shape)), first)
    ((embeddings, heads), _, _), _ = jax.lax.scan(step, networks, jnp.arange(steps))
    chance = jax.nn.log_softmax(logits)
    found = jax.nn.log_softmax(embeddings @ jnp.swapaxes(heads, 1, 2))
    return jnp.sum(jnp.exp(chance)[None] * (chance[None] - found), axis=-1)


def trained(
    update: str, schedule: str, width: int, types_per_width: int, outputs_per_width: int,
    batch_size: int, steps: int, octaves: list[int], seeds: int, seed: int = 0,
) -> Any:  # fmt: skip
    """Mean excess losses, in the text and in three groups of tokens, by learning rate and seed.

    The rate is the RMS per step of the entries of a row that is moved by its full length.
    """
    vocab_size, outputs = types_per_width * width, outputs_per_width * width
    law = jnp.asarray(token_law("zipf:1", vocab_size).frequencies, jnp.float32)
    following = jnp.asarray(token_law("zipf:1", outputs).frequencies, jnp.float32)
    groups = (slice(0, width // 2), slice(width // 2, 4 * width), slice(4 * width, None))
    text, by_group = np.empty((len(octaves), seeds)), np.empty((len(octaves), 3, seeds))
    for number in range(seeds):
        keys = jax.random.split(jax.random.key(run_seed(seed, 2000 + number)), 3)
        features = normal(keys[0], (vocab_size, width), jnp.float32)
        readout = normal(keys[1], (outputs, width), jnp.float32)
        logits = jnp.log(following)[None] + SHARPNESS * width**-0.5 * features @ readout.T
        # One entry of a row of length one is width^(-1/2).
        by = 1.0 if update == "adam" else width**0.5
        rates = jnp.asarray([by * 2.0**octave for octave in octaves], jnp.float32)
        kept = update, schedule, width, batch_size, steps
        excess = np.asarray(excess_losses(*kept, rates, keys[2], logits, law))
        text[:, number] = np.average(excess, axis=1, weights=law)
        for place, some in enumerate(groups):
            by_group[:, place, number] = np.average(excess[:, some], axis=1, weights=law[some])
    return {"text": (("octave", "seed"), text), "excess": (("octave", "group", "seed"), by_group)}
