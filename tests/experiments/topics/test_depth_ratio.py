"""The networks of the topic depth_ratio, against other routes to the same function."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynsim import LayerValues, targets
from dynsim.laboratory import initial_network, network_shape
from experiments.topics._stored import stored_study
from experiments.topics.depth_ratio.estimators import coordinate_search
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


def test_a_search_along_one_rate_after_the_other_ends_in_the_valley_where_it_starts():
    """Valleys at (1, 1) and, deeper, at (4, 4), with a ridge between them."""
    first, second = np.meshgrid(np.arange(6.0), np.arange(6.0), indexing="ij")
    losses = np.minimum(1 + np.hypot(first - 1, second - 1), 3 * np.hypot(first - 4, second - 4))
    assert coordinate_search(losses, (0, 2)) == (1, 1)
    assert coordinate_search(losses, (5, 4)) == (4, 4)


def test_the_best_three_rates_do_not_change_with_the_width():
    """Of the embedding, and d times those of the others; a search along lines misses them."""
    loss = stored_study("depth_ratio_three_rates").loss
    found = []
    for width in loss.width.values:
        values = loss.sel(width=width).transpose("embedding", "hidden", "readout").to_numpy()
        best = tuple(map(int, np.unravel_index(values.argmin(), values.shape)))
        assert all(0 < place < size - 1 for place, size in zip(best, values.shape, strict=True))
        ends = [coordinate_search(values, place) for place in np.ndindex(values.shape)]
        assert 0.02 < np.mean([end == best for end in ends]) < 0.2
        found.append(best)
    assert len(found) == 2
    assert found[0] == found[1]
