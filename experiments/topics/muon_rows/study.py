"""The rows of an embedding under Muon: in the first step, and trained beside other updates.

Networks are f_i = W e_i with a softmax or a squared error above. Gradients are automatic,
orthogonalisation is exact (by the eigenvectors of G^T G). Nothing in a cell uses a theory formula.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from dynsim import token_law
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

HEADS = ("squared error", "softmax", "softmax, shared targets", "softmax, batch")
"""Squared error of Gaussian targets; softmax over the vocabulary: a target of its own for each
token, or targets drawn from the token law; the first of these on a batch."""
EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Between these ranks means are taken."""


def polar(gradient: Array) -> Array:
    """U V^T of U S V^T for a gradient with more rows than columns, in the precision it has."""
    values, vectors = jnp.linalg.eigh(gradient.T @ gradient)
    least = values[-1] * jnp.finfo(gradient.dtype).eps * gradient.shape[1]
    inverse = jnp.where(values > least, 1 / jnp.sqrt(jnp.maximum(values, least)), 0.0)
    return (gradient @ vectors) * inverse @ vectors.T


def _loss(embedding: Array, head: Array, wanted: Array, weight: Array, softmax: bool) -> Array:
    """`wanted` is the index of the target of every token, or its target values."""
    output = embedding @ head.T
    if softmax:
        every = optax.softmax_cross_entropy_with_integer_labels(output, wanted)
    else:
        every = 0.5 * jnp.sum(jnp.square(output - wanted), axis=-1)
    return weight @ every


@partial(jax.jit, static_argnames="softmax")
def _row_squares(
    embedding: Array, head: Array, wanted: Array, weight: Array, softmax: bool
) -> Array:
    gradient = jax.grad(_loss)(embedding, head, wanted, weight, softmax)
    # Rows are made of one size in pairs with their frequency before products lose digits.
    return jnp.sum(jnp.square(polar(gradient.astype(jnp.float64))), axis=-1)


def _first_step(
    width: int, exponent: float, vocab_size: int, batch_size: int, seeds: int, seed: int = 0
) -> Any:
    """Mean squared lengths of the rows between `EDGES`, by head and seed."""
    law = token_law(f"zipf:{exponent}", vocab_size).frequencies
    found = np.empty((len(HEADS), len(EDGES) - 1, seeds))
    for number in range(seeds):
        key = jax.random.fold_in(jax.random.key(run_seed(seed, number)), width)
        keys = jax.random.split(key, 5)
        embedding = jax.random.normal(keys[0], (vocab_size, width)) * 0.1
        head = jax.random.normal(keys[1], (vocab_size, width)) * width**-0.5
        counts = jax.random.choice(keys[4], vocab_size, (batch_size,), p=jnp.asarray(law))
        batch = np.bincount(np.asarray(counts), minlength=vocab_size) / batch_size
        own = jax.random.permutation(keys[2], vocab_size)
        shared = jax.random.choice(keys[3], vocab_size, (vocab_size,), p=jnp.asarray(law))
        values = jax.random.normal(keys[3], (vocab_size, 2 * width))
        cases = (
            (head[: 2 * width], values, law, False),
            (head, own, law, True),
            (head, shared, law, True),
            (head, own, batch, True),
        )
        for place, (readout, wanted, weight, softmax) in enumerate(cases):
            squares = np.asarray(
                _row_squares(embedding, readout, wanted, jnp.asarray(weight), softmax)
            )
            parts = itertools.pairwise(EDGES)
            found[place, :, number] = [squares[low:high].mean() for low, high in parts]
    return {"row_square": (("head", "ranks", "seed"), found)}


MUON_ROWS = Study(
    "muon_rows",
    cells=lambda full: grid(width=(32, 64, 128, 256), exponent=(1.0, 1.5)) if full else [],
    measure=_first_step,
    config=lambda full: {"vocab_size": 2048, "batch_size": 1024, "seeds": 6},
    labels={
        "head": list(HEADS),
        "ranks": [f"{a + 1} to {b}" for a, b in itertools.pairwise(EDGES)],
    },
)

UPDATES = ("muon", "row norm, then muon", "muon, then row norm", "adam")
OCTAVES = (-7, -6, -5, -4, -3, -2, -1)
GROUPS = ("frequent", "between", "starved")
MOMENTUM, HEAD_RATE = 0.95, 0.003


def _rows(x: Array) -> Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-30)


def _muon(update: str, gradient: Array, momentum: Array) -> tuple[Array, Array]:
    momentum = MOMENTUM * momentum + gradient
    match update:
        case "row norm, then muon":
            return polar(_rows(momentum)), momentum
        case "muon, then row norm":
            return _rows(polar(momentum)), momentum
    return polar(momentum), momentum


@partial(jax.jit, static_argnames=("update", "steps", "batch_size", "width", "schedule"))
def _excess(
    update: str, steps: int, batch_size: int, rate: Array, key: Array, logits: Array, law: Array,
    width: int, schedule: str = "linear",
) -> Array:  # fmt: skip
    """Kullback-Leibler divergence from the teacher, of every token, after training on batches."""
    tokens, outputs = logits.shape
    for_embedding, for_head, for_batches = jax.random.split(key, 3)
    embedding = jax.random.normal(for_embedding, (tokens, width), jnp.float32)
    head = jax.random.normal(for_head, (outputs, width), jnp.float32) * 0.1 * width**-0.5
    adam = optax.scale_by_adam(0.9, 0.95)

    def loss(weights: Any, inputs: Array, wanted: Array) -> Array:
        output = weights[0][inputs] @ weights[1].T
        return optax.softmax_cross_entropy_with_integer_labels(output, wanted).mean()

    def step(carry: Any, number: Array) -> Any:
        weights, of_embedding, of_head = carry
        first, second = jax.random.split(jax.random.fold_in(for_batches, number))
        inputs = jax.random.choice(first, tokens, (batch_size,), p=law)
        wanted = jax.random.categorical(second, logits[inputs])
        gradients = jax.grad(loss)(weights, inputs, wanted)
        falling = 1 - number.astype(jnp.float32) / steps if schedule == "linear" else 1.0
        if update == "adam":
            moved, of_embedding = adam.update(gradients[0], of_embedding)
        else:
            moved, of_embedding = _muon(update, gradients[0], of_embedding)
        of_readout, of_head = adam.update(gradients[1], of_head)
        steps_by = (rate * moved, HEAD_RATE * of_readout)
        weights = jax.tree.map(lambda one, by: one - falling * by, weights, steps_by)
        return (weights, of_embedding, of_head), None

    state = adam.init(embedding) if update == "adam" else jnp.zeros_like(embedding)
    first = ((embedding, head), state, adam.init(head))
    (weights, _, _), _ = jax.lax.scan(step, first, jnp.arange(steps))
    chance = jax.nn.log_softmax(logits)
    found = jax.nn.log_softmax(weights[0] @ weights[1].T)
    return jnp.sum(jnp.exp(chance) * (chance - found), axis=-1)


def _training(
    update: str, width: int, vocab_size: int, outputs: int, batch_size: int, steps: int,
    octaves: list[int], seeds: int, schedule: str = "linear", seed: int = 0,
) -> Any:  # fmt: skip
    """Mean excess losses, in the text and in three groups of tokens, by learning rate and seed.

    The rate is the RMS per step of the entries of a row that is moved by its full length.
    """
    law = jnp.asarray(token_law("zipf:1", vocab_size).frequencies, jnp.float32)
    groups = (slice(0, width // 2), slice(width // 2, 4 * width), slice(4 * width, None))
    text, by_group = np.empty((len(octaves), seeds)), np.empty((len(octaves), 3, seeds))
    for number in range(seeds):
        keys = jax.random.split(jax.random.key(run_seed(seed, 1000 + number)), 3)
        features = jax.random.normal(keys[0], (vocab_size, width), jnp.float32)
        readout = jax.random.normal(keys[1], (outputs, width), jnp.float32)
        logits = SHARPNESS * width**-0.5 * features @ readout.T
        for place, octave in enumerate(octaves):
            rate = 2.0**octave * (1.0 if update == "adam" else width**0.5)
            excess = np.asarray(
                _excess(
                    update,
                    steps,
                    batch_size,
                    jnp.float32(rate),
                    keys[2],
                    logits,
                    law,
                    width,
                    schedule,
                )
            )
            text[place, number] = np.average(excess, weights=law)
            by_group[place, :, number] = [
                np.average(excess[some], weights=law[some]) for some in groups
            ]
    return {"text": (("octave", "seed"), text), "excess": (("octave", "group", "seed"), by_group)}


SHARPNESS = 2.0


MUON_TRAINING = Study(
    "muon_training",
    cells=lambda full: (
        [
            {"update": update, "schedule": schedule}
            for update in UPDATES
            for schedule in ("constant", "linear")
        ]
        if full
        else []
    ),
    measure=_training,
    config=lambda full: {
        "width": 32,
        "vocab_size": 1024,
        "outputs": 64,
        "batch_size": 256,
        "steps": 1000,
        "octaves": list(OCTAVES),
        "seeds": 3,
    },
    labels={"group": list(GROUPS), "octave": list(OCTAVES)},
)

STUDIES = (MUON_ROWS, MUON_TRAINING)
