"""Gaussian kernels against quadrature, sampling, direct expansion and finite epsilon."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp
from helpers import assert_mean, assert_rejected, assert_same_expression
from scipy.integrate import quad
from scipy.stats import norm

import derivations
from derivations import (
    OPTIMIZERS,
    arcsine_law,
    flow_symbols,
    gradient_std,
    input_std,
    kernel,
    smoothed_sign_kernel,
    summed_kernel,
)
from derivations import symbols as s
from derivations._gaussian import hyperu, normal_expectation, shifted_sign_expectations
from dynsim._compiled import evaluate

CORRELATIONS = (-0.95, -0.5, 0.0, 0.1, 0.4, 0.7, 0.99)
STDS = {input_std: 1.7, gradient_std: 0.6}


def value(expression: sp.Expr, correlation: float, **extra: float) -> float:
    numbers = {**STDS, s.alignment: correlation}
    if "width" in extra:
        numbers[s.width] = extra["width"]
    return float(expression.subs(numbers))


def entrywise(optimizer, v, epsilon=0.0):
    if optimizer == "sgd":
        return v
    return np.sign(v) if epsilon == 0 else v / (np.abs(v) + epsilon)


def by_quadrature(optimizer: str, correlation: float, power: int) -> float:
    """E[(u phi(v))^power] by one numerical integral over v; given v, u is Gaussian."""

    def integrand(x):
        mean = STDS[input_std] * correlation * x
        variance = STDS[input_std] ** 2 * (1 - correlation**2)
        moment = mean if power == 1 else mean**2 + variance
        phi = float(entrywise(optimizer, STDS[gradient_std] * x))
        return norm.pdf(x) * moment * phi**power

    left, right = quad(integrand, -12, 0)[0], quad(integrand, 0, 12)[0]
    return left + right


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_kernel_against_quadrature(optimizer, correlation):
    derived = kernel(optimizer)
    assert value(derived.mean, correlation) == pytest.approx(
        by_quadrature(optimizer, correlation, 1), abs=1e-9
    )
    assert value(derived.second_moment, correlation) == pytest.approx(
        by_quadrature(optimizer, correlation, 2), rel=1e-7
    )


def test_wrong_kernel_disagrees_with_quadrature():
    wrong = kernel("sign").mean * sp.sqrt(sp.pi / 2)  # the prefactor sqrt(2/pi) left out
    assert value(wrong, 0.4) != pytest.approx(by_quadrature("sign", 0.4, 1), rel=0.1)


@pytest.mark.parametrize("correlation", [0.0, 0.3, -0.8])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_summed_kernel_against_sampling(optimizer, correlation, random):
    neurons, draws = 7, 60_000
    x, y = random.standard_normal((2, draws, neurons))
    u = STDS[input_std] * (correlation * x + math.sqrt(1 - correlation**2) * y)
    total = np.sum(u * entrywise(optimizer, STDS[gradient_std] * x), axis=1)
    moment = value(summed_kernel(optimizer).second_moment, correlation, width=neurons)
    assert_mean(total**2, moment)
    assert_rejected(total**2, 1.1 * moment)
    if correlation:
        mean = value(summed_kernel(optimizer).mean, correlation, width=neurons)
        assert_mean(total, mean)
        assert_rejected(total, 1.1 * mean)


SMOOTHINGS = (0.01, 0.3, 1.0, 4.0, 60.0)  # epsilon


def smoothed_by_quadrature(correlation: float, power: int, epsilon: float) -> float:
    def integrand(x):
        v = STDS[gradient_std] * x
        mean = STDS[input_std] * correlation * x
        variance = STDS[input_std] ** 2 * (1 - correlation**2)
        moment = mean if power == 1 else mean**2 + variance
        return norm.pdf(x) * moment * (v / math.hypot(v, epsilon)) ** power

    edge = min(epsilon / STDS[gradient_std], 1)
    pieces = [(-12, -edge), (-edge, 0), (0, edge), (edge, 12)]
    return sum(quad(integrand, *piece, epsabs=0, epsrel=1e-11)[0] for piece in pieces)


@pytest.mark.parametrize("correlation", [-0.5, 0.1, 0.99])
@pytest.mark.parametrize("epsilon", SMOOTHINGS)
def test_smoothed_sign_kernel_against_quadrature(epsilon, correlation):
    derived = smoothed_sign_kernel()
    numbers = {**STDS, s.alignment: correlation, flow_symbols.smoothing: epsilon}
    for power, moment in ((1, derived.mean), (2, derived.second_moment)):
        exact = smoothed_by_quadrature(correlation, power, epsilon)
        assert float(evaluate(moment, numbers)) == pytest.approx(exact, rel=1e-9)
        if epsilon < 10:  # sympy's own numbers
            assert float(moment.subs(numbers).evalf()) == pytest.approx(exact, rel=1e-9)
        shifted = {**numbers, flow_symbols.smoothing: 1.1 * epsilon}
        assert float(evaluate(moment, shifted)) != pytest.approx(exact, rel=1e-5)


def test_smoothed_sign_kernel_between_sign_and_sgd():
    numbers = {**STDS, s.alignment: 0.3}
    for epsilon, limit, unit in ((1e-9, "sign", 1.0), (1e5, "sgd", 1e5)):
        values = {**numbers, flow_symbols.smoothing: epsilon}
        mean = unit * float(evaluate(smoothed_sign_kernel().mean, values))
        assert mean == pytest.approx(float(kernel(limit).mean.subs(numbers)), rel=1e-8)
    smooth = float(
        evaluate(smoothed_sign_kernel().second_moment, {**numbers, flow_symbols.smoothing: 1e-9})
    )
    assert smooth == pytest.approx(float(kernel("sign").second_moment.subs(numbers)), rel=1e-8)


@pytest.mark.parametrize("epsilon", [0.05, 0.6, 3.0])
def test_power_of_the_smoothed_sign_in_erfc(epsilon):
    """E[phi^2] = 1 - sqrt(pi/2) k exp(k^2/2) erfc(k / sqrt 2)."""
    k = epsilon / STDS[gradient_std]
    numbers = {**STDS, s.alignment: 0.0, flow_symbols.smoothing: epsilon}
    power = float(evaluate(smoothed_sign_kernel().second_moment, numbers)) / STDS[input_std] ** 2
    lost = math.sqrt(math.pi / 2) * k * math.exp(k**2 / 2) * math.erfc(k / math.sqrt(2))
    assert power == pytest.approx(1 - lost, rel=1e-10)


@pytest.mark.parametrize("point", [0.0, 1e-6, 0.2, 3.0, 40.0, 1e4])
@pytest.mark.parametrize(("a", "b"), [("1/2", "0"), ("1", "1/2"), ("1", "-1/2"), ("5/2", "-2")])
def test_tricomi_function(a, b, point):
    x = sp.Symbol("x", positive=True)
    function = hyperu(sp.Rational(a), sp.Rational(b), x)
    exact = float(mpmath.hyperu(*map(mpmath.mpmathify, (a, b)), point))
    assert float(evaluate(function, {x: point})) == pytest.approx(exact, rel=1e-11)
    if 0 < point < 100:
        assert float(function.subs(x, point).evalf()) == pytest.approx(exact, rel=1e-11)
        rise = mpmath.diff(lambda z: mpmath.hyperu(*map(mpmath.mpmathify, (a, b)), z), point)
        slope = sp.diff(function, x).subs(x, point).evalf()
        assert float(slope) == pytest.approx(float(rise), rel=1e-6)


def test_sign_kernel_is_the_one_of_the_theory():
    d, c = s.width, s.alignment
    moment = input_std**2 * d * (1 + 2 / sp.pi * (d - 1) * c**2)
    assert_same_expression(summed_kernel("sign").second_moment, moment)
    assert_same_expression(summed_kernel("sign").mean, input_std * d * sp.sqrt(2 / sp.pi) * c)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_sgd_kernel_is_wishart_by_direct_expansion(width):
    """E[(sum_l u_l v_l)^2] expanded term by term, each by Wick's pairings, for small d."""
    c = Fraction(3, 7)
    # Variables u_1 ... u_d, v_1 ... v_d of unit variance; only u_l and v_l correlate.
    covariance = sp.eye(2 * width)
    for neuron in range(width):
        covariance[neuron, width + neuron] = covariance[width + neuron, neuron] = c

    def wick(i, j, k, l):  # noqa: E741
        q = covariance
        return q[i, j] * q[k, l] + q[i, k] * q[j, l] + q[i, l] * q[j, k]

    direct = sum(
        wick(a, width + a, b, width + b) for a, b in itertools.product(range(width), repeat=2)
    )
    unit = {input_std: 1, gradient_std: 1, s.alignment: sp.Rational(3, 7), s.width: width}
    assert summed_kernel("sgd").second_moment.subs(unit) == direct
    wishart = width * (1 + (width + 1) * sp.Rational(3, 7) ** 2)
    assert direct == wishart
    assert direct != width * (1 + width * sp.Rational(3, 7) ** 2)  # d + 1, not d


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_arcsine_law_against_quadrature(correlation):
    slope = correlation / math.sqrt(1 - correlation**2)
    agreement = 2 * quad(lambda x: norm.pdf(x) * math.erf(slope * x / math.sqrt(2)), 0, 12)[0]
    derived = float(arcsine_law().expression.subs(s.alignment, correlation))
    assert derived == pytest.approx(agreement, abs=1e-9)
    if abs(correlation) > 0.3:
        assert derived != pytest.approx(correlation, rel=0.05)  # it is not linear


def test_arcsine_law_in_its_limits(random):
    law = arcsine_law().expression
    assert law.subs(s.alignment, 0) == 0
    assert law.subs(s.alignment, 1) == 1
    assert law.subs(s.alignment, -1) == -1
    x, y = random.standard_normal((2, 400_000))
    agreement = np.sign(x) * np.sign(0.6 * x + 0.8 * y)
    assert_mean(agreement, float(law.subs(s.alignment, 0.6)))
    assert_rejected(agreement, 1.1 * float(law.subs(s.alignment, 0.6)))


@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.1, 0.3])
def test_adam_bound_holds_at_finite_epsilon(ratio):
    """sqrt(2/pi) - a <= E[|x| |x|/(|x| + a)] <= sqrt(2/pi), a = epsilon / sigma_v."""
    signal = 2 * quad(lambda x: norm.pdf(x) * x * x / (x + ratio), 0, 12)[0]
    limit = math.sqrt(2 / math.pi)
    assert limit - ratio <= signal <= limit
    assert 1 - signal / limit <= math.sqrt(math.pi / 2) * ratio  # as the assumption says
    assert signal < limit - ratio / 2  # the bound is no idle one: epsilon does cost signal
    (bound,) = [step.right for step in kernel("adam").steps if "lower bound" in step.left]
    (symbol,) = bound.free_symbols
    assert float(bound.subs(symbol, ratio)) == pytest.approx(limit - ratio)


def test_adam_is_sign_and_sgd_is_not():
    assert kernel("adam").mean == kernel("sign").mean
    assert kernel("adam").second_moment == kernel("sign").second_moment
    assert kernel("adam").assumptions
    assert not kernel("sign").assumptions
    assert kernel("sgd").mean != kernel("sign").mean


def test_normal_expectation_refuses_what_it_cannot_integrate():
    x = sp.Symbol("x", real=True)
    assert normal_expectation(x**4) == 3
    with pytest.raises(ValueError, match="no closed form"):
        normal_expectation(sp.Function("f")(x))


def normal_quadrature(function):
    left, right = (
        quad(lambda x: norm.pdf(x) * function(x), *ends)[0] for ends in ((-12, 0), (0, 12))
    )
    return left + right


_x, _a = sp.Symbol("x", real=True), sp.Symbol("a", positive=True)


@pytest.mark.parametrize(
    "function",
    [
        sp.Abs(_x) ** 3 + 2 * _x**2 - _x,
        sp.exp(-_a * _x**2),
        (sp.Abs(_x) + 3) * _x**2 * sp.exp(-_a * _x**2 / 2),
        _x * sp.erf(_a * _x / sp.sqrt(2)),
        sp.exp(-_a * _x),  # neither of the known kinds
        sp.exp(_x**2 / 4),
    ],
)
def test_normal_expectation_is_the_integral(function):
    found = float(normal_expectation(function).subs(_a, 0.7))
    integrand = sp.lambdify(_x, function.subs(_a, 0.7), "scipy")
    assert found == pytest.approx(normal_quadrature(integrand), rel=1e-9)


@pytest.mark.parametrize("shift", [0.3, 2.0])
def test_expectations_of_a_shifted_sign(shift):
    along, sign = (float(one.subs(_a, shift)) for one in shifted_sign_expectations(_a))
    above, below = quad(norm.pdf, -shift, 12)[0], quad(norm.pdf, -12, -shift)[0]
    assert sign == pytest.approx(above - below, rel=1e-9)
    above, below = (
        quad(lambda x: x * norm.pdf(x), *ends)[0] for ends in ((-shift, 12), (-12, -shift))
    )
    assert along == pytest.approx(above - below, rel=1e-9)


def test_optimizers_are_named_once():
    assert derivations.OPTIMIZERS == ("sgd", "sign", "adam")
