"""Nonlinear hidden layers in the mean field: gradients, shares and first steps by other routes."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from helpers import assert_same_expression

import derivations
from derivations import _mean_field_hidden as hidden
from derivations import _mean_field_nonlinear as nonlinear
from derivations import symbols as s


def test_gradient_of_a_matrix_is_a_sum_over_tokens(random):
    """The printed sum against a difference of the loss, through tanh; the rank."""
    m, d, small = 3, 7, 1e-6
    embedding, matrix = random.standard_normal((m, d)), random.standard_normal((d, d))
    readout, target = random.standard_normal(d), random.standard_normal(m)

    def loss(matrix):
        return 0.5 * np.sum((np.tanh(embedding @ matrix.T) @ readout - target) ** 2)

    field = embedding @ matrix.T
    weighted = np.tanh(field) @ readout - target
    delta = weighted[:, None] * readout * (1 - np.tanh(field) ** 2)
    term = derivations.nonlinear_matrix_gradient().expression.function
    factors = [
        nonlinear.backpropagated[nonlinear.token, hidden.upper, hidden.step],
        nonlinear.features_below[nonlinear.token, hidden.lower, hidden.step],
    ]
    product = sp.lambdify(factors, term)
    gradient = np.sum([product(delta[i][:, None], embedding[i][None, :]) for i in range(m)], axis=0)
    assert np.linalg.matrix_rank(gradient) == m
    for place in ((0, 0), (2, 5), (6, 1)):
        change = np.zeros((d, d))
        change[place] = small
        slope = (loss(matrix + change) - loss(matrix - change)) / (2 * small)
        assert gradient[place] == pytest.approx(slope, rel=1e-6)


def test_shared_and_own_parts_make_the_whole():
    whole = derivations.shared_and_own_gradient()
    assert_same_expression(whole.expression, whole.steps[0].right)


@pytest.mark.parametrize(("activation", "share"), [("identity", 1), ("relu", sp.Rational(1, 2))])
def test_neurons_agree_by_the_common_share_of_their_slopes(random, activation, share):
    """Signs of first gradients in a network of the real kind, pair by pair of its neurons."""
    assert derivations.common_slope_share(activation).expression == share
    expected = derivations.agreement_of_neurons().expression.subs(nonlinear.common_slope, share)
    tokens, width, neurons = 1500, 300, 150
    embedding = random.standard_normal((tokens, width))
    field = embedding @ random.standard_normal((neurons, width)).T
    slopes = (field > 0) if activation == "relu" else np.ones_like(field)
    signs = np.sign((slopes * random.choice([-1, 1], tokens)[:, None]).T @ embedding)
    sums = signs.sum(axis=0)
    agreement = (np.mean(sums**2) - neurons) / (neurons * (neurons - 1))
    assert agreement == pytest.approx(float(expected), abs=0.04)


def test_first_step_without_slopes_is_that_of_linear_layers():
    linear = derivations.hidden_first_mean_field_update().expression.subs(hidden.hidden_level, 1)
    gated = derivations.gated_first_update().expression.subs(
        nonlinear.gradient_share, s.alignment_square
    )
    assert_same_expression(gated, linear)


def test_a_slope_without_closed_form_is_refused():
    with pytest.raises(ValueError, match="quadrature"):
        derivations.common_slope_share("tanh")
