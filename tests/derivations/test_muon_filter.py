"""Muon's filter of singular values: the parts of its derivation at numbers."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad

import derivations
from derivations import muon_symbols as of

WIDTH, SQUARES = 7.0, np.array([3.0, 1.0, 0.2])


def at(formula, **values):
    symbols = {getattr(of, name): value for name, value in values.items()}
    return float(formula.expression.subs(symbols))


def free(level: float) -> float:
    return WIDTH - float(np.sum(SQUARES / (SQUARES + level)))


def free_pair(level: float, other: float) -> float:
    return WIDTH - float(np.sum(SQUARES**2 / ((SQUARES + level) * (SQUARES + other))))


def test_the_density_is_that_of_an_inverse_root_in_the_level():
    """(1/pi) dt / sqrt(t) at t = ell F(ell), by a difference quotient."""
    level, step = 0.7, 1e-6
    times = [one * free(one) for one in (level - step, level + step)]
    expected = (times[1] - times[0]) / (2 * step) / (np.pi * (level * free(level)) ** 0.5)
    density = at(
        derivations.muon_filter_density(),
        row_level=level,
        free_dimensions=free(level),
        free_pair_dimensions=free_pair(level, level),
    )
    assert density == pytest.approx(expected, rel=1e-8)


def test_the_covariance_of_one_level_is_the_slope_of_its_trace():
    """E[Q_ab^2] (lambda_a + ell)^2 (lambda_b + ell)^2 / ell^4 = -d(1/ell)/dt."""
    level, step = 0.7, 1e-6
    slope = -(1 / (level + step) - 1 / (level - step))
    slope /= (level + step) * free(level + step) - (level - step) * free(level - step)
    core = at(
        derivations.muon_level_covariance(),
        row_level=level,
        other_level=level,
        free_pair_dimensions=free_pair(level, level),
    )
    assert core == pytest.approx(level**4 * slope, rel=1e-8)


def test_a_single_direction_is_moved_by_the_root_of_the_width():
    """One value s: z_1 (lambda z^T z)^(-1/2) z_1 s = |z_1|, about sqrt(d)."""
    square, width = 0.3, 400.0

    def density(level: float) -> float:
        share = square / (square + level)
        values = {"free_dimensions": width - share, "free_pair_dimensions": width - share**2}
        weight = at(derivations.muon_filter_density(), row_level=level, **values)
        return weight * at(derivations.muon_resolvent(), singular_square=square, row_level=level)

    inner, _ = quad(lambda y: 2 * y * density(y**2), 0, 1)
    outer, _ = quad(lambda y: 2 * y**-3 * density(y**-2), 0, 1)
    assert square**0.5 * (inner + outer) == pytest.approx(width**0.5, rel=1 / width)


def test_a_tied_matrix_has_both_orders_of_the_product():
    once, twice = (derivations.muon_filter(layer).expression for layer in ("head", "tied"))
    assert sp.simplify(twice - 2 * once) == 0
