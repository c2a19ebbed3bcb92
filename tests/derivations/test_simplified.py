"""What is simple already is what sympy makes of it, and all else is sympy's."""

from __future__ import annotations

import pytest
import sympy as sp

from derivations._simplified import simplified

X, Y = sp.symbols("x y", positive=True)
REAL = sp.Symbol("a", real=True)


@pytest.mark.parametrize(
    "product",
    [
        sp.Integer(1),
        X,
        sp.sqrt(2) / sp.sqrt(sp.pi),
        -3 * X**2 * sp.sqrt(Y) / sp.pi,
        sp.sqrt(X) * sp.sqrt(Y) / 6,
        X ** sp.Rational(3, 2) / Y**2,
        REAL**3 / sp.sqrt(X),
    ],
    ids=str,
)
def test_products_are_simple(product):
    assert simplified(product) is product
    assert sp.simplify(product) == product


@pytest.mark.parametrize(
    "expression",
    [
        X * Y / X**2 - Y / X,
        sp.sin(X) ** 2 + sp.cos(X) ** 2,
        sp.exp(X) * sp.exp(Y),
        (X**2 - 1) / (X - 1),
        2**X * 2**Y,
    ],
    ids=str,
)
def test_all_else_is_left_to_sympy(expression):
    assert simplified(expression) == sp.simplify(expression)
