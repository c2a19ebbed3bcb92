"""Equal tokens of a batch are evaluated once, weighted by their count: the same training."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from dynsim.laboratory import NetworkSetup, task, train_networks
from dynsim.laboratory import _tasks as tasks
from dynsim.laboratory import _training as training

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


def room_of(setup: NetworkSetup, seeds: int) -> int:
    runs = training._runs(setup, training.run_columns(setup, seeds=np.arange(seeds)))
    return training._room(setup, task(setup), runs, setup.steps, at_once=16)


def drawn_types(setup: NetworkSetup, seeds: int) -> np.ndarray:
    """The number of types of every batch, shape (seeds, steps), counted by numpy."""
    runs = training._runs(setup, training.run_columns(setup, seeds=np.arange(seeds)))
    drawn, steps = task(setup), range(setup.steps)
    keys = [jax.random.wrap_key_data(key) for key in runs.batches]
    draw = jax.jit(lambda key, step: drawn.batch(jax.random.fold_in(key, step)).tokens)
    return np.array([[len(np.unique(draw(key, step))) for step in steps] for key in keys])


def test_each_type_of_a_batch_has_its_count():
    drawn, keys = task(MLP), jax.random.split(jax.random.key(1), 50)
    assert isinstance(drawn, tasks.TableTask)
    found = jax.vmap(lambda key: drawn.at(*tasks.merged(drawn.drawn(key), 40)))(keys)
    each = jax.vmap(drawn.batch)(keys)
    assert found.tokens.shape == (50, 40, 1)
    for tokens, weights, apart in zip(found.tokens, found.weights, each.tokens, strict=True):
        shares = np.bincount(np.ravel(tokens), np.ravel(weights), minlength=60)
        np.testing.assert_allclose(shares, np.bincount(np.ravel(apart), minlength=60) / 64)
        assert set(np.ravel(tokens)) == set(np.ravel(apart))
        assert np.count_nonzero(weights) == len(np.unique(apart))


@pytest.mark.parametrize(
    ("types", "law", "size"),
    [
        (512, "zipf:1", 256),
        (64, "uniform", 256),
        (128, "uniform", 256),
        (4000, "zipf:1.6", 256),
        (500, "zipf:2", 32),
        (1, "uniform", 256),
    ],
)
def test_few_batches_have_more_types_than_there_is_room_for(types, law, size):
    setup = changed(vocab_size=types, tokens=law, batch_size=size)
    room, step = tasks.room_for_types(setup), size // tasks.ROOM_STEPS
    random = np.random.default_rng(5)
    tokens = random.choice(types, size=(20_000, size), p=setup.law().frequencies)
    distinct = 1 + np.count_nonzero(np.diff(np.sort(tokens)), axis=1)
    assert np.mean(distinct > room) < 1e-3
    spread = distinct.mean() + tasks.DEVIATIONS * distinct.std()
    assert room <= 1.02 * spread + step


def test_there_is_room_for_every_batch_of_the_runs(monkeypatch):
    monkeypatch.setattr(training, "COUNTED_PER_CALL", 20)
    setup = changed(steps=50)
    counted = drawn_types(setup, 3)
    assert room_of(setup, 3) == tasks.room_for_types(setup) >= counted.max()
    monkeypatch.setattr(tasks, "DEVIATIONS", -5)
    assert tasks.room_for_types(setup) < counted.min()
    for seeds in (1, 3):
        most = counted[:seeds].max()
        assert most <= room_of(setup, seeds) < most + 64 // tasks.ROOM_STEPS
    monkeypatch.setattr(tasks, "MERGED_SHARE", (counted.max() - 1) / 64)
    assert room_of(setup, 3) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"tokens": "uniform", "vocab_size": 4096},  # hardly any equal tokens
        {"batch_size": 0},
        {"network": "transformer", "width": 16, "head_width": 8, "context": 4},
        {"targets": "next-token", "tokens": None, "outputs": None, "vocab_size": 300},
    ],
)
def test_there_is_no_room_where_tokens_stay_apart(values):
    assert tasks.room_for_types(changed(**values)) == 0


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        ({"loss": "mse"}, 1e-10),
        ({"loss": "ce", "targets": "onehot"}, 1e-10),
        ({"network": "linear", "vocab_size": 20}, 1e-10),
        ({"precision": "float32"}, 1e-4),
    ],
)
def test_training_is_the_same_as_with_each_token_by_itself(values, tolerance, monkeypatch):
    setup = changed(**values)
    runs = {"embedding_lrs": [0.02, 0.1], "hidden_lrs": 0.05, "seeds": [0, 1], "horizons": [3, 12]}
    assert room_of(setup, 2) > 0
    merged = train_networks(setup, **runs)
    monkeypatch.setattr(training, "room_for_types", lambda *arguments: 0)
    apart = train_networks(setup, **runs)
    np.testing.assert_allclose(merged.train_loss, apart.train_loss, rtol=tolerance)
    np.testing.assert_allclose(merged.loss, apart.loss, rtol=tolerance)


def test_updates_are_the_same_too(monkeypatch):
    merged = train_networks(MLP, record_updates=True)
    monkeypatch.setattr(training, "room_for_types", lambda *arguments: 0)
    apart = train_networks(MLP, record_updates=True)
    assert merged.projection_step_rms is not None
    np.testing.assert_allclose(merged.projection_step_rms, apart.projection_step_rms, rtol=1e-9)
