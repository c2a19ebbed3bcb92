"""The size of first gradients, which epsilon is held against, is that of a network's own."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from dynsim import Setup
from dynsim._initial import initial_weights, seed_keys
from dynsim.laboratory import _linear_training as trainer
from dynsim.scaling._epsilon import first_gradients


@pytest.mark.parametrize(
    "options",
    [
        {"outputs": 1, "targets": "sign"},
        {"outputs": 16},
        {"outputs": 16, "targets": "onehot"},
        {"outputs": 4, "batch_size": 64},
    ],
    ids=["one", "many", "onehot", "batch"],
)
def test_first_gradients_are_those_of_a_network(options):
    """To a fifth: a factor of two, or a missing root of n, would be seen."""
    setup = Setup(width=256, vocab_size=512, optimizer="adam", **options)
    plan, task = trainer._plan(setup, 1, "float64"), trainer._task(setup, "float64")
    key = seed_keys(setup, 1)[0]
    weights = initial_weights(plan.sizes, task.projection_std, key, "float64")
    share = trainer._batch_share(plan, task, key, jnp.asarray(0))
    _, gradients = trainer._loss_and_gradients(plan, task, share, weights)
    by_token = np.sqrt(np.mean(np.square(gradients.embedding), axis=1))
    found = first_gradients(setup)
    assert found["embedding"] == pytest.approx(float(np.asarray(share) @ by_token), rel=0.2)
    of_projection = float(np.sqrt(np.mean(np.square(gradients.projection))))
    assert found["projection"] == pytest.approx(of_projection, rel=0.2)
