"""Regimes: rho, boundaries and exponents in their limits, and against exact moments at size."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import sympy as sp
from helpers import assert_exponent, assert_same_expression

import derivations
from derivations import symbols as s

d, m, mu, alpha = s.width, s.vocab_size, s.vocab_exponent, s.zipf_exponent
HALF = sp.Rational(1, 2)


def test_coherence_ratio_and_crossover():
    rho = derivations.coherence_ratio().expression
    assert_same_expression(rho, 2 / sp.pi * (d - 1) / m)
    boundary = derivations.crossover_vocab_size().expression
    assert_same_expression(rho.subs(m, boundary), sp.Integer(1))
    assert sp.limit(boundary / d, d, sp.oo) == 2 / sp.pi


@pytest.mark.parametrize("layer", ["projection", "hidden"])
@pytest.mark.parametrize("optimizer", ["sign", "adam"])
def test_local_exponent_is_one_curve_of_rho(layer, optimizer):
    """1/2 + rho'/(1 + rho)/2 at finite d, rho' = d drho/dd; one curve of d/m at large d."""
    _, rms = derivations.first_step(layer, optimizer)
    slope = derivations.local_exponent(rms.expression.subs(derivations.UNIFORM_LAW))
    rho = derivations.coherence_ratio().expression
    assert_same_expression(slope, HALF + HALF * d * sp.diff(rho, d) / (1 + rho))
    ratio = sp.Symbol("x", positive=True)  # d/m at fixed ratio and d to infinity
    curve = sp.limit(slope.subs(m, d / ratio), d, sp.oo)
    universal = 2 / sp.pi * ratio
    assert_same_expression(curve, HALF + HALF * universal / (1 + universal))


def test_local_exponent_in_its_limits():
    _, rms = derivations.first_step("projection", "sign")
    slope = derivations.local_exponent(rms.expression.subs(derivations.UNIFORM_LAW))
    assert sp.limit(slope, d, sp.oo) == 1  # muP regime
    assert sp.limit(slope, m, sp.oo) == HALF  # LV regime
    crossover = slope.subs(m, derivations.crossover_vocab_size().expression)
    assert sp.limit(crossover, d, sp.oo) == sp.Rational(3, 4)


def test_one_token_law_has_the_exponent_of_one_neuron():
    """m = 1: the update is -eta sum |e_l|, whose mean square is d + (2/pi) d (d - 1)."""
    _, rms = derivations.first_step("projection", "sign")
    alone = rms.expression.subs(derivations.UNIFORM_LAW).subs(m, 1)
    assert_same_expression(alone**2, d + 2 / sp.pi * d * (d - 1))


@pytest.mark.parametrize("layer", ["projection", "hidden"])
@pytest.mark.parametrize("of_one_token", [False, True])
def test_derived_exponent_of_uniform_tokens(layer, of_one_token):
    exponent = derivations.exponent(layer, "sign", of_one_token=of_one_token).subs(alpha, 0)
    for value in map(sp.Rational, (0, "1/2", 1, "3/2", 3)):
        expected = max(1 - value / 2, HALF)
        assert exponent.subs({mu: value, s.rank_exponent: 0}) == expected


@pytest.mark.parametrize(("init", "expected"), [("mup", 0), ("sp", HALF)])
def test_embedding_exponent_does_not_know_the_vocabulary(init, expected):
    """Signal eta_E sigma_W d sqrt(2/pi): d^0 under muP, d^(1/2) under SP, for every token law."""
    exponent = derivations.exponent("embedding", "sign", init=init)
    assert exponent == expected
    assert not exponent.free_symbols


@cache
def harmonic(count: int, power: float) -> float:
    return float((np.arange(1, count + 1, dtype=np.float64) ** -power).sum())


@cache
def mean_presence(count: int, power: float, batch: float) -> float:
    p = np.arange(1, count + 1, dtype=np.float64) ** -power / harmonic(count, power)
    return float(p @ -np.expm1(batch * np.log1p(-np.minimum(p, 1 - 1e-16))))


def exact_rms(layer, optimizer, width, vocab_size, power, rank=None, batch=0.0) -> float:
    """The exact finite-size RMS with power sums added up by numpy."""
    _, rms = derivations.first_step(
        layer, optimizer, of_one_token=rank is not None, mini_batch=batch > 0
    )
    total = harmonic(vocab_size, power)
    values = {
        d: float(width),
        s.frequency_square_sum: harmonic(vocab_size, 2 * power) / total**2,
        s.frequency_cube_sum: harmonic(vocab_size, 3 * power) / total**3,
    }
    if rank is not None:
        values[s.frequency] = rank**-power / total
    if batch:
        values[s.batch_size] = batch
        chance = mean_presence(vocab_size, power, batch)
        if rank is not None:
            chance = -math.expm1(batch * math.log1p(-values[s.frequency]))
        values[s.presence] = chance
    return float(rms.expression.subs(values))


def fitted(layer, optimizer, power, mu_value, iota=None, beta=None) -> tuple[list, list]:
    """Widths and exact RMS along m = d^mu, i = d^iota, B = d^beta, up to m = 10^6."""
    largest = 10 ** (6 / mu_value) if mu_value else 1e12
    widths = [min(largest, 1e12) / 4, min(largest, 1e12)]
    values = [
        exact_rms(
            layer,
            optimizer,
            width,
            max(1, round(width**mu_value)),
            power,
            None if iota is None else width**iota,
            0.0 if beta is None else width**beta,
        )
        for width in widths
    ]
    return widths, values


def derived(layer, optimizer, power, mu_value, iota=None, beta=None) -> float:
    exponent = derivations.exponent(
        layer, optimizer, of_one_token=iota is not None, mini_batch=beta is not None
    )
    values = {
        alpha: sp.nsimplify(power),
        mu: sp.nsimplify(mu_value),
        s.rank_exponent: sp.nsimplify(iota or 0),
        s.batch_exponent: sp.nsimplify(beta or 0),
    }
    return float(exponent.subs(values))


@pytest.mark.parametrize("optimizer", ["sgd", "sign"])
@pytest.mark.parametrize(
    ("power", "mu_value", "iota", "beta"),
    [
        (0.0, 0.5, None, None),
        (0.0, 1.6, None, None),
        (0.2, 0.6, None, None),
        (0.2, 1.5, None, None),
        (0.7, 0.5, None, None),
        (0.7, 1.5, None, None),
        (1.5, 0.8, None, None),
        (2.0, 1.4, None, None),
        (0.0, 0.5, 0.3, None),
        (0.2, 1.5, 0.4, None),
        (0.7, 1.0, 0.2, None),
        (0.7, 1.2, 1.0, None),
        (1.5, 1.0, 0.1, None),
        (1.5, 1.0, 0.8, None),
        (0.0, 1.5, None, 0.4),
        (0.0, 0.4, None, 1.5),
        (0.2, 1.5, None, 0.5),
        (1.5, 1.0, None, 0.6),
        (0.7, 1.2, 0.2, 0.5),
        (1.5, 1.0, 0.7, 0.4),
    ],
)
def test_leading_order_is_the_slope_at_huge_sizes(optimizer, power, mu_value, iota, beta):
    widths, values = fitted("projection", optimizer, power, mu_value, iota, beta)
    expected = derived("projection", optimizer, power, mu_value, iota, beta)
    assert_exponent(widths, values, expected, 0.03)
    with pytest.raises(AssertionError, match="exponent"):
        assert_exponent(widths, values, expected + 0.1, 0.03)


@pytest.mark.parametrize("optimizer", ["sgd", "sign"])
@pytest.mark.parametrize(
    ("power", "mu_value", "iota", "beta"),
    [
        (0.0, 1.5, None, 0.4),
        (0.2, 1.5, None, 0.5),
        (0.0, 0.5, None, 1.2),
        (1.5, 1.0, None, 0.6),
        (0.0, 1.5, 0.2, 0.7),
        (1.5, 1.0, 0.8, 0.5),
        (1.5, 1.0, 0.2, 0.9),
    ],
)
def test_embedding_leading_order_in_mini_batch(optimizer, power, mu_value, iota, beta):
    widths, values = fitted("embedding", optimizer, power, mu_value, iota, beta)
    expected = derived("embedding", optimizer, power, mu_value, iota, beta)
    assert_exponent(widths, values, expected, 0.03)


@pytest.mark.parametrize("optimizer", ["sgd", "sign"])
@pytest.mark.parametrize("of_one_token", [False, True])
@pytest.mark.parametrize("mini_batch", [False, True])
def test_hidden_and_projection_have_the_same_exponent(optimizer, of_one_token, mini_batch):
    shape = {"of_one_token": of_one_token, "mini_batch": mini_batch}
    hidden, projection = (
        derivations.exponent(layer, optimizer, **shape) for layer in ("hidden", "projection")
    )
    assert hidden == projection


@pytest.mark.parametrize(
    ("power", "mu_value", "beta"), [(0.7, 1.2, 0.9), (0.8, 1.5, 0.75), (0.7, 1.5, 0.3)]
)
def test_embedding_presence_of_flat_zipf_laws(power, mu_value, beta):
    """For 1/2 < alpha < 1 the mean presence is not B/m but larger: the head's p_i^2 adds up.

    q ~ B P_2 ~ B m^(2 alpha - 2) while B p_1 < 1, then (B/m)^((1 - alpha)/alpha) up to B = m.
    """
    widths, values = fitted("embedding", "sign", power, mu_value, None, beta)
    expected = derived("embedding", "sign", power, mu_value, None, beta)
    assert_exponent(widths, values, expected, 0.03)


def test_leading_order_refuses_what_has_none():
    orders = derivations.zipf_orders()
    assert derivations.leading_order(sp.Integer(7), orders) == 0
    with pytest.raises(KeyError):
        derivations.leading_order(s.embedding_lr, orders)
    with pytest.raises(ValueError, match="no leading order"):
        derivations.leading_order(sp.sin(d), orders)


@pytest.mark.parametrize("power", [0.0, 0.3, 0.5, 0.8, 1.7])
def test_power_sums_grow_as_derived(power):
    counts = [2_000_000, 8_000_000]
    order = derivations.power_sum_order(sp.nsimplify(power))
    expected = float(order.subs(alpha, 0))
    values = [float((np.arange(1, n + 1, dtype=np.float64) ** -power).sum()) for n in counts]
    assert_exponent(counts, values, expected, 0.02)


def test_critical_vocab_exponent_on_its_pieces():
    critical = derivations.critical_vocab_exponent().expression
    for value in (0, sp.Rational(1, 10), sp.Rational(1, 3)):
        assert critical.subs(alpha, value) == 1
    for value in (sp.Rational(2, 5), sp.Rational(9, 20), HALF):
        assert critical.subs(alpha, value) == 1 / (2 - 3 * value)
    for value in (HALF, sp.Rational(3, 4), sp.Rational(9, 10)):
        assert critical.subs(alpha, value) == 1 / (1 - value)
    for value in (1, sp.Rational(3, 2)):
        assert critical.subs(alpha, value).is_infinite


@pytest.mark.parametrize("power", [0, sp.Rational(1, 4), sp.Rational(2, 5), sp.Rational(3, 4)])
def test_critical_vocab_exponent_is_where_the_exponent_becomes_one_half(power):
    critical = derivations.critical_vocab_exponent().expression.subs(alpha, power)
    exponent = derivations.exponent("projection", "sign").subs(alpha, power)
    assert exponent.subs(mu, critical) == HALF
    assert exponent.subs(mu, critical * 2) == HALF
    assert exponent.subs(mu, critical * sp.Rational(9, 10)) > HALF


@pytest.mark.parametrize("power", [1, sp.Rational(3, 2), 2])
def test_crossover_rank_of_a_zipf_law(power):
    """rho of the token of that rank is 1, and the rank grows like d^(1/(2 alpha))."""
    derived_rank = derivations.crossover_rank().expression
    size, sizes = 12, [1e6, 4e6]
    ranks = []
    for width in sizes:
        rank = float(derived_rank.subs({alpha: power, m: size, d: width}).evalf())
        weights = np.arange(1, size + 1, dtype=float) ** -float(power)
        alignment = rank ** (-2 * float(power)) / (weights**2).sum()
        assert 2 / math.pi * (width - 1) * alignment == pytest.approx(1, rel=1e-9)
        ranks.append(rank)
    assert_exponent(sizes, ranks, 1 / (2 * float(power)), 1e-5)


def test_zipf_law_is_uniform_at_exponent_zero():
    zipf = derivations.zipf_law(of_one_token=True)
    for symbol, value in derivations.UNIFORM_LAW.items():
        assert_same_expression(zipf[symbol].subs(alpha, 0), value)


def test_initial_std():
    assert derivations.initial_std("mup")[s.projection_std] == 1 / d
    assert derivations.initial_std("sp")[s.projection_std] == d**-HALF
    with pytest.raises(KeyError):
        derivations.initial_std("xavier")
