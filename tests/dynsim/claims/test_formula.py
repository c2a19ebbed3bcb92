"""Formulas of predictions: arithmetic by a grammar, and nothing else."""

from __future__ import annotations

import math

import pytest
from helpers import assert_refused, refusal
from hypothesis import given
from hypothesis import strategies as st

from dynsim import InputError
from dynsim.claims._formula import POWERS, formula
from dynsim.scaling._paths import VARIABLES as SIZES

VALUES = {"mu": 1.5, "nu": 0.25, "beta": 0.0, "alpha": 0.8}

Written = tuple[str, float]  # a text and what it is worth


def leaves() -> st.SearchStrategy[Written]:
    numbers = st.integers(0, 50).map(lambda n: (str(n), float(n)))
    return numbers | st.sampled_from(sorted(VALUES)).map(lambda name: (name, VALUES[name]))


def grown(inside: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    pairs = st.tuples(inside, inside)
    return st.one_of(
        pairs.map(lambda p: (f"({p[0][0]} + {p[1][0]})", p[0][1] + p[1][1])),
        pairs.map(lambda p: (f"({p[0][0]}-{p[1][0]})", p[0][1] - p[1][1])),
        pairs.map(lambda p: (f"({p[0][0]} * {p[1][0]})", p[0][1] * p[1][1])),
        pairs.map(lambda p: (f"min({p[0][0]}, {p[1][0]})", min(p[0][1], p[1][1]))),
        pairs.map(lambda p: (f"max({p[0][0]},{p[1][0]})", max(p[0][1], p[1][1]))),
        inside.map(lambda p: (f"({p[0]})/8", p[1] / 8)),
        inside.map(lambda p: (f"({p[0]})^2", p[1] ** 2)),
        inside.map(lambda p: (f"(-{p[0]})", -p[1])),
    )


@given(st.recursive(leaves(), grown, max_leaves=8))
def test_a_formula_is_worth_what_its_parts_are(written):
    text, value = written
    if len(text) <= 200 and abs(value) < 1e300:
        assert formula(text)(VALUES) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 - mu/2", 0.25),
        ("2 - 1 - 1", 0.0),  # from the left
        ("8/2/2", 2.0),
        ("2^3^2", 512.0),  # a power's power stands first
        ("-2^2", -4.0),
        ("4^-1", 0.25),
        ("2*mu^2", 4.5),
        ("sqrt(2*8)", 4.0),
        ("min(1, 1/2 + mu/4, 3)", 0.875),
        (".5e1", 5.0),
        (0.85, 0.85),
        (-1, -1.0),
    ],
)
def test_precedence(text, value):
    assert formula(text)(VALUES) == pytest.approx(value)


def test_a_value_at_finite_sizes():
    ratio = formula("pi/2*sqrt(m) + (d - 1)/sqrt(m)", "against", SIZES)
    assert ratio({"d": 65.0, "m": 16.0}) == pytest.approx(2 * math.pi + 16)
    assert_refused(
        "against",
        lambda: formula("mu", "against", SIZES),
        "these are d (width)",
        "derived or mean_field",
    )


def test_variables_are_those_that_occur():
    assert formula("max(mu, 1) - alpha").variables == {"mu", "alpha"}
    assert formula(3).variables == frozenset()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("1 +", "at character 4, the end: a number or a variable is missing"),
        ("1 2", "at character 3, '2': a formula does not go on so"),
        ("gamma", "'gamma' is no variable; these are mu"),
        ("min(1)", "two or more"),
        ("sqrt(1, 2)", "')' is missing here"),
        ("", "at character 1, the end"),
        ("(" * 30 + "1", "too many parentheses"),
        ("1" * 40, "too large"),
        ("2^" * 60 + "2", "too many parentheses"),
        ("1" + "+1" * 200, "at most 200 characters"),
        ("__import__('os').system('id')", "at character 1, '_': it has no meaning"),
        ("mu if mu else 1", "does not go on so"),
        ("λ", "it has no meaning"),
    ],
)
def test_what_does_not_parse_is_pointed_at(text, place):
    assert_refused("prediction", lambda: formula(text), place)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, None, [1]])
def test_no_number(value):
    assert_refused("prediction", lambda: formula(value))


@pytest.mark.parametrize("text", ["1/beta", "sqrt(-1)", "(0-1)^0.5", "10^10^10", "0^-1", "9^9^9^9"])
def test_what_is_not_finite_is_refused(text):
    with pytest.raises(InputError, match="finite"):
        formula(text)(VALUES)


@given(st.text(alphabet="0123456789.+-*/^(), munbetalphsqrixE'_", max_size=40))
def test_any_text_gives_a_number_or_one_line(text):
    refused = refusal(lambda: formula(text)(VALUES))
    assert "\n" not in str(refused) if refused else math.isfinite(formula(text)(VALUES))


def test_every_variable_has_a_value_in_these_tests():
    assert set(VALUES) == set(POWERS)
