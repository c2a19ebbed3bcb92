"""The first step of a matrix that reads features: limits, and the agreement of sampled neurons."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from helpers import assert_mean, assert_rejected, assert_same_expression

import derivations
from derivations import symbols as s

XI, RHO = derivations.mean_excess, derivations.feature_overlap_symbol
GAUSSIAN = {derivations.third_moment: 3 * RHO - 2 * RHO**2}  # of a normal feature with a mean


def test_overlaps_in_closed_form():
    assert derivations.first_feature_overlap("relu").expression == 1 / sp.pi
    assert derivations.first_feature_overlap("identity").expression == 0
    assert derivations.first_feature_overlap("tanh").expression == 0
    with pytest.raises(ValueError, match="quadrature"):
        derivations.first_feature_overlap("gelu")


@pytest.mark.parametrize("optimizer", derivations.OPTIMIZERS)
def test_embeddings_are_features_without_a_mean(optimizer):
    """At rho = 0, without random matrices below, it is the formula of the first hidden matrix."""
    plain = {
        derivations.chance_agreement: 0,
        derivations.common_agreement: 0,
        RHO: 0,
        XI: 0,
        derivations.feature_fourth_moment: 3,
        sp.Symbol("zeta", positive=True): s.embedding_std,
        derivations.own_agreement: sp.limit(
            derivations.own_share_agreement().expression.subs({XI: 0, **GAUSSIAN}), RHO, 0
        ),
    }
    ours = derivations.feature_update_second_moment(optimizer).expression.subs(plain)
    theirs = derivations.update_second_moment("hidden", optimizer).expression
    assert_same_expression(ours, theirs)


def test_linear_layers_are_those_of_the_mean_field():
    """chi grows by one a layer, as the mean field's l - 1 does."""
    chance = derivations.feature_chance_agreement().expression
    linear = chance.subs(derivations.feature_slope_share, 1)
    assert_same_expression(linear, derivations.chance_agreement + 1)


def test_the_mean_residual_decides():
    """None without one, (2/pi) rho asin(rho) by chance, all that the features have with a large."""
    agreement = derivations.common_mean_agreement().expression
    assert agreement.subs(XI, -1) == 0
    assert_same_expression(agreement.subs(XI, 0), 2 * RHO * sp.asin(RHO) / sp.pi)
    assert sp.simplify(sp.limit(agreement.subs(RHO, sp.Rational(1, 3)), XI, sp.oo)) == (
        sp.Rational(1, 3)
    )
    excess = derivations.residual_excess().expression
    by_chance = sp.sqrt(s.frequency_square_sum)
    assert sp.simplify(excess.subs(derivations.mean_residual, by_chance)) == 0


def test_one_exponent_for_every_vocabulary():
    for vocabulary in (0, 1, 3):
        values = {s.vocab_exponent: vocabulary, s.zipf_exponent: 0}
        with_mean = derivations.feature_exponent("sign", common_mean=True)
        assert sp.sympify(with_mean).subs(values) == 1
        without = derivations.feature_exponent("sign").subs(values)
        assert without == derivations.exponent("hidden", "sign").subs(values)


@pytest.mark.parametrize("excess", [0.0, -1.0, 2.0])
def test_agreement_of_sampled_neurons(random, excess):
    """(sum_l z_il sign v_l)^2 over d of ReLU neurons on independent Gaussians.

    The token looked at has a large share of the gradient, so that its term is seen.
    """
    tokens, width, draws, share = 60, 24, 6000, 0.1
    z = np.maximum(random.standard_normal((draws, tokens, width)), 0)
    weights = np.sqrt(np.array([share, *[(1 - share) / (tokens - 1)] * (tokens - 1)]))
    delta = weights * random.standard_normal((draws, tokens))
    # A mean residual: what is common to all tokens is taken away, or added.
    if excess < 0:
        delta = delta - delta[:, 1:].mean(axis=1, keepdims=True) * (np.arange(tokens) > 0)
    elif excess:
        delta = delta + np.sqrt(excess) * random.standard_normal((draws, 1)) / tokens
    signs = np.sign(np.einsum("atl,at->al", z, delta))
    samples = np.einsum("al,al->a", z[:, 0], signs) ** 2 / (width / 2)
    values = {RHO: 1 / np.pi, XI: excess, derivations.third_moment: 4 / np.pi}
    common, own = (
        float(derived.expression.subs(values))
        for derived in (derivations.common_mean_agreement(), derivations.own_share_agreement())
    )
    predicted = 1 + (width - 1) * (common + own * share)
    if excess < 0:
        assert_mean(samples, predicted, bias=0.15)
        assert_rejected(samples, 1.5 * predicted)
    else:
        assert_mean(samples, predicted, bias=0.04)
        assert_rejected(samples, 1 + (width - 1) * common, bias=0.04)


def test_transform_of_gaussian_residuals():
    at = derivations.transform_argument
    transform = derivations.residual_transform("gaussian").expression
    assert_same_expression(transform, 1 / sp.sqrt(1 + 2 * at))
    for residuals in derivations.RESIDUAL_LAWS:
        square = derivations.residual_transform_slope(residuals).subs(at, 0)
        assert square == 1
