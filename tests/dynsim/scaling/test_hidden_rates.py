"""The embedding's optimal learning rate over the hidden one, against the linear model's."""

from __future__ import annotations

import numpy as np
import pytest

from dynsim import NetworkSetup, Setup, optimal_learning_rates
from dynsim.scaling.quantities import _rate_search as search
from dynsim.scaling.quantities._registry import QUANTITIES
from tests.helpers import assert_refused

ALONE = QUANTITIES["hidden_optimal_rate_ratio"]
JOINT = QUANTITIES["joint_hidden_optimal_rate_ratio"]


def network(**fields):
    options = {"width": 4096, "vocab_size": 16384, "optimizer": "sign", "steps": 2, "outputs": 1}
    plain = {"activation": "identity", "normalisation": "none", "residual": "no", "depth": 1}
    return NetworkSetup(network="mlp", **(options | plain | fields))


@pytest.mark.slow
def test_a_hidden_matrix_alone_has_the_rate_of_a_projection(quick_compilation):
    """Its update is the projection's times the sum of the readout's sizes, sqrt(2/pi)."""
    setup = network(base_width=64)
    alone = optimal_learning_rates(setup.width, setup.law(), init="mup", targets="gaussian")
    (found,) = ALONE.mean_field([setup])
    assert found.value == pytest.approx(float(alone[0] / alone[1]) * (2 / np.pi) ** 0.5, rel=0.06)


def test_it_is_about_hidden_layers_that_the_theory_covers():
    assert_refused("network", lambda: ALONE.check(Setup()), "mlp")
    assert_refused("activation", lambda: ALONE.check_mean_field(network(activation="relu")), "")


def test_networks_of_a_seed_are_searched_around_their_optimum(quick_compilation):
    setup = network(width=16, vocab_size=64, optimizer="adam")
    assert ALONE.measurement is not None
    arrays = ALONE.measurement.run(setup, np.arange(2), lambda part: None)
    sampled = ALONE.sampled(setup, arrays)
    ratio = float(np.exp(sampled.log_value(sampled.samples)))
    assert 2 < ratio < 100


def test_joint_rates_are_read_from_a_tilted_valley_with_the_readout_trained():
    """Best rates are given; the ratio is that of the weights, by the factors of the width."""
    setup = network(width=64, base_width=16, optimizer="adam", steps=4, readout_ratio=0.3)
    factors = search.own_factors(setup)
    best = search._centres(setup, search.deep_network_losses) * np.array([3.0, 0.2])
    readouts = set()

    def valley(task, embedding_lrs, hidden_lrs):
        readouts.add(task.readout_ratio)
        with np.errstate(divide="ignore"):
            x, y = np.log(embedding_lrs / best[0]), np.log(hidden_lrs / best[1])
        frozen = np.isinf(x) | np.isinf(y)
        x, y = (np.where(np.isinf(one), 0.0, one) for one in (x, y))
        loss = 4 + 0.05 * (x**2 + y**2 + 1.2 * x * y) + 0.1 * frozen
        return np.stack([np.full(len(x), 5.0), loss])

    arrays = JOINT._searched(setup, np.arange(2), lambda part: None, valley)
    sampled = JOINT.sampled(setup, arrays)
    expected = best[0] * factors[0] / (best[1] * factors[1])
    assert np.exp(sampled.log_value(sampled.samples)) == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(best[0] / best[1], rel=0.1)
    assert readouts == {0.3}
    assert_refused("network", lambda: JOINT.check(Setup()), "mlp")
