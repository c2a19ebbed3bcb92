"""Gradient flow's derived equations against numpy: gradients, Gram equations, closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import derivations
from derivations import flow_symbols as x
from derivations import symbols as s
from dynsim import evaluate

M, N, D = 5, 3, 4
RATES = {s.embedding_lr: 0.7, s.projection_lr: 0.2}


@pytest.fixture
def weights(random):
    p = random.dirichlet(np.ones(M))
    return (
        p,
        random.standard_normal((M, N)),
        random.standard_normal((M, D)),
        random.standard_normal((N, D)),
    )


def loss(p, y, e, w):
    return 0.5 * p @ np.sum((e @ w.T - y) ** 2, axis=1)


def numerical_gradient(function, at):
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-6
        gradient[index] = (function(at + step) - function(at - step)) / 2e-6
    return gradient


def test_weight_gradients_are_those_of_the_loss(weights):
    p, y, e, w = weights
    values = {x.weighted_residual: p[:, None] * (e @ w.T - y), x.embedding: e, x.projection: w}
    by_e = evaluate(derivations.weight_gradient("embedding"), values)
    by_w = evaluate(derivations.weight_gradient("projection"), values)
    np.testing.assert_allclose(by_e, numerical_gradient(lambda a: loss(p, y, a, w), e), atol=1e-8)
    np.testing.assert_allclose(by_w, numerical_gradient(lambda a: loss(p, y, e, a), w), atol=1e-8)


@pytest.mark.parametrize("name", derivations.FLOW_STATE)
def test_gram_flow_is_the_change_of_the_products(weights, random, name):
    p, y, e, w = weights
    first = random.standard_normal((N, D))

    def products(time):
        r = p[:, None] * (e @ w.T - y)
        a, b = e - time * RATES[s.embedding_lr] * r @ w, w - time * RATES[s.projection_lr] * r.T @ e
        return dict(
            zip(
                derivations.FLOW_STATE,
                (a @ b.T, a @ a.T, b @ b.T, a @ first.T, b @ first.T),
                strict=True,
            )
        )

    now = products(0.0)
    values = {getattr(x, key): value for key, value in now.items()} | RATES
    values[x.weighted_residual] = p[:, None] * (now["output"] - y)
    expected = (products(1e-5)[name] - products(-1e-5)[name]) / 2e-5
    np.testing.assert_allclose(evaluate(derivations.gram_flow(name), values), expected, atol=1e-8)


def test_only_the_states_of_the_flow_remain():
    for name in derivations.FLOW_STATE:
        expression = derivations.gram_flow(name).expression
        assert not expression.has(x.embedding, x.projection, x.initial_projection)


def mode(times, y, p, e, w):
    """w . e of one token and output, from its weights, by scipy."""
    a, b = (RATES[rate] for rate in (s.embedding_lr, s.projection_lr))

    def velocity(_, state):
        e, w = np.split(state, 2)
        return np.concatenate([a * p * (y - e @ w) * w, b * p * (y - e @ w) * e])

    path = solve_ivp(
        velocity, (0, times[-1]), np.concatenate([e, w]), "DOP853", times, rtol=1e-11, atol=1e-12
    ).y
    return np.sum(path[: len(e)] * path[len(e) :], axis=0)


@pytest.mark.parametrize("y", [1.5, -2.0])
def test_aligned_mode_is_the_flow_of_one_token(random, y):
    e, w = random.standard_normal((2, D))
    times, (a, b) = np.linspace(0, 20, 9), RATES.values()
    imbalance = np.sqrt((a * w @ w + b * e @ e) ** 2 / (4 * a * b) - (e @ w) ** 2)
    values = {x.target: y, x.initial_mode: e @ w, s.frequency: 0.3, x.imbalance: imbalance}
    found = evaluate(derivations.aligned_mode(), {**values, x.time: times, **RATES})
    np.testing.assert_allclose(found, mode(times, y, 0.3, e, w), atol=1e-9)


def test_balanced_mode_is_logistic_and_the_limit_of_the_aligned_one():
    times, (a, b) = np.linspace(0, 20, 9), RATES.values()
    direction = np.full(D, 0.1)
    e, w = math.sqrt(a) * direction, math.sqrt(b) * direction
    values = {x.target: 1.5, x.initial_mode: e @ w, s.frequency: 0.3, x.time: times, **RATES}
    found = np.asarray(evaluate(derivations.balanced_mode(), values))
    np.testing.assert_allclose(found, mode(times, 1.5, 0.3, e, w), atol=1e-9)
    near = evaluate(derivations.aligned_mode(), {**values, x.imbalance: 1e-6})
    np.testing.assert_allclose(near, found, atol=1e-6)
    far = evaluate(derivations.aligned_mode(), {**values, x.imbalance: 0.3})
    assert np.max(np.abs(far - found)) > 0.05


@pytest.mark.parametrize("ratio", [0.3, 1.0, 4.0])
def test_marchenko_pastur_moments_are_those_of_the_density(ratio):
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    density = derivations.marchenko_pastur_density().expression.subs(x.aspect_ratio, ratio)

    def weight(angle):  # lambda = centre + radius sin(angle): no edge singularity
        value = (low + high) / 2 + (high - low) / 2 * math.sin(angle)
        return value, float(density.subs(x.eigenvalue, value)) * (high - low) / 2 * math.cos(angle)

    for order in range(4):

        def integrand(angle, order=order):
            value, share = weight(angle)
            return share * value**order

        found, _ = quad(integrand, -math.pi / 2 + 1e-9, math.pi / 2 - 1e-9, epsabs=1e-8, limit=40)
        expected = min(1.0, ratio)
        if order:
            expected = evaluate(derivations.marchenko_pastur_moment(order), {x.aspect_ratio: ratio})
        assert found == pytest.approx(float(expected), rel=1e-5)


def test_marchenko_pastur_moments_are_narayana_polynomials_and_those_of_wishart(random):
    ratio, width = 2.0, 400
    z = random.standard_normal((int(ratio * width), width))
    values = np.linalg.eigvalsh(z.T @ z / width)
    for order in (1, 2, 3, 5):
        found = float(evaluate(derivations.marchenko_pastur_moment(order), {x.aspect_ratio: ratio}))
        narayana = sum(
            math.comb(order, k) * math.comb(order, k - 1) / order * ratio**k
            for k in range(1, order + 1)
        )
        assert found == pytest.approx(narayana)
        assert found == pytest.approx(np.mean(values**order), rel=0.03)


def test_smoothed_sign_lies_between_its_limits():
    g = np.asarray([-2.0, -1e-3, 0.0, 1e-3, 2.0])
    values = {x.gradient: g, x.smoothing: 1e-9}
    np.testing.assert_allclose(evaluate(derivations.smoothed_sign(), values), np.sign(g))
    values[x.smoothing] = 1e6
    np.testing.assert_allclose(evaluate(derivations.smoothed_sign(), values), g / 1e6, rtol=1e-9)
