"""Equal tokens of a batch are evaluated once, weighted by their count: the same training."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from dynsim.laboratory import NetworkSetup, task, train_networks
from dynsim.laboratory import _tasks as tasks

pytestmark = pytest.mark.usefixtures("quick_compilation")

MLP = NetworkSetup(
    network="mlp",
    width=8,
    depth=1,
    vocab_size=60,
    outputs=5,
    tokens="zipf:1.2",
    batch_size=64,
    steps=12,
    precision="float64",
)


def changed(**values) -> NetworkSetup:
    return dataclasses.replace(MLP, **values)


def test_each_type_of_a_batch_has_its_count():
    merging, keys = task(MLP), jax.random.split(jax.random.key(1), 50)
    assert isinstance(merging, tasks.TableTask)
    assert 0 < merging.room < 48
    found = jax.vmap(lambda key: merging.at(merging.drawn(key)))(keys)
    each = jax.vmap(merging.batch)(keys)
    assert found.tokens.shape == (50, merging.room, 1)
    for tokens, weights, apart in zip(found.tokens, found.weights, each.tokens, strict=True):
        shares = np.bincount(np.ravel(tokens), np.ravel(weights), minlength=60)
        np.testing.assert_allclose(shares, np.bincount(np.ravel(apart), minlength=60) / 64)
        used = np.ravel(tokens)[np.ravel(weights) > 0]
        assert len(np.unique(used)) == len(used)


@pytest.mark.parametrize(
    ("types", "law"),
    [(512, "zipf:1"), (64, "uniform"), (128, "uniform"), (4000, "zipf:1.6"), (1, "uniform")],
)
def test_room_is_too_small_for_a_hundredth_of_trainings(types, law):
    """Of 200 steps each; the quantile of single batches is within a step of the room."""
    setup = changed(vocab_size=types, tokens=law, batch_size=256, steps=200)
    room, step = tasks.room_for_types(setup), 256 // tasks.ROOM_STEPS
    random = np.random.default_rng(5)
    tokens = random.choice(types, size=(20_000, 256), p=setup.law().frequencies)
    distinct = 1 + np.count_nonzero(np.diff(np.sort(tokens)), axis=1)
    lost = (distinct.reshape(100, 200) > room).any(axis=1)
    assert lost.sum() <= 5
    assert room <= np.quantile(distinct, 1 - 0.01 / 200) + 2 + step


@pytest.mark.parametrize(
    "values",
    [
        {"tokens": "uniform", "vocab_size": 4096},  # hardly any equal tokens
        {"batch_size": 0},
        {"network": "transformer", "width": 16, "head_width": 8, "context": 4},
    ],
)
def test_there_is_no_room_where_tokens_stay_apart(values):
    assert tasks.room_for_types(changed(**values)) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "mse"},
        {"loss": "ce", "targets": "onehot"},
        {"network": "linear", "vocab_size": 20},
    ],
)
def test_training_is_the_same_as_with_each_token_by_itself(values, monkeypatch):
    setup = changed(**values)
    runs = {"embedding_lrs": [0.02, 0.1], "hidden_lrs": 0.05, "horizons": [3, 12]}
    assert tasks.room_for_types(setup) > 0
    merged = train_networks(setup, **runs)
    monkeypatch.setattr(tasks, "room_for_types", lambda setup: 0)
    apart = train_networks(setup, **runs)
    np.testing.assert_allclose(merged.train_loss, apart.train_loss, rtol=1e-10)
    np.testing.assert_allclose(merged.loss, apart.loss, rtol=1e-10)


@pytest.mark.parametrize("horizons", [[3, 12], list(range(1, 13))])
def test_a_batch_of_too_many_types_is_trained_again_with_each_token_by_itself(
    horizons, monkeypatch
):
    runs = {"embedding_lrs": [0.02, 0.1, 0.3], "hidden_lrs": 0.05, "horizons": horizons}
    monkeypatch.setattr(tasks, "RETRAINED", MLP.steps - 1e-3)
    small = task(MLP)
    drawn = jax.vmap(small.drawn)(jax.random.split(jax.random.key(0), 100))
    assert isinstance(small, tasks.TableTask)
    assert small.room > 0
    assert np.count_nonzero(jax.vmap(small.lost)(drawn)) > 30
    merged = train_networks(MLP, **runs)
    monkeypatch.setattr(tasks, "room_for_types", lambda setup: 0)
    apart = train_networks(MLP, **runs)
    np.testing.assert_array_equal(merged.train_loss, apart.train_loss)
    np.testing.assert_array_equal(merged.loss, apart.loss)
