"""The study of transfer in networks: its rules, its search for optima, and what is read from it."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import xarray as xr

from dynsim.laboratory import NetworkSetup, parameter_count, scales
from experiments.results import STORED, load
from experiments.topics.transfer_networks import estimators as estimators
from experiments.topics.transfer_networks import study as study
from experiments.topics.transfer_networks.figures import transfer_axes, transfer_rules
from experiments.topics.transfer_networks.study import CASES, RULES, SIZES, Case, setups

SMALL = replace(SIZES[False], widths=(16, 32), further=(), reference=32, steps=3, batch_size=64)


def of_rule(rule: str, width: int = 256) -> NetworkSetup:
    networks = setups(Case("mlp", rule), SIZES[False])
    return next(one for one in networks if one.width == width)


def test_rules_are_what_their_names_say():
    """In the gauge of multipliers one: actual initial sizes, and learning rates beside SP's at
    1/d, against the named parametrizations of the library."""
    for rule, name in (("sp", "sp"), ("mup", "mup")):
        written = scales(of_rule(rule))
        named = scales(replace(of_rule(rule), parametrization=name, init_exponents="auto"))
        for layer in ("embedding", "hidden", "readout"):
            start = written.init_factor.of(layer) * written.multiplier.of(layer)
            expected = named.init_factor.of(layer) * named.multiplier.of(layer)
            assert start == pytest.approx(expected), (rule, layer)
    growth = 256 / 32
    mup = replace(of_rule("mup"), parametrization="mup", lr_exponents="auto", init_exponents="auto")
    actual, named = scales(of_rule("mup")).learning_rate, scales(mup)
    for layer in ("embedding", "hidden", "readout"):
        gauge = named.learning_rate.of(layer) * named.multiplier.of(layer)
        assert actual.of(layer) == pytest.approx(gauge), layer
    assert actual.vector == pytest.approx(1)
    of_sp = scales(of_rule("sp")).learning_rate
    assert [of_sp.of(x) for x in ("embedding", "hidden", "readout", "vector")] == [1 / growth] * 4
    for power, rule in ((1, "sp, embedding x width"), (0.5, "sp, embedding x root")):
        faster = scales(of_rule(rule)).learning_rate
        assert faster.embedding == pytest.approx(of_sp.embedding * growth**power)
        assert faster.hidden == of_sp.hidden


def test_single_toggles_lead_from_sp_to_mup():
    """Embedding, readout and gains: eight combinations, all present."""
    toggles = {(rule.embedding, rule.readout, rule.gains) for rule in RULES.values()}
    both = [(0, 1), (0, -study.HALF), (0, 1)]
    assert {(e, r, g) for e in both[0] for r in both[1] for g in both[2]} <= toggles
    assert set(estimators.TOGGLED) | set(estimators.TOGGLED.values()) < set(RULES)
    for without, with_it in estimators.TOGGLED.items():
        assert replace(RULES[without], embedding=study.ONE) == RULES[with_it]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_all_rules_are_one_network_at_the_base_width(case):
    first, *_ = setups(case, SIZES[False])
    own = scales(first)
    assert {*asdict(own.learning_rate).values(), *asdict(own.init_factor).values()} == {1.0}
    assert first.decay_rate == case.weight_decay


def test_tokens_per_parameter_are_the_same_at_all_widths():
    networks = setups(Case("transformer", "mup", budget="tokens"), SIZES[False])
    shares = [one.steps / parameter_count(one) for one in networks]
    np.testing.assert_allclose(shares, shares[0], rtol=0.03)
    assert networks[2].steps == SIZES[False].steps
    assert all(one.warmup_steps == one.steps // 10 for one in networks)


@pytest.mark.parametrize("best", [-20, -8, 3, 7])
def test_the_search_follows_an_optimum(best, monkeypatch):
    """It brackets what lies within reach, with the margin, whatever diverges above."""
    asked = []

    def losses(_setup, _ratio, places, seeds):
        asked.extend(places)
        away = {place: np.abs(place - best) + np.zeros(seeds) for place in places}
        return {k: np.where(k > best + 3, np.inf, loss) for k, loss in away.items()}

    monkeypatch.setattr(study, "_losses", losses)
    found = study.searched(of_rule("sp"), 1.0, -3, 2)
    assert sorted(asked) == list(found)  # nothing measured twice, and in order
    lowest = -3 - study.HALF_WIDTH - study.FARTHEST
    if best > lowest:
        assert study.best_place(found) == best
        assert min(found) <= best - study.MARGIN
        assert max(found) >= best + study.MARGIN
    else:
        assert min(found) >= lowest - study.MARGIN  # it gives up


def synthetic(shift: float = 0.5, steps: float = 0.0) -> xr.Dataset:
    """Losses of three cases: parabolas whose optimum goes as width^shift in the first case, and
    which lie 0, 1 and 0.4 above; `steps` is seed noise that the cases share."""
    widths, places = np.array([32, 64, 128]), np.arange(-12, 6)
    log_rates = places / 2 * np.log(2)
    loss = np.full((3, 3, len(places), 3), np.nan)
    for at, width in enumerate(widths):
        for case, (height, power) in enumerate(((0.0, shift), (1.0, 0.0), (0.4, 0.0))):
            centre = -2 + power * np.log(width / 32)
            valley = 2 + height + 0.1 * (log_rates - centre) ** 2
            loss[case, at] = valley[:, None] + steps * np.array([-1, 0, 1])
    axes = ("case", "width", "learning_rate", "seed")
    diverged = np.zeros_like(loss)
    diverged[..., -1, 0], diverged[..., 0, :] = 1, np.nan
    return xr.Dataset(
        {"loss": (axes, np.where(diverged == 0, loss, np.nan)), "diverged": (axes, diverged)},
        {"case": ["a", "b", "c"], "width": widths, "learning_rate": np.exp(log_rates)},
    ).assign_coords(seed=[0, 1, 2])


def test_what_is_read_from_known_valleys():
    data = synthetic(steps=0.3)
    assert estimators.widths_of(data, "a") == [32, 64, 128]
    difference = estimators.contrast(data, {"b": 1.0, "a": -1.0}, 128)
    np.testing.assert_allclose([difference.value, difference.low, difference.high], 1, rtol=1e-6)
    share = estimators.closed_share(data, "b", "c", "a", 64)
    np.testing.assert_allclose([share.value, share.low, share.high], 0.6, rtol=1e-6)
    slope = estimators.drift(data, "a")
    np.testing.assert_allclose([slope.value, slope.low, slope.high], 0.5, rtol=1e-6)
    octaves = [one.value for one in estimators.log2_optima(data, "a")]
    np.testing.assert_allclose(octaves, [0, 0.5, 1], atol=1e-6)
    assert estimators.fitted(data, "a", resamples=2).diverged == 3


@pytest.mark.slow
def test_a_tiny_cell_runs_as_the_study_does(quick_compilation, monkeypatch):
    case = Case("mlp", "sp", vocab_size=256)
    monkeypatch.setattr(study, "FARTHEST", 0)  # three steps of training have no optimum
    found = study._cell(case.name, asdict(replace(SMALL, seeds=2)), {case.name: asdict(case)})
    assert list(found["width"][1]) == [16, 32]
    loss, diverged = found["loss"][1], found["diverged"][1]
    assert np.all(np.isfinite(loss) == (diverged == 0))
    assert np.all(np.isfinite(loss).sum(axis=1) == 2 * study.HALF_WIDTH + 1)
    assert len(np.unique(loss[np.isfinite(loss)])) == np.isfinite(loss).sum()


@pytest.mark.slow
def test_figures_are_drawn_from_the_stored_study(monkeypatch):
    monkeypatch.setattr(estimators, "RESAMPLES", 20)
    data = load(STORED / "transfer_networks.nc")
    for draw, columns in ((transfer_rules, 4), (transfer_axes, 4)):
        figure = draw(data)
        assert len(figure.axes) == 2 * columns
        assert all(axes.has_data() for axes in figure.axes)
