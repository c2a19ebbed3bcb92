"""One setup by every route: where routes are one and the same, and where they part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_close_curves, assert_refused

from dynsim import InputError, Outcome, Setup, Status, compare, train
from dynsim.comparison import _routes
from dynsim.comparison._compare import _parting
from dynsim.comparison._linearised import linearised_curves
from dynsim.comparison._result import QUANTITIES, Curves
from dynsim.laboratory import NetworkSetup

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETUP = Setup(width=6, vocab_size=9, tokens="zipf:1", outputs=2, steps=6, optimizer="sgd")
OPTIMIZERS = {
    "sgd": {},
    "smoothed-sign": {"epsilon": 0.01, "schedule": "cosine"},
    "adam": {"beta1": 0.7, "warmup_steps": 2, "weight_decay": 0.3},
}


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS.items())
def test_with_the_embedding_frozen_the_linearised_network_is_the_network(optimizer, options):
    """The model is linear in its projection, whatever optimizer, schedule and decay."""
    setup = replace(SETUP, optimizer=optimizer, embedding_lr=0.0, projection_lr=0.05, **options)
    networks = train(setup, [3], dtype="float64")
    curves, found = linearised_curves(setup, 3)
    assert found.outcome.ok
    assert_close_curves(curves[0], networks.loss[0, 0], 1e-8)
    assert_close_curves(curves[1][1:], networks.projection_update_rms[0, 0, 1:], 1e-8)
    assert np.all(curves[2] == 0)


def test_with_both_layers_trained_it_is_another_one():
    """The negative control: the first update of the embedding is the same, all else is not."""
    setup = replace(SETUP, embedding_lr=0.5, projection_lr=0.5)
    networks = train(setup, [3], dtype="float64")
    curves, _ = linearised_curves(setup, 3)
    assert curves[0, 0] == pytest.approx(networks.loss[0, 0, 0], rel=1e-10)
    assert curves[2, 1] == pytest.approx(networks.embedding_update_rms[0, 0, 1], rel=1e-10)
    with pytest.raises(AssertionError, match="differ"):
        assert_close_curves(curves[0], networks.loss[0, 0], 1e-3)


def test_a_small_step_is_one_unit_of_time_of_the_flow():
    """At small rates networks are where the flow is at the same step, and not one step later."""
    setup = replace(SETUP, embedding_lr=0.01, projection_lr=0.005)
    network, flow = (
        route(setup, np.arange(2), lambda share: None).value[0]
        for route in (_routes.networks, _routes.flow)
    )
    step = network[-2] - network[-1]
    assert step > 0
    assert abs(flow[-1] - network[-1]) < 0.05 * step


@pytest.fixture
def without_mean_field(monkeypatch):
    """Without the mean-field solver, which takes longest to compile and is tested by itself."""

    def refuse(*arguments, **options):
        raise InputError("network", "linear", "is left out in this test")

    monkeypatch.setattr(_routes, "mean_field", refuse)


@pytest.mark.usefixtures("without_mean_field")
def test_routes_start_from_the_very_same_networks():
    found = compare(replace(SETUP, embedding_lr=0.5, projection_lr=0.5), [5, 7])
    assert list(found.curves) == ["networks", "flow", "linearised"]
    assert found.missing == {"mean field": "`network` linear: is left out in this test"}
    assert len(found.partings) == 3 * 3
    dataset = found.to_xarray()
    assert dataset.loss.dims == ("route", "step")
    start = dataset.loss.sel(step=0).to_numpy()
    assert start == pytest.approx(start[0], rel=1e-9)
    assert "loss, networks and linearised:" in repr(found)
    assert "array(" not in repr(found)


DEEP = NetworkSetup(
    network="mlp",
    activation="identity",
    normalisation="none",
    depth=2,
    width=6,
    vocab_size=7,
    outputs=2,
    steps=5,
    embedding_lr=0.02,
    hidden_lr=0.01,
)


@pytest.mark.slow
@pytest.mark.usefixtures("without_mean_field")
def test_an_mlp_by_every_route_starts_from_the_very_same_networks():
    rates = {"embedding_lr": 1e-3, "hidden_lr": 1e-4}
    found = compare(replace(DEEP, optimizer="sgd", tokens="zipf:1", **rates), [5, 7])
    assert list(found.curves) == ["networks", "flow", "linearised"]
    assert len(found.partings) == (3 + 2) * 3
    dataset = found.to_xarray()
    assert dataset.hidden_update_rms.dims == ("route", "step", "layer")
    for name in ("loss", "embedding_update_rms", "hidden_update_rms"):
        values = dataset[name].sel(step=0).to_numpy()
        assert np.max(np.abs(values - values[0])) < 1e-9 * max(values.max(), 1e-3)
    first = dataset.hidden_update_rms.sel(step=1).to_numpy()
    assert first[2] == pytest.approx(first[0], rel=0.05)  # at h of the start, not of step 1
    assert first[1] == pytest.approx(first[0], rel=0.05)
    embedding = dataset.embedding_update_rms.sel(step=1).to_numpy()
    assert embedding[2] == pytest.approx(embedding[0], rel=1e-8)


@pytest.mark.slow
@pytest.mark.usefixtures("without_mean_field")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_with_all_but_the_readout_frozen_an_mlp_is_its_linearised_network(optimizer):
    """relu included: an mlp is linear in its readout; hidden layers stand still at a rate of 0."""
    setup = replace(DEEP, optimizer=optimizer, activation="relu", embedding_lr=0.0, hidden_lr=0.0)
    frozen = compare(setup, 2)
    assert "`activation` relu" in frozen.missing["flow"] or "sgd" in frozen.missing["flow"]
    assert np.all(frozen.curves["linearised"].value[1:] == 0)
    one = replace(setup, hidden_lr=1e-6, readout_ratio=1e4)
    networks, lazy = (compare(one, 2).curves[route] for route in ("networks", "linearised"))
    assert_close_curves(lazy.value[0], networks.value[0], 1e-3)
    assert_close_curves(lazy.value[1][1:], networks.value[1][1:], 1e-2)
    assert networks.value[1][-1] > 0


@pytest.mark.usefixtures("without_mean_field")
def test_what_a_route_does_not_cover_says_why():
    adam = compare(replace(SETUP, optimizer="adam"), 2)
    assert list(adam.missing) == ["mean field", "flow"]
    assert "`optimizer` adam" in adam.missing["flow"]
    batch = compare(replace(SETUP, batch_size=4), 2)
    assert list(batch.missing) == ["mean field", "flow", "linearised"]
    assert "`batch_size` 4" in batch.missing["linearised"]
    assert "no linearised" in repr(batch)


def test_what_cannot_be_compared_is_refused():
    assert_refused("steps", lambda: compare(replace(SETUP, steps=1), 2), "2")
    assert_refused("seeds", lambda: compare(SETUP, 1), "2")
    transformer = NetworkSetup(network="transformer", batch_size=32)
    assert_refused("network", lambda: compare(transformer, 2), "linear or mlp")
    tied = NetworkSetup(network="mlp", tied=True)
    assert_refused("tied", lambda: compare(tied, 2), "false")
    assert_refused("particles", lambda: compare(SETUP, 2, particles=1))


def curves(loss, error=0.0, status=Status.OK) -> Curves:
    value = np.tile(np.asarray(loss, float), (len(QUANTITIES), 1))
    return Curves(value, value - error, value + error, Outcome(status))


def parting(first: Curves, second: Curves, networks: Curves):
    routes = {"networks": networks, "flow": first, "linearised": second}
    return _parting(routes, 0, "loss", "flow", "linearised")


def test_routes_part_beyond_the_band_and_both_errors():
    """Distances 0.5 t against a band of 0.6 and errors of 0.3 and 0.2: first above at t = 3."""
    networks = curves(np.ones(6), 0.6)
    base, away = np.full(6, 2.0), 2.0 + 0.5 * np.arange(6)
    found = parting(curves(base, 0.3), curves(away, 0.2), networks)
    assert (found.first_step, found.steps_apart) == (3, 3)
    assert (found.difference, found.relative) == (2.5, 1.25)
    assert "part at step 3" in str(found)
    exact = parting(curves(base), curves(away), networks)
    assert exact.first_step == 2
    wide = parting(curves(base, 3.0), curves(away), networks)
    assert (wide.first_step, wide.steps_apart) == (None, 0)
    assert "never part" in str(wide)


def test_one_that_diverged_is_far_from_one_that_did_not():
    """A solver that stopped says nothing about the steps that it did not reach."""
    networks, finite = curves(np.ones(4), 0.1), curves(np.ones(4))
    broken = np.array([1.0, 1.0, np.inf, np.nan])
    lost, stopped = (curves(broken, status=one) for one in (Status.DIVERGED, Status.STOPPED))
    assert parting(finite, lost, networks).first_step == 2
    assert parting(finite, stopped, networks).first_step is None


def test_a_flow_too_stiff_to_follow_is_no_curve(monkeypatch):
    """A smoothed sign with Adam's epsilon changes 1e10 times as fast as descent: said, not run."""
    monkeypatch.setattr(_routes, "FLOW_STEPS", 20)
    monkeypatch.setattr(_routes, "FLOW_STEPS_A_TIME", 1)
    setup = Setup(width=8, vocab_size=16, outputs=2, optimizer="smoothed-sign", steps=3)
    parts = []
    solver = {"seeds": 2, "particles": 64, "replicas": 2, "progress": parts.append}
    found = compare(replace(setup, epsilon=1e-12), **solver)
    assert sum(parts) == pytest.approx(1)
    assert "flow" not in found.curves
    assert "stiff" in found.missing["flow"]
    assert "raise `epsilon` to about " in found.missing["flow"]
    smooth = compare(replace(setup, epsilon=1.0), **solver)
    assert "flow" in smooth.curves


def test_a_flow_that_stops_on_its_way_says_what_a_comparison_can_change(monkeypatch):
    """It turns stiff after the first step, as gradients fall below epsilon."""
    monkeypatch.setattr(_routes, "FLOW_STEPS", 100)
    monkeypatch.setattr(_routes, "FLOW_STEPS_A_TIME", 1)
    setup = Setup(width=8, vocab_size=16, outputs=2, optimizer="smoothed-sign", steps=40)
    rates = {"epsilon": 1e-4, "embedding_lr": 0.02, "projection_lr": 0.02}
    curves = _routes.flow(replace(setup, **rates), np.arange(2), lambda share: None)
    assert not curves.outcome.ok
    assert np.isfinite(curves.value[0, 1])
    assert "max_steps" not in curves.outcome.message
    assert "raise `epsilon` to about " in curves.outcome.message
