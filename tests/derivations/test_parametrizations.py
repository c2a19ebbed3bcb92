"""abc-parametrizations: gauges, the three tables of Tensor Programs V, bad exponents."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

from derivations._parametrizations import (
    NETWORK_LAYERS,
    PARAMETRIZATIONS,
    TRAINING_OPTIMIZERS,
    LayerExponents,
    NetworkLayer,
    Parametrization,
    as_exponent,
    custom_parametrization,
    parametrization,
)
from derivations._published_rules import published_rules
from derivations._rule_comparison import compare_published_rules
from derivations._stability import solve_stability
from derivations._stability_constraints import FULL_ALIGNMENT, NO_ALIGNMENT

H = Fraction(1, 2)

# Yang et al. 2022 (arXiv 2203.03466), tables 3, 8 and 9, as printed: powers of the width in the
# initial variance, the multiplier, the SGD and the Adam learning rate of input, hidden, output.
TENSOR_PROGRAMS = {
    "table 3": {"var": (0, -1, -2), "mult": (0, 0, 0), "sgd": (1, 0, -1), "adam": (0, -1, -1)},
    "table 8": {"var": (0, -1, 0), "mult": (0, 0, -1), "sgd": (1, 0, 1), "adam": (0, -1, 0)},
    "table 9": {"var": (-1, -1, -1), "mult": (H, 0, -H), "sgd": (0, 0, 0), "adam": (-H, -1, -H)},
}


def published(table: str, optimizer: str) -> Parametrization:
    columns = TENSOR_PROGRAMS[table]
    stds = [Fraction(power) / 2 for power in columns["var"]]
    return custom_parametrization(columns["mult"], stds, columns[optimizer], name="published")


def exponents(value: Parametrization) -> list[tuple[Fraction, Fraction, Fraction | None]]:
    return [(layer.multiplier, layer.init_std, layer.lr) for layer in value.layers.values()]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("source", TENSOR_PROGRAMS)
@pytest.mark.parametrize("target", TENSOR_PROGRAMS)
def test_tensor_programs_tables_are_one_point_in_three_gauges(source, target, optimizer):
    wanted = published(target, optimizer)
    multipliers: dict[NetworkLayer, Fraction] = {
        name: wanted.layer(name).multiplier for name in NETWORK_LAYERS
    }
    moved = published(source, optimizer).with_multipliers(optimizer, multipliers)
    assert exponents(moved) == exponents(wanted)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_tensor_programs_tables_come_out_of_the_stability_program(optimizer):
    solved = solve_stability(parametrization("mup"), optimizer, FULL_ALIGNMENT).parametrization
    for table in TENSOR_PROGRAMS:
        wanted = published(table, optimizer)
        multipliers: dict[NetworkLayer, Fraction] = {
            name: wanted.layer(name).multiplier for name in NETWORK_LAYERS
        }
        assert exponents(solved.with_multipliers(optimizer, multipliers)) == exponents(wanted)


def test_a_wrong_gauge_does_not_reproduce_the_tables():
    theta: dict[NetworkLayer, Fraction] = {"readout": Fraction(-1)}
    as_if_adam = published("table 3", "sgd").gauge_transformed(theta, "adam")
    assert exponents(as_if_adam) != exponents(published("table 8", "sgd"))
    assert exponents(published("table 3", "sgd").gauge_transformed(theta, "sgd")) == exponents(
        published("table 8", "sgd")
    )


@pytest.mark.parametrize("optimizer", TRAINING_OPTIMIZERS)
@pytest.mark.parametrize("name", ["sp", "ntk", "mup", "mfp"])
@pytest.mark.parametrize("alignment", [FULL_ALIGNMENT, NO_ALIGNMENT])
def test_solving_commutes_with_the_gauge(name, optimizer, alignment):
    theta: dict[NetworkLayer, Fraction] = {
        "embedding": Fraction(2, 3),
        "hidden": Fraction(-5, 7),
        "readout": Fraction(1, 9),
    }
    moved = parametrization(name).gauge_transformed(theta, optimizer)
    solved_then_moved = solve_stability(
        parametrization(name), optimizer, alignment
    ).parametrization.gauge_transformed(theta, optimizer)
    assert solve_stability(moved, optimizer, alignment).parametrization == solved_then_moved


def test_a_wrong_gauge_power_would_not_commute():
    theta: dict[NetworkLayer, Fraction] = {"hidden": Fraction(1)}
    moved = parametrization("sp").gauge_transformed(theta, "adam")
    wrong = solve_stability(parametrization("sp"), "adam").parametrization.gauge_transformed(
        theta, "sgd"
    )
    assert solve_stability(moved, "adam").parametrization != wrong


def test_gauge_keeps_the_weight_and_shrinkage_and_composes():
    layer = LayerExponents(Fraction(0), -H, Fraction(-1), -H, Fraction(1))
    moved = layer.gauge_transformed(Fraction(3, 4), "adamw")
    assert moved.weight_std == layer.weight_std
    assert (moved.lr, moved.weight_decay) == (Fraction(-7, 4), Fraction(7, 4))
    assert moved.epsilon == Fraction(1, 4)  # the gradient grows with the multiplier
    assert moved.gauge_transformed(Fraction(-3, 4), "adamw") == layer


def test_umup_is_mup_with_a_slower_embedding():
    reduced = parametrization("umup").with_multipliers("adam")
    mup = solve_stability(parametrization("mup"), "adam").parametrization.with_multipliers("adam")
    assert [layer.lr for layer in reduced.layers.values()] == [-H, -1, -1]
    assert [layer.lr for layer in mup.layers.values()] == [0, -1, -1]
    slow = replace(mup, embedding=replace(mup.embedding, lr=-H))
    assert exponents(reduced) == exponents(slow)
    assert exponents(reduced) == exponents(parametrization("lv").with_multipliers("adam"))


@pytest.mark.parametrize(
    ("written", "value"),
    [("1/2", H), (" -0.5", -H), (2, Fraction(2)), (sp.Rational(1, 3), Fraction(1, 3))],
)
def test_exponents_are_exact(written, value):
    assert as_exponent(written) == value


@pytest.mark.parametrize("bad", [0.5, "1/0", "nan", "half", "1e999999999", "", True, None])
def test_bad_exponents_are_refused(bad):
    with pytest.raises(ValueError, match="exponent must be an integer or a fraction"):
        as_exponent(bad)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="sp, ntk, mup, mfp, umup, lv"):
        parametrization("mupp")
    with pytest.raises(ValueError, match="no readout"):
        custom_parametrization({"embedding": 0, "hidden": 0}, (0, 0, 0))
    with pytest.raises(ValueError, match="unknown projection"):
        custom_parametrization((0, 0, 0), (0, 0, 0), lr={"projection": 0})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="three exponents"):
        custom_parametrization((0, 0), (0, 0, 0))


def test_custom_parametrization_accepts_fractions_as_text():
    own = custom_parametrization(("1/2", 0, "-1/2"), ("-1/2", "-1/2", "-1/2"))
    assert exponents(own) == exponents(PARAMETRIZATIONS["mup"])


def test_published_rules_in_one_gauge():
    rates = {rule.name: tuple(rule.lr_exponents.values()) for rule in published_rules()}
    assert rates["microsoft/mup"] == (0, -1, -1)
    assert rates["u-muP"] == rates["Hayou & Liu"] == (-H, -1, -1)
    assert rates["Kalra & Barkeshli"] == (0, -1, -1)
    for name in ("SP", "NTK", "MFP"):
        assert rates[f"Everett {name}, full alignment"] == (0, -1, -1)
        assert rates[f"Everett {name}, no alignment"] == (0, -H, -H)


def test_microsoft_mup_is_table_8():
    (rule,) = (rule for rule in published_rules() if rule.name == "microsoft/mup")
    assert exponents(rule.own) == exponents(published("table 8", "adam"))


def test_comparison_groups_and_factors():
    compared = compare_published_rules(4096, 128256, base_width=256)
    assert set(compared.groups["embedding"][-H]) == {"u-muP", "Hayou & Liu"}
    assert compared.factors["u-muP"]["embedding"] == pytest.approx(16**-0.5)
    assert compared.ratio_factors["microsoft/mup"] == pytest.approx(16)
    assert compared.ratio_factors["Hayou & Liu"] == pytest.approx(4)
    assert compared.spread("embedding") == pytest.approx(4)
    assert compared.agreed_layers == ()
    assert compared.vocabulary_ratio == pytest.approx(128256 / 4096)
    with pytest.raises(ValueError, match="width must be an integer"):
        compare_published_rules(0, 10)


def test_every_adam_rule_at_full_alignment_has_the_derived_powers():
    """The gauge takes out what their models multiply by: only the embedding is disputed."""
    compared = compare_published_rules(3072, 50257, base_width=768)
    assert compared.derived == {"embedding": 0, "hidden": -1, "readout": -1}
    disputed = set(compared.groups["hidden"][-H])
    assert disputed == {name for name in compared.exponents if "no alignment" in name}
    assert {"CompleteP", "microsoft/mup", "Fan et al."} <= set(compared.agreeing("embedding"))


def test_muon_rules_in_one_gauge():
    """A step's spectral norm over sqrt(rows/columns): Adam's entry size grows with the root."""
    compared = compare_published_rules(3072, 50257, base_width=768, family="muon")
    rates = {name: tuple(powers.values()) for name, powers in compared.exponents.items()}
    assert rates["Muon"] == (0, 0, 0)
    assert rates["Moonlight"] == rates["Kimi K2"] == (0, H, 0)
    assert rates["Scion"] == rates["modular norm"] == rates["Qiu et al."] == (0, 0, -1)
    assert rates["Dion"] == (0, 0, -H)
    assert rates["nanochat"] == (-H, 0, -H)
    assert compared.derived == {"embedding": 0, "hidden": 0, "readout": -1}
    assert compared.factors["Moonlight"]["hidden"] == pytest.approx(2)
    assert compared.ratio_factors["Moonlight"] == pytest.approx(1 / 2)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (256, 256), (64, 256), (256, 64)])
def test_muons_two_scales_are_apart_by_the_root_of_the_width(rows, columns):
    """An orthogonal matrix: entries of 0.2 against a spectral norm of sqrt(rows/columns)."""
    random = np.random.default_rng(0)
    u, _, v = np.linalg.svd(random.normal(size=(rows, columns)), full_matrices=False)
    matched = 0.2 * math.sqrt(max(rows, columns)) * (u @ v)
    assert math.sqrt(np.mean(matched**2)) == pytest.approx(0.2)
    unit = np.linalg.norm(matched, 2) / math.sqrt(rows / columns)
    assert unit == pytest.approx(0.2 * math.sqrt(columns * max(1, columns / rows)))


def test_one_matrix_for_both_has_one_rate_and_a_multiplier():
    for family in ("adam", "muon"):
        compared = compare_published_rules(3072, 50257, base_width=768, family=family, tied=True)
        assert compared.derived["embedding"] == compared.derived["readout"] == 0
        assert compared.derived_logit_multiplier == -1
        assert set(compared.exponents) == set(compared.logit_multipliers)
        for powers in compared.exponents.values():
            assert powers["embedding"] == powers["readout"]
        assert not set(compared.silent) & set(compared.exponents)
    assert compared.exponents["Scion"]["embedding"] == -1


def test_rules_have_dates_and_names_of_their_own():
    for family in ("adam", "muon"):
        rules = published_rules(family)
        assert len({rule.name for rule in rules}) == len(rules)
        for rule in rules:
            assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", rule.date), rule.name
            assert rule.trained_by["hidden"] == family
