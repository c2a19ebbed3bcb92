"""Transfer in the linear model: the drift of the base rate, the study's grids, what claims read."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import xarray as xr

import derivations
from derivations import InfeasibleProgram, NetworkAlignment, custom_parametrization, layer_alignment
from dynsim import train
from experiments.topics.transfer_theory import estimators as estimators
from experiments.topics.transfer_theory import study as study
from experiments.topics.transfer_theory.claims import CLAIMS
from experiments.topics.transfer_theory.study import CASES, CURVES, OCTAVES, RULES

pytestmark = pytest.mark.usefixtures("quick_compilation")

HALF = Fraction(1, 2)
UPDATE_INITIAL = "projection update, initial embedding"
UPDATE_LEARNED = "projection update, learned embedding"
INITIAL_LEARNED = "initial projection, learned embedding"
KINDS = list(product(("mup", "sp"), (0, 1), RULES.values()))


def drifted(init, vocab_exponent, x, trained=("embedding", "projection")):
    return derivations.base_rate({"embedding": x, "projection": -1}, init, vocab_exponent, trained)


@pytest.mark.parametrize(("init", "vocab_exponent", "x"), KINDS)
def test_drift_by_hand(init, vocab_exponent, x):
    """g from the three sizes of the output's change: W_0 dE, dW E_0 and dW dE are at most O(1)."""
    by_initial = {"mup": 0, "sp": HALF}[init]  # d^by_initial eta_E
    by_update = {0: 1, 1: HALF}[vocab_exponent]  # d^by_update eta_W
    allowed = {
        INITIAL_LEARNED: -(by_initial + x),
        UPDATE_INITIAL: 1 - by_update,
        UPDATE_LEARNED: -x / 2,
    }
    found = drifted(init, vocab_exponent, x)
    assert found.exponent == min(allowed.values())
    assert found.kept == {term for term, g in allowed.items() if g == found.exponent}
    assert found.decay[UPDATE_LEARNED] == 2 * (allowed[UPDATE_LEARNED] - found.exponent)


@pytest.mark.parametrize(("init", "vocab_exponent", "x"), KINDS)
def test_drift_is_the_largest_that_the_stability_program_allows(init, vocab_exponent, x):
    g = drifted(init, vocab_exponent, x).exponent
    given = custom_parametrization((0, 0, 0), (0, -HALF, {"mup": -1, "sp": -HALF}[init]))
    initial = {0: 1, 1: HALF}[vocab_exponent]
    alignment = NetworkAlignment(derivations.UNALIGNED, layer_alignment(initial, 1, 1))

    def solve(shift):
        fixed = {"embedding": x + shift, "hidden": -100, "readout": -1 + shift}
        return derivations.solve_stability(given, "sign", alignment, fixed=fixed)

    assert solve(g).layers["readout"].residual == 0
    with pytest.raises(InfeasibleProgram):
        solve(g + Fraction(1, 1000))


@pytest.mark.parametrize(
    ("init", "vocab_exponent", "trained", "exponent", "kept"),
    [
        ("mup", 0, "embedding", 0, INITIAL_LEARNED),
        ("sp", 0, "embedding", -HALF, INITIAL_LEARNED),
        ("sp", 1, "embedding", -HALF, INITIAL_LEARNED),
        ("mup", 0, "projection", 0, UPDATE_INITIAL),
        ("sp", 1, "projection", HALF, UPDATE_INITIAL),
    ],
)
def test_a_frozen_layer_leaves_one_term(init, vocab_exponent, trained, exponent, kept):
    found = drifted(init, vocab_exponent, 0, (trained,))
    assert (found.exponent, found.decay) == (exponent, {kept: 0})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr_exponents": {"embedding": 0}}, "must name embedding and projection, not embedding"),
        ({"lr_exponents": {"projection": -1}}, "must name embedding and projection, not proj"),
        ({"lr_exponents": {}}, "must name embedding and projection, not none"),
        ({"lr_exponents": {"embedding": 0, "projection": -1, "readout": 0}}, "must name"),
        ({"lr_exponents": {"embedding": 0.5, "projection": -1}}, "an exponent must be"),
        ({"trained": ()}, r"trained must name .* not \(\)"),
        ({"trained": ("embedding", "readout")}, "trained must name"),
        ({"init": "ntk"}, "unknown initialisation 'ntk': must be one of mup, sp"),
        ({"vocab_exponent": -1}, "must not be negative"),
    ],
)
def test_base_rate_refuses(changed, message):
    given = {"lr_exponents": {"embedding": 0, "projection": -1}, "init": "mup", "vocab_exponent": 1}
    with pytest.raises(ValueError, match=message):
        derivations.base_rate(**given | changed)


def test_which_rules_freeze_which_layer():
    twins = {case: [estimators.frozen_twin(case, rule) for rule in RULES] for case in CASES}
    projection, embedding = "frozen projection", "frozen embedding"
    assert twins == {
        "fixed": [None, embedding, embedding],
        "proportional": [None, None, None],
        "fixed-sp": [projection, None, embedding],
        "proportional-sp": [projection, projection, None],
    }


@pytest.fixture
def tuned(monkeypatch):
    monkeypatch.setattr(study, "base_rates", lambda case, run: (2.0, 0.05))


def test_rules_coincide_at_the_base_width_and_differ_by_their_exponent(tuned):
    case = CASES["proportional"]
    at_base, wide = study.curve_rates(case, 64), study.curve_rates(case, 256)
    np.testing.assert_allclose(at_base[:3], np.broadcast_to(at_base[0], (3, *at_base[0].shape)))
    np.testing.assert_allclose(at_base[0, :, OCTAVES == 0], [[2.0, 0.05]])
    ratio = wide[:, 0] / np.where(wide[:, 1] > 0, wide[:, 1], np.nan)
    expected = 40.0 * 4.0 ** (1 + np.array([float(x) for x in RULES.values()]))
    np.testing.assert_allclose(ratio[:3].T, np.broadcast_to(expected, (len(OCTAVES), 3)))
    np.testing.assert_allclose(wide[0, 1] / at_base[0, 1], 1 / 4)  # muP: the base rate stays
    np.testing.assert_allclose(wide[2, 1] / at_base[2, 1], 4**-0.5)  # no rule: it grows as sqrt(d)
    assert not wide[CURVES.index("frozen embedding"), 0].any()
    assert not wide[CURVES.index("frozen projection"), 1].any()


@pytest.mark.slow
def test_a_cell_measures_frozen_layers_at_the_limit_only(tuned, monkeypatch):
    monkeypatch.setattr(study, "OCTAVES", np.array([-1.0, 0.0]))
    small, limit = (
        study.measure(CASES["proportional"], "theory", width, seeds=1, networks=1, replicas=2)
        for width in (64, 2**13)
    )
    _, loss = small["loss"]
    assert loss.shape == (1, len(CURVES), 2)
    assert np.isfinite(loss[0, :3]).all()
    assert np.isnan(loss[0, 3:]).all()
    np.testing.assert_allclose(loss[0, 0], loss[0, 1])
    assert np.isfinite(limit["loss"][1]).all()
    assert 0.75 < limit["loss"][1][0, CURVES.index("frozen embedding"), 0] < 1.5  # least squares
    np.testing.assert_allclose(limit["rate"][1][2], (2**13 / 64) ** 0.5 * np.array([0.5, 1]))


@pytest.mark.slow
def test_losses_are_in_units_of_a_zero_output():
    """Under muP init a wide network starts at that loss, and tiny rates leave it there."""
    setup = CASES["fixed"].setup(4096)
    rates = np.array([[1e-9], [1e-9]])
    for source in ("theory", "networks"):
        loss = study.relative_losses(setup, rates, source, networks=1, replicas=2)
        assert loss == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_base_rates_are_the_layers_own_optima():
    case = CASES["fixed"]
    embedding, projection = study.base_rates(case)
    setup = case.setup(64, study.TUNING_SEEDS[0])
    scales = 2.0 ** np.arange(-2, 3)
    for pair in ((embedding * scales, 0 * scales), (0 * scales, projection * scales)):
        rates = {"embedding_lrs": pair[0], "projection_lrs": pair[1]}
        loss = train(setup, 32, record_updates=False, **rates).loss[:, :, -1].mean(axis=1)
        assert np.argmin(loss) in (1, 2, 3)


def test_least_squares_floor_is_that_of_least_squares():
    ratios = np.array([0.5, 2.0, 4.0])
    random = np.random.default_rng(0)
    for ratio, floor in zip(ratios, estimators.least_squares_floor(ratios), strict=True):
        embedding = random.standard_normal((120, int(120 / ratio)))
        targets = random.standard_normal((120, 400))
        fit = embedding @ np.linalg.lstsq(embedding, targets)[0]
        assert np.mean((fit - targets) ** 2) == pytest.approx(floor, abs=0.02)


# Claims, on losses that are planted


def planted(exponents=None, limits=None, network_loss=1.0) -> xr.Dataset:
    """Losses L (1 + (ln eta - g ln d)^2 / 10), g and L by case and curve, as studies store them."""
    widths = np.array(study.THEORY_WIDTHS)
    rows = []
    for case in CASES:
        for curve in CURVES:
            derived = float(CASES[case].base_rate(curve).exponent)
            grid = np.outer((widths / 64) ** derived, 2.0**OCTAVES)  # (width, octave)
            g = (exponents or {}).get((case, curve), derived)
            distance = np.log(grid) - g * np.log(widths / 64)[:, None]
            twin = estimators.frozen_twin(case, curve) if curve in RULES else curve
            lowest = (limits or {}).get(
                (case, curve), {"frozen embedding": 0.6, None: 0.3}.get(twin, 0.5)
            )
            rows.append((case, curve, grid, lowest * (1 + distance**2 / 10)))
    shape = (len(CASES), len(CURVES), len(widths), len(OCTAVES))
    rate = np.array([row[2] for row in rows]).reshape(shape)
    loss = np.array([row[3] for row in rows]).reshape(shape)
    random = np.random.default_rng(0)
    noise = 1 + 0.002 * random.normal(size=(2, 3, *shape[:3], 1))  # of the lowest losses
    noise = noise + 1e-4 * random.normal(size=(2, 3, *shape))  # of the rates at which they are
    sources = np.stack([loss, loss * network_loss])[:, None] * noise
    dims = ("case", "curve", "width", "octave")
    return xr.Dataset(
        {"loss": (("source", "seed", *dims), sources), "rate": (dims, rate)},
        {
            "source": ["theory", "networks"],
            "case": list(CASES),
            "curve": list(CURVES),
            "width": widths,
            "octave": OCTAVES,
        },
    ).assign(rate=lambda data: data.rate.expand_dims(source=["theory", "networks"]))


def test_log_optimum_is_exact_on_a_parabola():
    rates = 2.0 ** np.arange(-3, 4)
    place, lowest = estimators.log_optimum(rates, 0.5 + 0.2 * (np.log(rates) - 0.3) ** 2)
    assert (place, lowest) == (pytest.approx(0.3), pytest.approx(0.5))
    assert np.isnan(estimators.log_optimum(rates, rates)).all()


def test_claims_hold_on_what_theory_says():
    """So do what the stored tasks leave open and the control that d = 512 shows the limit."""
    decided = {"control-transfer-penalty-early", "transfer-limit-fixed"}
    data = planted()
    for one in CLAIMS:
        if one.study == "transfer_theory":
            expected = "holds" if one.name in decided else one.expected
            assert one.verdict(one.evidence(data)) == expected, one.name


@pytest.mark.parametrize("shift", [-0.25, 0.25])
def test_a_wrong_drift_is_measured(shift):
    case, rule = "proportional-sp", "none"
    wrong = planted(exponents={(case, rule): 0.5 + shift})
    found = estimators.drift(wrong, case, rule)
    assert found.measured.value == pytest.approx(0.5 + shift, abs=0.02)
    assert found.simulated == pytest.approx(0.5 + shift, abs=0.02)


def test_penalties_are_relative_to_the_best_rule():
    data = planted()
    assert estimators.best_rule(data, "proportional-sp") == "none"
    value, low, high = estimators.penalty(
        data, "proportional-sp", "theory", 2**20, "width", best="none"
    )
    assert low < value < high
    assert value == pytest.approx(0.5 / 0.3 - 1, abs=0.02)
    shifted = estimators.networks_against_theory(planted(network_loss=1.2), penalties=False)
    assert shifted.measured.value == pytest.approx(np.log(1.2), abs=0.01)
    same = estimators.networks_against_theory(planted(network_loss=1.2), penalties=True)
    assert same.measured.value == pytest.approx(0, abs=0.01)
