"""Targets: what each token should be mapped to. The same seed gives the same targets everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ._setup import CLASS_TARGETS, Experiment, Setup
from .tokens._bigrams import Bigrams, corpus_bigrams, onehot_bigrams

MANY_OUTPUTS = 512
"""outputs and tokens from which a table of class probabilities is kept sparse"""
BLOCK_ROWS = 512
"""tokens whose logits are held at once where targets are sparse: enough for fast products, few
enough that the logits stay in cache"""


@dataclass(frozen=True, repr=False)
class SetupWithTargets(Setup):
    """A setup whose targets are these `rows`, shape (vocab_size, outputs), whatever it says."""

    rows: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)), compare=False)


def has_sparse_targets(setup: Experiment) -> bool:
    """Whether the targets are classes of a head with many outputs, learned by cross-entropy."""
    large = min(setup.output_count, setup.vocab_size) >= MANY_OUTPUTS
    return large and setup.loss_name == "ce" and setup.targets in CLASS_TARGETS


def sparse_targets(setup: Experiment) -> Bigrams:
    """The targets bigram or onehot as pairs of token and class. A token that never occurs has
    none."""
    if setup.targets == "onehot":
        return onehot_bigrams(setup.vocab_size, setup.output_count, setup.seed)
    _, _, path = setup.law_name.partition(":")
    return corpus_bigrams(path or None, setup.vocab_size, setup.output_count)


def targets(setup: Experiment, tokens: int | None = None) -> NDArray[np.float64]:
    """Targets y of the `tokens` most frequent tokens (default all), shape (tokens, outputs).

    `gaussian`: N(0, 1) entries, with `target_rank` k the product of tokens x k and k x outputs
    Gaussians over sqrt(k); `sign`: +1 or -1; `onehot`: 1 at a uniformly random class;
    `bigram`: the corpus's next-token frequencies. The row of a token depends on `setup.seed`,
    `setup.output_count` and its rank alone, not on width, vocabulary size, device or precision.

    **Example:**

    >>> from dynsim import Setup, targets
    >>> targets(Setup(vocab_size=64, targets="sign", outputs=3), tokens=2).shape
    (2, 3)
    """
    count = setup.vocab_size if tokens is None else min(tokens, setup.vocab_size)
    if isinstance(setup, SetupWithTargets):
        return setup.rows[:count]
    random = np.random.default_rng([setup.seed, 0x7A26])
    if setup.targets == "gaussian":
        if setup.target_rank:
            of_tokens, of_outputs = factors_of_targets(setup, count)
            return of_tokens @ of_outputs / np.sqrt(setup.target_rank)
        return random.standard_normal((count, setup.output_count))
    if setup.targets == "sign":
        return np.where(random.random((count, setup.output_count)) < 0.5, -1.0, 1.0)
    if setup.targets == "onehot":
        classes = np.floor(random.random(count) * setup.output_count).astype(np.int64)
        table = np.zeros((count, setup.output_count))
        table[np.arange(count), classes] = 1
        return table
    from dynsim.tokens._corpus import corpus_tokens

    _, _, path = setup.law_name.partition(":")
    return corpus_tokens(path or None, setup.vocab_size).next_token_frequencies(setup.output_count)[
        :count
    ]


def factors_of_targets(
    setup: Experiment, tokens: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The Gaussians of tokens and of outputs whose product, over sqrt(k), are targets of rank k."""
    count = setup.vocab_size if tokens is None else min(tokens, setup.vocab_size)
    random = np.random.default_rng([setup.seed, 0x7A26])
    of_outputs = random.standard_normal((setup.target_rank, setup.output_count))
    return random.standard_normal((count, setup.target_rank)), of_outputs
