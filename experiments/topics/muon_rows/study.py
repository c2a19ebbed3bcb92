"""The rows of an embedding under Muon: in the first step, and trained beside other updates.

In the first step networks are f_i = W e_i with a softmax or a squared error above. Gradients are
automatic, orthogonalisation is exact (by the eigenvectors of G^T G). Nothing in a cell uses a
theory formula.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynsim import token_law
from dynsim._draws import normal
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

from .networks import GROUPS, OCTAVES, RANKS, UPDATES, means, row_squares, trained
from .scales import MUON_SCALES
from .sharing import MUON_SHARING, MUON_SHARING_SMALL

HEADS = ("squared error", "softmax", "softmax, shared targets", "softmax, batch")
"""Squared error of Gaussian targets; softmax over the vocabulary: a target of its own for each
token, or targets drawn from the token law; the first of these on a batch."""


def _first_step(
    width: int, exponent: float, vocab_size: int, batch_size: int, seeds: int, seed: int = 0
) -> Any:
    """Mean squared lengths of the rows between `EDGES`, by head and seed."""
    law = token_law(f"zipf:{exponent}", vocab_size).frequencies
    found = np.empty((len(HEADS), len(RANKS), seeds))
    for number in range(seeds):
        key = jax.random.fold_in(jax.random.key(run_seed(seed, number)), width)
        keys = jax.random.split(key, 5)
        embedding = normal(keys[0], (vocab_size, width)) * 0.1
        head = normal(keys[1], (vocab_size, width)) * width**-0.5
        counts = jax.random.choice(keys[4], vocab_size, (batch_size,), p=jnp.asarray(law))
        batch = np.bincount(np.asarray(counts), minlength=vocab_size) / batch_size
        own = jax.random.permutation(keys[2], vocab_size)
        shared = jax.random.choice(keys[3], vocab_size, (vocab_size,), p=jnp.asarray(law))
        values = normal(keys[3], (vocab_size, 2 * width))
        cases = (
            (head[: 2 * width], values, law, False),
            (head, own, law, True),
            (head, shared, law, True),
            (head, own, batch, True),
        )
        for place, (readout, wanted, weight, softmax) in enumerate(cases):
            squares = row_squares(embedding, readout, wanted, jnp.asarray(weight), softmax)
            found[place, :, number] = means(np.asarray(squares))
    return {"row_square": (("head", "ranks", "seed"), found)}


MUON_ROWS = Study(
    "muon_rows",
    cells=lambda full: grid(width=(32, 64, 128, 256), exponent=(1.0, 1.5)) if full else [],
    measure=_first_step,
    config=lambda full: {"vocab_size": 2048, "batch_size": 1024, "seeds": 6},
    labels={
        "head": list(HEADS),
        "ranks": RANKS,
    },
)

MUON_TRAINING = Study(
    "muon_training",
    cells=lambda full: (
        grid(width=(32, 64), schedule=("constant", "linear"), update=UPDATES) if full else []
    ),
    measure=trained,
    config=lambda full: {
        "types_per_width": 16,
        "outputs_per_width": 4,
        "batch_size": 256,
        "steps": 600,
        "octaves": list(OCTAVES),
        "seeds": 4,
    },
    labels={"group": list(GROUPS), "octave": list(OCTAVES)},
)

STUDIES = (MUON_ROWS, MUON_TRAINING, MUON_SHARING, MUON_SHARING_SMALL, MUON_SCALES)
