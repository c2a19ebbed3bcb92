"""What one learning rate does under Muon's shape factors: first steps of a residual network.

The network reads a text's bigrams in full batch: an embedding, a square matrix, an MLP of four
times the width and a head. Steps are those of `optax.contrib.muon` with its two factors, and for
comparison sign descent with entries of the RMS that the second one gives.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from dynsim import token_law
from dynsim._draws import normal
from dynsim.tokens import bigrams_of
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

RULES = ("original", "match-rms", "sign")
MATRICES = ("square", "up", "down", "head", "embedding")
ENTRY_RMS = 0.2
FREQUENT = 8  # tokens whose rows of the embedding are looked at
FACTORS = {"original": None, "match-rms": ENTRY_RMS}


def _normalised(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-12)


def _inputs(weights: dict[str, Array]) -> dict[str, Array]:
    """What every matrix but the embedding reads, for all tokens."""
    stream = weights["embedding"]
    read = {"square": _normalised(stream)}
    stream = stream + read["square"] @ weights["square"].T
    read["up"] = _normalised(stream)
    read["down"] = jax.nn.relu(read["up"] @ weights["up"].T)
    read["head"] = _normalised(stream + read["down"] @ weights["down"].T)
    return read


def _loss(weights: dict[str, Array], follows: Array, law: Array) -> Array:
    logits = _inputs(weights)["head"] @ weights["head"].T
    return law @ optax.softmax_cross_entropy(logits, follows)


def _dimensions(weights: dict[str, Array]) -> Any:
    """Matrices are stored outputs x inputs, the embedding tokens x neurons: its inputs first."""
    kept = {name: optax.contrib.MuonDimensionNumbers(1, 0) for name in weights}
    return {**kept, "embedding": optax.contrib.MuonDimensionNumbers(0, 1)}


@partial(jax.jit, static_argnames=("rule", "width"))
def first_moves(rule: str, width: int, follows: Array, law: Array, key: Array) -> Array:
    """RMS of what a step at learning rate one does to a matrix's outputs, over the RMS of its
    inputs, tokens at their frequency; of the embedding the entries of frequent tokens' rows."""
    types = len(law)
    keys = jax.random.split(key, 5)
    shapes = {
        "embedding": ((types, width), 1.0),
        "square": ((width, width), width**-0.5),
        "up": ((4 * width, width), width**-0.5),
        "down": ((width, 4 * width), (4 * width) ** -0.5),
        "head": ((types, width), 1 / width),
    }
    weights = {
        name: std * normal(one, shape, jnp.float32)
        for one, (name, (shape, std)) in zip(keys, shapes.items(), strict=True)
    }
    gradients = jax.grad(_loss)(weights, follows, law)
    if rule == "sign":
        moved = jax.tree.map(lambda one: -ENTRY_RMS * jnp.sign(one), gradients)
    else:
        muon = optax.contrib.muon(
            1.0,
            consistent_rms=FACTORS[rule],
            muon_weight_dimension_numbers=_dimensions(weights),
        )
        moved: Any = muon.update(gradients, muon.init(weights), weights)[0]

    def rms(x: Array) -> Array:
        return jnp.sqrt(law @ jnp.mean(jnp.square(x), axis=-1))

    found = [rms(z @ moved[name].T) / rms(z) for name, z in _inputs(weights).items()]
    rows = jnp.sqrt(jnp.mean(jnp.square(moved["embedding"][:FREQUENT])))
    return jnp.stack([*found, rows])


def _cell(rule: str, width: int, vocab_size: int, seeds: int, seed: int = 0) -> Any:
    """Sizes of first steps by matrix and seed."""
    law = token_law("corpus", vocab_size)
    bigrams = bigrams_of("bigram", law, vocab_size)
    table = np.zeros((vocab_size, vocab_size), np.float32)
    table[bigrams.context, bigrams.target] = bigrams.probability
    follows, frequencies = jnp.asarray(table), jnp.float32(law.frequencies)
    keys = [jax.random.key(run_seed(seed, 100 + number)) for number in range(seeds)]
    moves = [first_moves(rule, width, follows, frequencies, key) for key in keys]
    return {"change": (("matrix", "seed"), np.stack(moves, axis=-1))}


MUON_SCALES = Study(
    "muon_scales",
    cells=lambda full: grid(rule=RULES, width=(32, 64, 128, 256)) if full else [],
    measure=_cell,
    config=lambda full: {"vocab_size": 1024, "seeds": 4},
    labels={"matrix": list(MATRICES)},
)
