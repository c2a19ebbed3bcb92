"""The cheap networks of the topic hidden_layers are those of the laboratory."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from dynsim._initial import initial_deep_weights, matrix_keys
from dynsim._scales import scales
from dynsim.laboratory import train_networks
from dynsim.laboratory._training import run_key
from experiments.topics._stored import stored_study
from experiments.topics.hidden_layers.cases import case_setup
from experiments.topics.hidden_layers.estimators import (
    LOSS_ALLOWED,
    UPDATE_ALLOWED,
    excess,
    loss_curves,
    update_curves,
)
from experiments.topics.hidden_layers.networks import Weights, drawn, trained
from experiments.topics.hidden_layers.study import UPDATES

CASES = (
    "2 plain layers, sign, Zipf 1.2",
    "4 layers, sign, oscillating",
    "4 plain layers, Adam, SP",
)


@pytest.mark.parametrize("case", CASES)
def test_one_network_by_both_routes(case, quick_compilation):
    setup = replace(case_setup(case), width=12, vocab_size=40, steps=5, depth=2)
    usual = train_networks(setup, seeds=1, horizons=range(1, 5), record_updates=True)
    key = jax.random.fold_in(run_key(setup, 0), 0)
    factors, multiplier = scales(setup).init_factor, scales(setup).multiplier
    own = initial_deep_weights((40, 1, 12), 2, factors, matrix_keys(2, key), "float64")
    start = Weights(
        multiplier.embedding * np.asarray(own.embedding),
        tuple(multiplier.hidden * np.asarray(matrix) for matrix in own.hidden),
        multiplier.readout * np.asarray(own.readout)[0],
    )
    assert usual.hidden_update_rms is not None
    found = trained(setup, start, np.random.default_rng(0))
    losses = np.append(usual.initial_loss, usual.loss)
    np.testing.assert_allclose(found.loss, losses, rtol=1e-9)
    assert losses[-1] != pytest.approx(losses[0], rel=0.05)
    sizes = [*(getattr(usual, name)[0] for name in UPDATES), *usual.hidden_update_rms[0].T]
    np.testing.assert_allclose(found.mean_square**0.5, sizes, rtol=1e-7, atol=1e-12)


def test_initial_entries_have_the_sizes_of_the_laboratory():
    setup = replace(case_setup(CASES[0]), width=256, vocab_size=512)
    start, width = drawn(setup, np.random.default_rng(0)), setup.width
    assert start.embedding.std() == pytest.approx(1.0, rel=0.02)
    assert start.hidden[0].std() == pytest.approx(width**-0.5, rel=0.02)
    assert start.readout.std() == pytest.approx(1 / width, rel=0.2)


def test_other_networks_of_setups_beyond_what_is_allowed():
    """Against the same predictions two of three come within; the readout of the third does not."""
    data, others = stored_study("hidden_layers"), stored_study("hidden_layers_followed")
    names = ["loss", "mean_square"]
    chosen = data.sel(case=others.case, step=others.step).drop_vars(names).drop_dims("seed")
    again = chosen.merge(others[names])
    left = [one.case for one in update_curves(again) if excess(one) > UPDATE_ALLOWED]
    assert left == ["4 plain layers, Adam, Zipf 1, batch of 256"]
    assert max(excess(one) for one in loss_curves(again)) < LOSS_ALLOWED
    before = {one.case for one in update_curves(data) if excess(one) > UPDATE_ALLOWED}
    before |= {one.case for one in loss_curves(data) if excess(one) > LOSS_ALLOWED}
    assert before == set(map(str, others.case.values))


def test_the_setup_that_stayed_beyond_agrees_once_all_is_measured_again():
    """Other networks agree with the new prediction, with their own law and with the old one."""
    data = stored_study("hidden_layers_settled")
    kept = {f"predicted{end}": f"law{end}" for end in ("", "_error", "_rms", "_rms_error")}
    of_law = data.drop_vars(list(kept)).rename({law: name for name, law in kept.items()})
    for one in (data, of_law):
        assert max(map(excess, update_curves(one))) < UPDATE_ALLOWED / 2
        assert max(map(excess, loss_curves(one))) < LOSS_ALLOWED / 2
    old = stored_study("hidden_layers").sel(case=data.case, step=data.step, update=data["update"])
    names = ["loss", "mean_square"]
    held = old.drop_vars(names).drop_dims("seed").merge(data[names])
    assert max(map(excess, update_curves(held))) < UPDATE_ALLOWED
