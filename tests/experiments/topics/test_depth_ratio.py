"""The networks of the topic depth_ratio, against other routes to the same function."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynsim import LayerValues, targets
from dynsim.laboratory import initial_network, network_shape
from experiments.topics.depth_ratio.networks import network_losses, outputs
from experiments.topics.depth_ratio.study import LAYERS, centre, network_setup

ONES = LayerValues(1.0, 1.0, 1.0, 1.0)


def start(setup):
    factors = replace(ONES, readout=setup.width**-0.5)
    return initial_network(network_shape(setup), factors, jax.random.key(3))


def test_outputs_in_the_cheap_order_are_those_of_the_laboratory():
    setup = replace(network_setup("adam", "proportional", 3, 16, 2, 0), precision="float64")
    network = start(setup)
    usual = network(jnp.arange(setup.vocab_size), ONES).outputs
    np.testing.assert_allclose(outputs(network), usual, rtol=1e-12)
    assert not np.allclose(outputs(network), usual[::-1])


@pytest.mark.parametrize("factor", [1.0, 1.05])
def test_a_hidden_matrix_alone_learns_as_a_projection_does(factor, quick_compilation):
    """At the rate eta times the sum of |w|: sign descent of the linear model, by hand."""
    setup = replace(network_setup("sign", "proportional", 1, 32, 8, 5), precision="float64")
    network = start(setup)
    rate, weight = 0.05, np.asarray(network.readout)[0]
    embedding, wanted = np.asarray(network.embedding), targets(setup)[:, 0]
    projection = weight @ np.asarray(network.hidden[0])
    step = factor * rate * np.abs(weight).sum()
    losses = []
    for _ in range(setup.steps):
        residual = embedding @ projection - wanted
        losses.append(0.5 * np.mean(residual**2))
        projection = projection - step * np.sign(residual @ embedding)
    zero = np.zeros(1)
    trained = network_losses(setup, 3, zero, np.array([rate]), zero)[0]
    assert np.allclose(trained, losses, rtol=1e-9) == (factor == 1.0)


def test_grids_lie_lower_where_more_is_trained_together():
    for optimizer in ("adam", "muon"):
        alone, *_ = (centre(optimizer, "hidden", depth, 4096, 16384) for depth in (1, 2))
        together = centre(optimizer, "hidden", 2, 4096, 16384)
        joint = centre(optimizer, "all", 2, 4096, 16384)
        assert joint < together < alone
    assert len(set(LAYERS)) == len(LAYERS)
