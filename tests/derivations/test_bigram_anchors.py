"""One-hot tokens: closed forms against descent step by step, sums and integrals in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
from scipy.special import exp1

import derivations
from derivations import symbols as s


def value(derived, **values):
    return float(derived.expression.subs({getattr(s, name): x for name, x in values.items()}))


@pytest.mark.parametrize("step_size", [0.07, 0.31, 0.9, 2.5])
def test_sign_descent_step_by_step(step_size):
    """Exact arithmetic: the closed form is the recursion, in both phases of the oscillation."""
    eta = sp.Rational(str(step_size))
    residual = start = sp.Rational(1)
    for steps in range(40):
        of = derivations.sign_descent_residual().expression
        found = of.subs({s.step_size: eta, s.initial_residual: start, s.steps: steps})
        assert found == abs(residual)
        residual -= eta * sp.sign(residual)


def test_gradient_descent_step_by_step():
    weight, target, p, eta = 0.0, 1.3, 0.2, 2.0
    for steps in range(20):
        share = value(derivations.one_hot_gradient_share(), frequency=p, step_size=eta, steps=steps)
        assert share == pytest.approx(p * ((weight - target) / target) ** 2)
        weight -= eta * p * (weight - target)


def test_the_flow_is_the_limit_of_small_steps():
    flow = value(derivations.one_hot_flow_share(), frequency=0.2, step_size=1.5, steps=3)
    errors = []
    for parts in (100, 200):
        small = value(
            derivations.one_hot_gradient_share(),
            frequency=0.2,
            step_size=1.5 / parts,
            steps=3 * parts,
        )
        errors.append(abs(small - flow))
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.01)  # first order in the step


@pytest.mark.parametrize("steps", [30, 3000])
def test_zipf_loss_is_the_sum_over_a_large_vocabulary(steps):
    m = 200_000
    rank = np.arange(1, m + 1)
    exact = np.sum((1 - 1 / rank) ** (2 * steps) / rank) / np.sum(1 / rank)
    assert value(derivations.zipf_gradient_loss(), vocab_size=m, steps=steps) == pytest.approx(
        exact, rel=0.01
    )


def test_zipf_exponent_is_the_slope_of_the_law():
    """d ln t/d ln m at a kept loss, by solving the law at neighbouring vocabularies."""
    from scipy.optimize import brentq

    epsilon, times = 0.2, []
    for m in (1e6, 1.01e6):
        aim = epsilon * (math.log(m) + np.euler_gamma)
        times.append(m / 2 * brentq(lambda x, aim=aim: exp1(x) - aim, 1e-6, 10))
    slope = math.log(times[1] / times[0]) / math.log(1.01)
    derived = value(
        derivations.zipf_gradient_exponent(), relative_loss=epsilon, steps=times[0], vocab_size=1e6
    )
    assert derived == pytest.approx(slope, abs=1e-3)
    limit = derivations.zipf_gradient_exponent().expression.subs(s.steps, 0)
    assert sp.simplify(limit - (1 - s.relative_loss)) == 0


def test_sign_loss_is_a_sum_of_arrived_and_moving_entries():
    """Uniform phases drawn for the entries that have arrived; m much larger than the steps."""
    m, steps, phi = 400_000, 200, 2.5
    rank = np.arange(1, m + 1)
    eta = 1 / (phi * steps)
    moving = np.maximum(0, 1 / rank - steps * eta)
    phase = np.random.default_rng(0).uniform(0, eta, m)
    exact = np.sum(np.where(rank <= phi, moving, phase) ** 2) / np.sum(1 / rank**2)
    derived = value(
        derivations.zipf_sign_loss(),
        vocab_size=m,
        steps=steps,
        arrival_rank=phi,
        moving_entries=math.floor(phi),
    )
    assert derived == pytest.approx(exact, rel=0.01)


def test_sign_steps_solve_the_loss_and_grow_with_the_root():
    given = {"arrival_rank": 2.5, "moving_entries": 2, "relative_loss": 0.3}
    few, many = (value(derivations.zipf_sign_steps(), vocab_size=m, **given) for m in (1e4, 4e4))
    assert many == pytest.approx(2 * few)
    loss = value(
        derivations.zipf_sign_loss(),
        vocab_size=1e4,
        steps=few,
        arrival_rank=2.5,
        moving_entries=2,
    )
    assert loss == pytest.approx(0.3)
