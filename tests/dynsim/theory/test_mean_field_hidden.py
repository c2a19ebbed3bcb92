"""Mean field with linear hidden layers: against trained networks and the exact first step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_refused

import derivations
from derivations import _mean_field_hidden as hidden
from derivations import symbols as s
from dynsim import Setup, train
from dynsim.laboratory import NetworkSetup, network_coordinates
from dynsim.theory.mean_field._predict import predict

pytestmark = pytest.mark.usefixtures("quick_compilation")

DEEP = NetworkSetup(
    network="mlp",
    activation="identity",
    normalisation="none",
    precision="float64",
    width=8,
    base_width=1,
    init_exponents="0,-1/2,-1",
    lr_exponents="0,0,0",
    vocab_size=16,
    steps=4,
    optimizer="adam",
    embedding_lr=0.1,
    hidden_lr=0.03,
)
SETUPS = {
    "residual, Adam with decay, mini-batch": replace(
        DEEP,
        depth=1,
        outputs=2,
        loss="ce",
        targets="onehot",
        tokens="zipf:1",
        batch_size=24,
        weight_decay=0.5,
    ),
    "plain, Muon": replace(
        DEEP, depth=2, residual="no", optimizer="muon", outputs=2, hidden_lr=0.1, schedule="linear"
    ),
}
UPDATES = (
    "projection_update_rms",
    "embedding_update_rms",
    "projection_step_rms",
    "hidden_update_rms",
)


def hidden_updates(result):
    """The sizes of the hidden layers' updates, which a result without such layers lacks."""
    assert result.hidden_update_rms is not None
    return result.hidden_update_rms


@pytest.mark.slow
@pytest.mark.parametrize("name", SETUPS)
def test_few_neurons_are_a_finite_network(name):
    """As many independent neurons as the network has, all tokens: the network's own law."""
    setup = SETUPS[name]
    prediction = predict(setup, particles=128, replicas=200, error_estimate=False)
    networks = train(setup, 2000, horizons=range(1, setup.steps), record_updates=True)
    losses = np.hstack([networks.initial_loss[:, None], networks.loss])
    error = np.hypot(losses.std(axis=0) / np.sqrt(len(losses)), prediction.loss_error[0])
    distance = np.abs(prediction.loss[0] - losses.mean(axis=0))
    assert np.all(distance < 3.5 * error)
    assert np.all(error < 0.025 * losses[:, 0].mean())
    assert losses[:, -1].mean() < 0.8 * losses[:, 0].mean(), "nothing was learned"
    for update in UPDATES:
        squares = getattr(networks, update) ** 2
        rms = np.sqrt(squares.mean(axis=0))[-1]
        error = squares.std(axis=0)[-1] / np.sqrt(len(squares)) / (2 * rms)
        error = np.hypot(error, getattr(prediction, f"{update}_error")[0, -1])
        assert np.all(np.abs(getattr(prediction, update)[0, -1] - rms) < 4 * error), update
        assert np.all(error < 0.06 * rms), update


@pytest.mark.slow
def test_first_update_of_every_layer_is_the_derived_one():
    """One step of sign descent at a width that no network could have."""
    width, tokens = 2**16, 2**18
    setup = replace(
        DEEP,
        width=width,
        vocab_size=tokens,
        depth=3,
        residual="no",
        optimizer="sign",
        targets="sign",
        steps=2,
        embedding_lr=0.0,
        hidden_lr=1e-6,
    )
    found = predict(setup, particles=512, replicas=32, error_estimate=False, finite_width=False)
    formula = derivations.hidden_first_mean_field_update().expression.subs(
        {s.width: width, s.embedding_std: 1, s.projection_lr: 1e-6, s.alignment_square: 1 / tokens}
    )
    for layer in (1, 2, 3):
        expected = float(formula.subs(hidden.hidden_level, layer)) ** 0.5
        assert hidden_updates(found)[0, 1, layer - 1] == pytest.approx(expected, rel=0.04)


@pytest.mark.slow
def test_rates_of_layers_are_their_own():
    """A frozen layer is not updated, the others are; the readout's rate is a ratio, or given."""
    setup = replace(DEEP, depth=2, steps=3, optimizer="sign")
    tiny = {"particles": 128, "replicas": 2, "error_estimate": False, "finite_width": False}
    found = predict(setup, hidden_lrs=[[0.1, 0.0], [0.0, 0.1]], projection_lrs=[0.0, 0.1], **tiny)
    moved = hidden_updates(found)[:, -1] > 1e-12
    np.testing.assert_array_equal(moved, [[True, False], [False, True]])
    np.testing.assert_array_equal(found.projection_update_rms[:, -1] > 1e-12, [False, True])
    assert found.to_xarray().hidden_update_rms.dims == ("rates", "step", "layer")


@pytest.mark.slow
def test_skips_around_matrices_that_do_nothing_are_the_linear_model():
    """Hidden matrices that start at next to nothing and are frozen: depth leaves no trace."""
    fields = {"width": 64, "vocab_size": 256, "steps": 4, "optimizer": "adam", "tokens": "zipf:1"}
    frozen = {"init_exponents": "0,-4,-1", "parametrization": "sp", "hidden_lr": 0.0}
    rates = {"embedding_lr": 0.05, "readout_lr": 0.02}
    deep = replace(DEEP, depth=2, residual="yes", **fields, **frozen, **rates)
    linear = Setup(init="mup", projection_lr=0.02, embedding_lr=0.05, **fields)
    few = {"particles": 256, "replicas": 16, "error_estimate": False}
    found, known = predict(deep, **few), predict(linear, **few)
    for name in ("loss", *UPDATES[:3]):
        ours, exact = (getattr(one, name)[0] for one in (found, known))
        errors = (getattr(one, f"{name}_error")[0] for one in (found, known))
        assert np.all(np.abs(ours - exact) <= 3.5 * np.hypot(*errors) + 1e-9), name
    assert np.all(found.loss_error < 0.02 * found.loss[0, 0])
    assert found.loss[0, -1] < 0.8 * found.loss[0, 0], "nothing was learned"
    assert np.all(hidden_updates(found) < 1e-12)


def test_readout_has_the_rate_that_it_is_given():
    """By itself, or as a multiple of the hidden layers': the same networks."""
    given, ratio = (
        train(replace(DEEP, steps=2, **rate), 2).loss
        for rate in ({"readout_lr": 0.015}, {"readout_ratio": 0.5})
    )
    np.testing.assert_array_equal(given, ratio)
    assert_refused(
        "readout_ratio", lambda: replace(DEEP, readout_lr=0.1, readout_ratio=2.0), "left out"
    )
    assert_refused("readout_lr", lambda: replace(DEEP, readout_lr=-0.1), "from 0")
    assert_refused("readout_lr", lambda: replace(DEEP, network="linear", readout_lr=0.1), "linear")


def test_recorded_updates_are_those_of_the_coordinate_check():
    setup = replace(DEEP, depth=2, width=32, base_width=32, activation="relu", vocab_size=20)
    recorded = train(setup, 2, record_updates=True)
    checked = network_coordinates(setup, [3], 2)
    place = list(checked.to_xarray()["quantity"].values).index("update")
    squares = checked.mean_square[:, -1, :, place]
    projection = recorded.projection_update_rms
    assert projection is not None
    ours = np.column_stack([hidden_updates(recorded)[:, 3], projection[:, 3]])
    names = [checked.matrices.index(name) for name in ("hidden.0", "hidden.1", "readout")]
    np.testing.assert_allclose(ours**2, squares[:, names], rtol=1e-9)
    embedding = recorded.embedding_update_rms
    assert embedding is not None
    assert np.all(embedding[:, 1:] > 0)


def test_bad_input():
    for field, value, words in (
        ("depth", 9, "at most 8"),
        ("network", "transformer", "linear or mlp"),
    ):
        setup = replace(DEEP, **{field: value}, **_valid(field))
        assert_refused(field, lambda setup=setup: predict(setup), words)
    assert_refused("depth", lambda: replace(DEEP, depth=0), "linear")
    for wrong in ([[0.1, 0.1, 0.1]], [[[0.1]]]):
        assert_refused("hidden_lrs", lambda wrong=wrong: predict(DEEP, hidden_lrs=wrong), "2 lay")
    assert_refused("hidden_lrs", lambda: predict(Setup(), hidden_lrs=0.1), "no layer is hidden")
    assert_refused("particles", lambda: predict(DEEP, particles=15), "at least 16")
    assert_refused("optimizer", lambda: Setup(optimizer="muon"), "mlp")
    assert_refused(
        "network", lambda: train(replace(DEEP, network="linear"), record_updates=True), "mlp"
    )


def _valid(field):
    return {"batch_size": 32, "head_width": 2} if field == "network" else {}
