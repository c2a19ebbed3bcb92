"""The stability program against the table of Everett et al. 2024, cell by cell."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from derivations._parametrizations import (
    NETWORK_LAYERS,
    NetworkLayer,
    custom_parametrization,
    parametrization,
)
from derivations._stability import (
    InfeasibleProgram,
    maximal_learning_rates,
    solve_stability,
)
from derivations._stability_constraints import (
    ALIGNED,
    FULL_ALIGNMENT,
    NO_ALIGNMENT,
    NetworkAlignment,
    layer_alignment,
    stability_program,
)

NAMES = ("sp", "ntk", "mup", "mfp")
TABLE = {
    ("sgd", "full"): "1/2 -1/2 -1 | 1/2 1/2 0 | 0 0 0 | 1 1 1",
    ("sgd", "none"): "1/2 0 -1/2 | 1/2 1 1/2 | 0 1/2 1/2 | 1 3/2 3/2",  # initial gradients
    ("adam", "full"): "0 -1 -1 | 0 -1/2 -1/2 | -1/2 -1 -1/2 | 0 -1/2 0",
    ("adam", "none"): "0 -1/2 -1/2 | 0 0 0 | -1/2 -1/2 0 | 0 0 1/2",
    ("adafactor", "full"): "0 -1/2 -1/2 | 0 -1/2 -1/2 | 0 -1/2 0 | 0 -1/2 0",
    ("adafactor", "none"): "0 0 0 | 0 0 0 | 0 0 1/2 | 0 0 1/2",
}
ALIGNMENTS = {"full": FULL_ALIGNMENT, "none": NO_ALIGNMENT}
READOUT_OMEGA_ONE = NetworkAlignment(ALIGNED, layer_alignment(1, 1, 1))
OLD_LARGE_VOCABULARY = NetworkAlignment(layer_alignment("1/2", 1), ALIGNED)
CELLS = [
    (optimizer, alignment, name, layer, Fraction(cell))
    for (optimizer, alignment), row in TABLE.items()
    for name, triple in zip(NAMES, row.split("|"), strict=True)
    for layer, cell in zip(NETWORK_LAYERS, triple.split(), strict=True)
]


@pytest.mark.parametrize(("optimizer", "alignment", "name", "layer", "exponent"), CELLS)
def test_table_cell(optimizer, alignment, name, layer, exponent):
    solution = solve_stability(
        parametrization(name), optimizer, ALIGNMENTS[alignment], gradients="initial"
    )
    assert solution.layers[layer].lr_exponent == exponent


@pytest.mark.parametrize(("optimizer", "alignment"), list(TABLE))
@pytest.mark.parametrize("name", NAMES)
def test_updated_readout_changes_the_starred_cells_only(optimizer, alignment, name):
    given = parametrization(name), optimizer, ALIGNMENTS[alignment]
    initial = solve_stability(*given, gradients="initial").lr_exponents
    updated = solve_stability(*given, gradients="updated").lr_exponents
    starred = {("sgd", "none", "mup"): 0, ("sgd", "none", "mfp"): 1}
    if (optimizer, alignment, name) in starred:
        assert updated == (*initial[:2], starred[optimizer, alignment, name])
        assert updated != initial
    else:
        assert updated == initial


@pytest.mark.parametrize(
    ("name", "line"), [("sp", "-1/2 -3/2 -1"), ("ntk", "-1/2 -1 -1/2"), ("mup", "-1/2 -1 -1/2")]
)
def test_readout_aligned_with_what_was_learned(name, line):
    solution = solve_stability(parametrization(name), "adam", READOUT_OMEGA_ONE)
    assert solution.lr_exponents == tuple(Fraction(cell) for cell in line.split())
    if name != "mup":  # small readout: only muP keeps features at full size
        assert "readout Omega" in solution.layers["embedding"].binding_constraint
        assert solution.layers["hidden"].residual == Fraction(1, 2)


@pytest.mark.parametrize(
    ("twin", "optimizer"), [("momentum", "sgd"), ("sign", "adam"), ("adamw", "adam")]
)
def test_optimizers_that_share_a_row(twin, optimizer):
    for name, alignment in product(NAMES, ALIGNMENTS.values()):
        given = parametrization(name)
        assert (
            solve_stability(given, twin, alignment).lr_exponents
            == solve_stability(given, optimizer, alignment).lr_exponents
        )


@pytest.mark.parametrize("name", NAMES)
def test_muon_ignores_the_alignment_of_the_hidden_matrix(name):
    given = parametrization(name)
    rates = {
        solve_stability(given, "muon", alignment).lr_exponents[1]
        for alignment in (FULL_ALIGNMENT, NO_ALIGNMENT, OLD_LARGE_VOCABULARY)
    }
    assert rates == {-given.hidden.multiplier}  # d^0 for the weight itself


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adafactor", "muon"])
@pytest.mark.parametrize("gradients", ["initial", "updated"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "alignment", [FULL_ALIGNMENT, NO_ALIGNMENT, READOUT_OMEGA_ONE, OLD_LARGE_VOCABULARY]
)
def test_program_agrees_with_linear_programming(optimizer, gradients, name, alignment):
    """Two independent routes: HiGHS, one layer after the other, on the same constraints."""
    given = parametrization(name)
    exact = solve_stability(given, optimizer, alignment, gradients=gradients)
    constraints = stability_program(given, optimizer, alignment, gradients).constraints
    rows = -np.array([[float(k) for k in c.coefficients] for c in constraints])
    bounds = -np.array([float(c.bound) for c in constraints])
    limits = [(-10.0, 10.0)] * 3
    for index in range(3):
        cost = np.zeros(3)
        cost[index] = 1
        best = linprog(cost, A_ub=rows, b_ub=bounds + 1e-9, bounds=limits).x[index]
        assert best == pytest.approx(-float(exact.lr_exponents[index]), abs=1e-6)
        limits[index] = (best, best + 1e-9)


def test_every_constraint_holds_and_every_layer_has_a_binding_one():
    for name, alignment in product(NAMES, (*ALIGNMENTS.values(), READOUT_OMEGA_ONE)):
        given = parametrization(name)
        solution = solve_stability(given, "sgd", alignment)
        slowness: dict[NetworkLayer, Fraction] = {
            layer: -rate for layer, rate in zip(NETWORK_LAYERS, solution.lr_exponents, strict=True)
        }
        constraints = stability_program(given, "sgd", alignment, "updated").constraints
        assert min(constraint.slack(slowness) for constraint in constraints) == 0
        for layer in NETWORK_LAYERS:
            assert solution.layers[layer].binding
            assert solution.layers[layer].residual >= 0
            faster = slowness | {layer: slowness[layer] - Fraction(1, 1000)}
            broken = [c for c in constraints if c.slack(faster) < 0]
            assert set(solution.layers[layer].binding) <= set(broken)


def test_binding_constraints_are_named():
    layers = solve_stability(parametrization("sp"), "adam").layers
    assert layers["embedding"].binding_constraint == "embedding r_1"
    assert layers["hidden"].binding_constraint == "hidden A, hidden U"
    assert layers["readout"].binding_constraint == "readout A"
    old = solve_stability(parametrization("sp"), "adam", OLD_LARGE_VOCABULARY).layers
    assert old["hidden"].binding_constraint == "hidden U"


def test_old_large_vocabulary_network_trades_embedding_against_hidden():
    half = Fraction(1, 2)
    corners = maximal_learning_rates(parametrization("sp"), "adam", OLD_LARGE_VOCABULARY)
    assert corners == ((0, -1, -1), (-half, -half, -1))
    assert maximal_learning_rates(parametrization("sp"), "adam") == ((0, -1, -1),)
    hidden_first = solve_stability(
        parametrization("sp"),
        "adam",
        OLD_LARGE_VOCABULARY,
        priority=("hidden", "embedding", "readout"),
    )
    assert hidden_first.lr_exponents == corners[1]


def test_prescribed_rules_are_stable_and_say_so():
    for name in ("umup", "lv"):
        solution = solve_stability(parametrization(name), "adamw")
        assert solution.layers["embedding"].residual == Fraction(1, 2)  # slower than it could be
        assert solution.layers["hidden"].residual == 0
        assert solution.layers["embedding"].binding_constraint == "embedding prescribed"
        with pytest.raises(ValueError, match="sign, adam, adamw only"):
            solve_stability(parametrization(name), "sgd")


def test_epsilon_follows_the_gradient_and_decay_the_learning_rate():
    half = Fraction(1, 2)
    mup = solve_stability(parametrization("mup"), "adam").parametrization
    assert [layer.epsilon for layer in mup.layers.values()] == [-half, -1, -half]
    assert [layer.weight_decay for layer in mup.layers.values()] == [half, 1, half]
    sgd = solve_stability(parametrization("mup"), "sgd").parametrization
    assert [layer.epsilon for layer in sgd.layers.values()] == [None] * 3


def test_infeasible_programs_name_the_conflict():
    with pytest.raises(InfeasibleProgram, match="hidden A against hidden LR d\\^0") as caught:
        solve_stability(parametrization("sp"), "adam", fixed={"hidden": 0})
    assert not any("hidden U" in conflict for conflict in caught.value.conflicts)
    with pytest.raises(InfeasibleProgram) as caught:
        solve_stability(parametrization("sp"), "adam", READOUT_OMEGA_ONE, fixed={"embedding": 0})
    assert caught.value.conflicts == (
        "readout Omega (through hidden Omega) against embedding LR d^0",
    )
    exploding = custom_parametrization((0, 0, 0), ("1/2", 0, 0))
    with pytest.raises(InfeasibleProgram) as caught:
        solve_stability(exploding)
    assert [text.split()[0] for text in caught.value.conflicts] == [
        "embedding",
        "hidden",
        "readout",
    ]


def test_a_broken_table_does_not_pass():
    """Negative control: each single change of the parametrization or alignment moves a cell."""
    wrong = custom_parametrization((0, 0, 0), (0, "-1/2", -1))  # SP with muP's readout init
    assert solve_stability(wrong, "sgd").lr_exponents != (Fraction(1, 2), Fraction(-1, 2), -1)
    skewed = NetworkAlignment(layer_alignment("3/4", "3/4"), ALIGNED)
    assert solve_stability(parametrization("sp"), "adam", skewed).lr_exponents == (
        0,
        Fraction(-3, 4),
        -1,
    )


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match="sgd, momentum, sign"):
        solve_stability(parametrization("sp"), "lion")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown layer projection"):
        solve_stability(parametrization("sp"), fixed={"projection": 0})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="priority"):
        solve_stability(parametrization("sp"), priority=("hidden",))
