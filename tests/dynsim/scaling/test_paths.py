"""Paths: what is printed is parsed to the same value and order; bad texts are one-line errors."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from helpers import assert_refused, refusal
from hypothesis import given
from hypothesis import strategies as st

from dynsim.scaling import ScalingPath, scaling_path

SIZES = {"d": 300.0, "m": 7.0, "n": 3.0, "B": 40.0}
ORDERS = {"d": Fraction(1), "m": Fraction(7, 10), "n": Fraction(0), "B": Fraction(3, 2)}


@pytest.mark.parametrize(
    ("text", "value", "order"),
    [
        ("4*d", 1200, "1"),
        ("d^0.7", 300**0.7, "7/10"),
        ("d^(3/2)/8", 300**1.5 / 8, "3/2"),
        ("0.03*d^(-1/2)", 0.03 / math.sqrt(300), "-1/2"),
        ("min(d^2/8, 50000)", 11250, "0"),
        ("max(d, m^2, n)", 300, "7/5"),
        ("d^-1", 1 / 300, "-1"),
        ("d**2/8", 11250, "2"),
        ("sqrt(d*m)/n", math.sqrt(2100) / 3, "17/20"),
        ("d^-1/m", 1 / 2100, "-17/10"),  # one reading only: a power is a number
        ("((B))", 40, "3/2"),
        (" 2e3 * d / 1E3 ", 600, "1"),
        ("0", 0, "0"),
        (17, 17, "0"),
        (np.int64(17), 17, "0"),
        (np.float64(0.25), 0.25, "0"),
        (1e-12, 1e-12, "0"),
    ],
)
def test_value_and_order_of_a_path(text, value, order):
    path = scaling_path(text)
    assert path(**SIZES) == pytest.approx(value, rel=1e-14)
    assert path.order(**ORDERS) == Fraction(order)
    assert scaling_path(str(path)) == scaling_path(path) == path


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("d^-1/2", 5, "write d^(-1/2) or (d^-1)/2"),
        ("d^1/2", 4, "write d^(1/2) or (d^1)/2"),
        ("3*(4*d)^-1/2", 11, "write (4*d)^(-1/2) or ((4*d)^-1)/2"),
        ("d**-1/2", 6, "ambiguous"),
        ("", 1, "missing here"),
        ("d^0.7+3", 6, "no sums"),
        ("d-1", 2, "no sums and no differences"),
        ("-d", 1, "no minus sign"),
        ("2d", 2, "'*' is missing"),
        ("d m", 3, "'*' is missing"),
        ("d(2)", 2, "'*' is missing"),
        ("4*D", 3, "these are d (width), m (vocabulary size), n (outputs), B (batch size)"),
        ("width", 1, "'width' is no variable"),
        ("d²", 2, "no meaning"),
        ("٣*d", 1, "no meaning"),
        ("d^m", 3, "a power is a number"),
        ("d^", 3, "a power is a number"),
        ("d^--1", 4, "a power is a number"),
        ("d^(1/0)", 6, "divided by zero"),
        ("d^(1/2", 7, "')' is missing"),
        ("d^2^3", 4, "does not go on so"),
        ("(d", 3, "')' is missing"),
        ("d)", 2, "does not go on so"),
        ("min(d)", 6, "two or more"),
        ("min(d,", 7, "missing here"),
        ("max", 4, "'(' is missing"),
        ("d^9", 3, "at most 8"),
        ("d*1e31", 3, "too large or too small"),
        ("d*1e-31", 3, "too large or too small"),
        ("1e99999999", 1, "too large or too small"),
        ("d*0", 3, "0 stands alone"),
        ("d/0.0", 3, "0 stands alone"),
        ("(" * 30 + "d" + ")" * 30, 21, "too many parentheses"),
        ("__import__('os').system('true')", 1, "no meaning"),
    ],
)
def test_an_error_points_at_the_place(text, place, reason):
    assert_refused("vocab_size", lambda: scaling_path(text, "vocab_size"), reason)
    assert_refused("vocab_size", lambda: scaling_path(text, "vocab_size"), f"character {place}, ")


@pytest.mark.parametrize(
    "value", [True, None, [1], -1, -0.5, math.nan, math.inf, 10**400, "d" * 201]
)
def test_what_is_no_path(value):
    assert_refused("width", lambda: scaling_path(value, "width"), "must")


def test_variables_that_are_not_allowed():
    assert scaling_path("4*d", allowed="d").variables == {"d"}
    assert_refused("path", lambda: scaling_path("4*d*m", allowed="d"), "these are d (width)")


def test_beyond_what_a_float_holds_a_path_is_infinite():
    assert scaling_path("((d^8)^8)^8")(d=1e3) == math.inf
    assert scaling_path("d/m")(d=1.0, m=0.0) == math.inf


class Tree(NamedTuple):
    """A path's text, made at random, with its value and order worked out beside it."""

    text: str
    value: float
    order: Fraction


def powers() -> st.SearchStrategy[tuple[str, Fraction]]:
    small = st.integers(-4, 4)
    return st.one_of(
        small.filter(lambda k: k != 1).map(lambda k: (f"({k})", Fraction(k))),
        st.integers(2, 4).map(lambda k: (str(k), Fraction(k))),
        st.tuples(small, st.integers(1, 5)).map(
            lambda pair: (f"( {pair[0]} / {pair[1]})", Fraction(*pair))
        ),
        st.sampled_from([("0.5", Fraction(1, 2)), ("-.25", Fraction(-1, 4)), ("1.", Fraction(1))]),
    )


def leaves() -> st.SearchStrategy[Tree]:
    numbers = st.sampled_from(["1", "2.5", "0.03", ".5", "3e2", "1E-3", "50000"])
    return st.one_of(
        numbers.map(lambda text: Tree(text, float(text), Fraction(0))),
        st.sampled_from("dmnB").map(lambda name: Tree(name, SIZES[name], ORDERS[name])),
    )


def raised(pair: tuple[Tree, tuple[str, Fraction]]) -> Tree:
    tree, (text, power) = pair
    return Tree(f"({tree.text})^{text}", tree.value ** float(power), tree.order * power)


def product(pair: tuple[Tree, Tree]) -> Tree:
    left, right = pair
    return Tree(
        f"({left.text}) *({right.text})", left.value * right.value, left.order + right.order
    )


def quotient(pair: tuple[Tree, Tree]) -> Tree:
    left, right = pair
    return Tree(
        f"({left.text})/ ({right.text})", left.value / right.value, left.order - right.order
    )


def extreme(pair: tuple[str, list[Tree]]) -> Tree:
    name, parts = pair
    pick = {"min": min, "max": max}[name]
    return Tree(
        f"{name}({' , '.join(part.text for part in parts)})",
        pick(part.value for part in parts),
        pick(part.order for part in parts),
    )


TREES = st.recursive(
    leaves(),
    lambda inside: st.one_of(
        st.tuples(inside, powers()).map(raised),
        st.tuples(inside, inside).map(product),
        st.tuples(inside, inside).map(quotient),
        st.tuples(st.sampled_from(["min", "max"]), st.lists(inside, min_size=2, max_size=3)).map(
            extreme
        ),
        inside.map(lambda tree: Tree(f"sqrt({tree.text})", tree.value**0.5, tree.order / 2)),
    ),
    max_leaves=6,
).filter(lambda tree: len(tree.text) <= 200 and 1e-200 < tree.value < 1e200)


@given(TREES)
def test_a_printed_tree_is_parsed_to_its_value_and_order(tree):
    path = scaling_path(tree.text)
    assert path(**SIZES) == pytest.approx(tree.value, rel=1e-9)
    assert path.order(**ORDERS) == tree.order


@given(TREES.map(lambda tree: scaling_path(tree.text)))
def test_the_order_is_the_slope_at_large_sizes(path: ScalingPath):
    """Where min and max have made their choice: the logarithm's slope in ln s."""
    slope = (_logarithm(path, 2e8) - _logarithm(path, 1e8)) / 1e8
    assert slope == pytest.approx(float(path.order(**ORDERS)), abs=1e-5)


def _logarithm(path: ScalingPath, log_size: float) -> float:
    """ln of a path at sizes exp(order * log_size), which no float holds."""
    from dynsim.scaling._paths import Extreme, Number, Product, Variable

    def of(node) -> float:
        match node:
            case Number(value):
                return math.log(value)
            case Variable(name):
                return float(ORDERS[name]) * log_size
            case Product(factors):
                return sum(float(power) * of(part) for part, power in factors)
            case Extreme(which, parts):
                return {"min": min, "max": max}[which](map(of, parts))
        raise AssertionError(node)

    return of(path.root)


@given(st.text(alphabet="dmnB0123456789.^*/()-+, eminaxsqrt²$\n", max_size=24))
def test_any_text_is_a_path_or_a_one_line_error(text):
    error = refusal(lambda: scaling_path(text, "width"))
    if error is None:
        value = scaling_path(text)(**SIZES)
        assert value >= 0
    else:
        assert error.field == "width"
        assert "\n" not in str(error)
