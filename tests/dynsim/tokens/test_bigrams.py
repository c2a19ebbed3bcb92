"""Sparse tables of next tokens: against the dense tables that they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dynsim import Setup, targets, token_law
from dynsim.tokens import (
    Bigrams,
    corpus_bigrams,
    corpus_tokens,
    counted_bigrams,
    onehot_bigrams,
    random_bigrams,
)
from tests.helpers import assert_refused


def dense(bigrams: Bigrams) -> np.ndarray:
    table = np.zeros((bigrams.vocab_size, bigrams.outputs))
    table[bigrams.context, bigrams.target] = bigrams.probability
    return table


@pytest.mark.parametrize("outputs", [300, 20])
def test_a_corpus_has_the_next_token_frequencies_of_its_dense_table(
    text_folder: Path, outputs: int
) -> None:
    bigrams = corpus_bigrams(str(text_folder), 300, outputs)
    tokens = corpus_tokens(str(text_folder), 300)
    occurs = tokens.counts > 0
    table = dense(bigrams)
    np.testing.assert_allclose(table[occurs], tokens.next_token_frequencies(outputs)[occurs])
    assert not table[~occurs].any()
    law = token_law(f"corpus:{text_folder}", 300)
    bigrams.check_law(law)
    if outputs == 300:  # the next tokens of a text are its tokens
        next_tokens = bigrams.target_frequencies(law.frequencies)
        np.testing.assert_allclose(next_tokens, law.frequencies, atol=2 / len(tokens.stream))


def test_sparse_sums_are_those_of_the_dense_residuals() -> None:
    law = token_law("zipf:0.8", 200)
    bigrams = random_bigrams(law, 50, followers=7, seed=3)
    p, table = law.frequencies, dense(bigrams)
    residual = 1 / 50 - table
    field = (p**2) @ residual**2
    norm = np.sum(residual**2, axis=1)
    aligned = p[:, None] ** 2 * residual**2 / field
    q = p @ table
    np.testing.assert_allclose(bigrams.target_frequencies(p), q)
    np.testing.assert_allclose(bigrams.field_square_sums(p), field)
    np.testing.assert_allclose(bigrams.residual_norm_squares, norm)
    contexts = np.sum(p[:, None] * table * aligned, axis=0) / q
    np.testing.assert_allclose(1 / bigrams.effective_contexts(p), contexts)
    following = np.sum(table * residual**2, axis=1) / norm
    np.testing.assert_allclose(1 / bigrams.effective_next_tokens(), following)


def test_equally_frequent_contexts_and_targets_are_counted() -> None:
    """Four contexts a target, and sixteen targets a context, among 1024."""
    m, contexts = 1024, 4
    context = np.arange(m)
    bigrams = counted_bigrams(context, context // contexts, np.ones(m), m, m)
    uniform = np.full(m, 1 / m)
    assert bigrams.effective_contexts(uniform)[: m // contexts] == pytest.approx(contexts, rel=2e-3)
    assert np.all(np.isinf(bigrams.effective_contexts(uniform)[m // contexts :]))
    pairs = np.arange(16 * m)
    many = counted_bigrams(pairs // 16, pairs % 16 + 16 * (pairs // 1024), np.ones(16 * m), m, m)
    assert many.effective_next_tokens() == pytest.approx(16, rel=0.03)


def test_one_hot_classes_are_those_of_the_targets() -> None:
    setup = Setup(width=2, vocab_size=40, outputs=6, targets="onehot", seed=5)
    np.testing.assert_array_equal(dense(onehot_bigrams(40, 6, seed=5)), targets(setup))


def test_wrong_counts_are_refused() -> None:
    pairs, ones = np.arange(4), np.ones(4)
    counted = counted_bigrams(pairs, pairs, np.array([8.0, 4, 2, 2]), 4, 4)
    assert_refused("tokens", lambda: counted.check_law(token_law("uniform", 4)), "text")
    assert_refused("vocab_size", lambda: counted.check_law(token_law("uniform", 5)), "4")
    few = counted_bigrams(pairs[:2], pairs[:2], ones[:2], 4, 4)
    assert_refused("tokens", lambda: few.check_law(token_law("uniform", 4)), "token 2")
    assert_refused("target", lambda: counted_bigrams(pairs, pairs, ones, 4, 3), "0 to 2")
    assert_refused("outputs", lambda: counted_bigrams(pairs, pairs, ones, 4, 5))
    assert_refused("count", lambda: counted_bigrams(pairs, pairs, -ones, 4, 4))
    assert_refused("probability", lambda: Bigrams(pairs, pairs, ones / 2, 4, 4), "sum to 1")
    assert_refused("context", lambda: Bigrams(pairs[::-1], pairs, ones, 4, 4), "sorted")
    assert_refused("outputs", lambda: onehot_bigrams(4, 1))
    assert_refused("followers", lambda: random_bigrams(token_law("uniform", 4), 4, 0))
