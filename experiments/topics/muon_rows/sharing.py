"""Rows of an embedding under Muon where tokens share targets, and with momentum.

Networks are f_i = W e_i below a softmax, first step, gradients automatic and orthogonalised
exactly. Which tokens share a target, and which a batch holds, differs from seed to seed, so that
the squared lengths that theory derives from it stand beside the measured ones.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dynsim import token_law
from dynsim._draws import normal
from dynsim.theory import muon_row_norms, muon_row_squares
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study

from .networks import MOMENTUM, RANKS, means, row_squares

Floats = NDArray[np.float64]
CASES = ("shared targets", "momentum")
THEORIES = ("derived", "wrong")
"""Wrong on purpose: shared targets as if each token had one of its own; momentum as if the last
batch alone were orthogonalised."""
SHARED_SIZES = (*((32, one) for one in (1.0, 1.5)), *((64, one) for one in (1.0, 1.5)), (128, 1.0))
"""width and Zipf exponent: with more than twice as many different targets as neurons"""
MOMENTUM_SIZES = tuple(itertools.product((32, 64, 128, 256), (1.0, 1.5)))
FORGOTTEN = 1e-5  # weight of the first batch that is summed


def class_row_squares(frequencies: Floats, target: NDArray[np.integer], rank: int) -> Floats:
    """Squared lengths where classes of tokens with one target share what Muon gives a direction.

    A class stands in the law as one row of weight sum p_j^2, and divides its share among its tokens
    in proportion to p_j^2 (docs/theory/muon_rows.md#muon-rows-classes).
    """
    squares = frequencies**2
    by_class = np.bincount(target, weights=squares)
    share = muon_row_squares(by_class, rank)
    return share[target] * squares / by_class[target]


def remembered(random: np.random.Generator, law: Floats, batch_size: int) -> Floats:
    """Shares of the tokens in batches that momentum sums, the last at the weight 1."""
    steps = int(np.ceil(np.log(FORGOTTEN) / np.log(MOMENTUM)))
    counts = random.multinomial(batch_size, law, size=steps)
    total = MOMENTUM ** np.arange(steps) @ counts
    return total / total.sum()


def _cell(
    case: str, width: int, exponent: float, vocab_size: int, batch_size: int, seeds: int,
    seed: int = 0, first_seed: int = 0, embedding_std: float = 0.1,
) -> Any:  # fmt: skip
    """Mean squared lengths between `EDGES` by seed, and those of two theories."""
    law = token_law(f"zipf:{exponent}", vocab_size).frequencies
    found = np.empty((len(RANKS), seeds))
    derived = np.empty((len(THEORIES), len(RANKS), seeds))
    memory = round(batch_size * (1 + MOMENTUM) / (1 - MOMENTUM))
    for number in range(seeds):
        own = run_seed(seed, first_seed + number)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(own), width), 3)
        random = np.random.default_rng([own, width, CASES.index(case)])
        embedding = normal(keys[0], (vocab_size, width)) * embedding_std
        head = normal(keys[1], (vocab_size, width)) * width**-0.5
        weight = law
        if case == "shared targets":
            target = random.choice(vocab_size, vocab_size, p=law)
            theories = class_row_squares(law, target, width), muon_row_norms(law, width) ** 2
        else:
            target = random.permutation(vocab_size)
            weight = remembered(random, law, batch_size)
            theories = tuple(muon_row_norms(law, width, size) ** 2 for size in (memory, batch_size))
        squares = row_squares(embedding, head, jnp.asarray(target), jnp.asarray(weight), True)
        found[:, number] = means(np.asarray(squares))
        derived[:, :, number] = [means(one) for one in theories]
    return {
        "row_square": (("ranks", "seed"), found),
        "derived_square": (("theory", "ranks", "seed"), derived),
    }


MUON_SHARING = Study(
    "muon_sharing",
    cells=lambda full: [
        {"case": case, "width": width, "exponent": exponent}
        for case, sizes in zip(CASES, (SHARED_SIZES, MOMENTUM_SIZES), strict=True)
        for width, exponent in (sizes if full else ())
    ],
    measure=_cell,
    config=lambda full: {"vocab_size": 2048, "batch_size": 256, "seeds": 6},
    labels={
        "theory": list(THEORIES),
        "ranks": RANKS,
    },
)

MUON_SHARING_SMALL = Study(
    "muon_sharing_small",
    cells=lambda full: [
        {"case": "shared targets", "width": width, "exponent": exponent}
        for width, exponent in (SHARED_SIZES if full else ())
    ],
    measure=_cell,
    config=lambda full: {
        **MUON_SHARING.config(full),
        "first_seed": 50,
        "embedding_std": 1e-4,
    },
    labels=MUON_SHARING.labels,
)
