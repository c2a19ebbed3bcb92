"""Heads with many outputs: in blocks and sparse they are the dense softmax."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_refused

from dynsim import Setup, train
from dynsim.laboratory import NetworkSetup, train_networks
from dynsim.laboratory import _head as head
from dynsim.laboratory import _workers as workers
from dynsim.tokens._bigrams import random_bigrams
from dynsim.tokens._laws import token_law

pytestmark = pytest.mark.usefixtures("quick_compilation")

TOKENS, OUTPUTS, WIDTH = 23, 11, 5


def test_a_pass_in_blocks_is_the_dense_softmax(monkeypatch, random):
    """Losses and both gradients, with tokens that do not fill the blocks and one without pairs."""
    monkeypatch.setattr(head, "BLOCK_ROWS", 6)
    bigrams = random_bigrams(token_law("zipf:1", TOKENS), OUTPUTS, 4, seed=1)
    kept = bigrams.context != 3
    bigrams = dataclasses.replace(
        bigrams,
        **{name: getattr(bigrams, name)[kept] for name in ("context", "target", "probability")},
    )
    table = np.zeros((TOKENS, OUTPUTS))
    table[bigrams.context, bigrams.target] = bigrams.probability
    z, w = random.standard_normal((TOKENS, WIDTH)), random.standard_normal((OUTPUTS, WIDTH))
    weights = random.random(TOKENS) * (np.arange(TOKENS) != 3)
    logits = z @ w.T
    known = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    residual = weights[:, None] * (known - table)
    pairs = head.bigram_pairs(bigrams, "float64")
    found = head.head_pass(jnp.asarray(z), jnp.asarray(w), jnp.asarray(weights), pairs)
    occurs = weights > 0
    np.testing.assert_allclose(found.loss[occurs], -(table * np.log(known)).sum(axis=1)[occurs])
    np.testing.assert_allclose(found.by_features, residual @ w, atol=1e-14)
    np.testing.assert_allclose(found.by_readout, residual.T @ z, atol=1e-14)
    value, (by_z, by_w) = jax.value_and_grad(head.head_loss, (0, 1))(
        jnp.asarray(z), jnp.asarray(w), jnp.asarray(weights), pairs
    )
    assert float(value) == pytest.approx(float(weights @ found.loss), rel=1e-13)
    np.testing.assert_allclose(by_z, found.by_features)
    np.testing.assert_allclose(by_w, found.by_readout)


def test_mean_square_outputs_need_no_outputs(random):
    z, a = random.standard_normal((7, 3)), random.standard_normal((9, 3))
    found = head.mean_square_outputs(jnp.asarray(z), jnp.asarray(a))
    np.testing.assert_allclose(found, np.mean((z @ a.T) ** 2, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_both_trainers_learn_sparse_targets_as_dense_ones(monkeypatch, tied):
    """The same losses and updates with the table sparse and in blocks."""
    classes = {"targets": "onehot", "vocab_size": 12, "outputs": 12, "tokens": "zipf:1"}
    one = NetworkSetup(
        network="mlp", width=6, steps=3, precision="float64", tied=tied, **classes, depth=1
    )
    linear = Setup(width=6, steps=3, **classes)

    def trained() -> list[Any]:
        found = train_networks(one, seeds=2, record_updates=not tied)
        both = train(linear, 2, dtype="float64")
        updates = [] if tied else [found.projection_step_rms, found.embedding_update_rms]
        return [found.loss, found.train_loss, *updates, both.loss, both.projection_update_rms]

    dense = trained()
    monkeypatch.setattr("dynsim._targets.MANY_OUTPUTS", 4)
    monkeypatch.setattr(head, "BLOCK_ROWS", 5)
    for sparse, known in zip(trained(), dense, strict=True):
        np.testing.assert_allclose(sparse, known, rtol=1e-10, atol=1e-14)


def test_heads_larger_than_memory_are_refused_with_the_largest_that_fits(monkeypatch):
    monkeypatch.setattr("dynsim._runs.free_memory", lambda: 2**30)
    for setup in (
        Setup(targets="onehot", vocab_size=10**6, outputs=10**6),
        NetworkSetup(network="mlp", targets="onehot", vocab_size=10**6, outputs=10**6),
    ):
        with pytest.raises(ValueError, match="the largest head that fits") as error:
            train(setup)
        most = int(str(error.value).split("at most ")[1].split(",")[0])
        fits = dataclasses.replace(setup, vocab_size=most, outputs=most)
        assert 10**4 < most < 10**6
        from dynsim.laboratory._memory import check_network_fits

        check_network_fits(fits)
        larger = dataclasses.replace(setup, vocab_size=most + 1, outputs=most + 1)
        assert_refused("vocab_size", lambda: check_network_fits(larger))  # noqa: B023


def test_the_number_of_threads_changes_no_byte(monkeypatch):
    setup = NetworkSetup(network="mlp", width=4, vocab_size=9, outputs=2, steps=3)
    rates = np.geomspace(0.01, 0.1, 5)
    found = []
    for cores in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        finished: list[float] = []
        found.append(train_networks(setup, rates, rates, progress=finished.append).train_loss)
        assert sum(finished) == pytest.approx(1)
    np.testing.assert_array_equal(*found)


def test_what_fails_in_a_thread_is_raised():
    def fail(item: int) -> None:
        if item == 1:
            raise KeyError("one")

    with pytest.raises(KeyError, match="one"):
        workers.Crew(2).map(fail, range(3))
