"""Targets: the same seed gives the same targets whatever the width, vocabulary or precision."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_mean, assert_rejected

from dynsim import Setup, targets
from dynsim.tokens import corpus_tokens

KINDS = ("gaussian", "sign", "onehot")


def of(kind: str, **fields) -> np.ndarray:
    return targets(Setup(**{"targets": kind, "vocab_size": 50, "outputs": 4} | fields))


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_targets_across_sizes(kind):
    table = of(kind)
    assert table.shape == (50, 4)
    assert np.array_equal(table, of(kind, width=7, init="sp", optimizer="adam", steps=3))
    assert np.array_equal(table, of(kind, vocab_size=500)[:50])
    assert np.array_equal(table[:20], targets(Setup(targets=kind, vocab_size=50, outputs=4), 20))
    assert np.array_equal(table, of(kind, tokens="zipf:1", batch_size=8))


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_gives_other_targets(kind):
    assert not np.array_equal(of(kind), of(kind, seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_seed_streams_do_not_touch(kind):
    """Seeds 0, 1, 2, ... do not share rows, as seeds of one growing stream would."""
    rows = np.concatenate([of(kind, seed=seed, outputs=40) for seed in range(4)])
    if kind == "onehot":
        rows = rows.reshape(4, -1)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_what_the_targets_are():
    many = {"vocab_size": 20_000}
    gaussian = of("gaussian", **many).ravel()
    assert abs(gaussian.mean()) < 0.02
    assert_mean(gaussian**2, 1.0)
    assert_rejected(gaussian**2, 1.1)
    sign = of("sign", **many)
    assert set(np.unique(sign)) == {-1.0, 1.0}
    assert abs(sign.mean()) < 0.02
    onehot = of("onehot", **many)
    assert np.array_equal(np.unique(onehot), [0, 1])
    assert np.array_equal(onehot.sum(axis=1), np.ones(20_000))
    for share in onehot.T:
        assert_mean(share, 0.25)
        assert_rejected(share, 0.28)


def test_bigram_targets_are_the_corpus_statistics(text_folder):
    setup = Setup(
        targets="bigram", tokens=f"corpus:{text_folder}", vocab_size=300, outputs=6, loss="ce"
    )
    table = targets(setup)
    expected = corpus_tokens(str(text_folder), 300).next_token_frequencies(6)
    assert np.array_equal(table, expected)
    assert table.sum(axis=1) == pytest.approx(np.ones(300))
    assert np.array_equal(targets(setup, 10), expected[:10])
    import dataclasses

    assert np.array_equal(targets(dataclasses.replace(setup, seed=5, width=3)), expected)
