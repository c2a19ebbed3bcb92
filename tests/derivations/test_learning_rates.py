"""Learning-rate rules by sympy equality, and brute-force optima in numpy.

Source: docs/theory/learning_rates.md#greedy-ratio.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
from helpers import assert_same_expression
from numpy_networks import linear_first_step, zipf

import derivations
from derivations import symbols as s

d, m = s.width, s.vocab_size
MUP = derivations.initial_std("mup")
MUP_UNIFORM = {**derivations.UNIFORM_LAW, **MUP}


def test_maximal_update_ratio_is_that_of_the_theory():
    ratio = derivations.maximal_update_ratio().expression
    expected = sp.sqrt(sp.pi / 2) * sp.sqrt(d + 2 / sp.pi * d * (d - 1) / m)
    assert_same_expression(ratio.subs(MUP_UNIFORM), expected)
    p2, p3 = s.frequency_square_sum, s.frequency_cube_sum
    any_law = sp.sqrt(sp.pi / 2) * sp.sqrt(d + 2 / sp.pi * d * (d - 1) * p3 / p2)
    assert_same_expression(ratio.subs(MUP), any_law)


def test_maximal_update_ratio_in_its_limits():
    ratio = derivations.maximal_update_ratio().expression.subs(MUP_UNIFORM)
    assert sp.limit(ratio / (d / sp.sqrt(m)), d, sp.oo) == 1
    assert sp.limit(ratio, m, sp.oo) == sp.sqrt(sp.pi * d / 2)


def test_optimal_learning_rates_are_those_of_the_theory():
    rho = derivations.coherence_ratio().expression
    projection = derivations.optimal_learning_rate("projection").expression.subs(MUP_UNIFORM)
    assert_same_expression(projection, sp.sqrt(2 / sp.pi) / (sp.sqrt(m) * (1 + rho)))
    embedding = derivations.optimal_learning_rate("embedding").expression
    theory = sp.sqrt(sp.pi / 2) / (d * s.projection_std)
    assert sp.limit(sp.simplify(embedding / theory), d, sp.oo) == 1


def test_optimal_ratio_under_mup_and_uniform_tokens():
    ratio = derivations.optimal_ratio_mup_uniform().expression
    assert_same_expression(ratio, sp.pi / 2 * sp.sqrt(m) + (d - 1) / sp.sqrt(m))
    finite = derivations.optimal_ratio().expression.subs(MUP_UNIFORM)
    x = sp.Symbol("x", positive=True)
    assert sp.simplify(sp.limit((finite / ratio).subs(m, x * d), d, sp.oo)) == 1


def test_slopes_of_the_optimal_ratio():
    """1 at fixed m << d, 1/2 along m proportional to d, 0 for d << m at fixed m."""
    ratio = derivations.optimal_ratio_mup_uniform().expression
    x = sp.Symbol("x", positive=True)

    def slope(expression):
        return sp.simplify(d * sp.diff(sp.log(expression), d))

    assert sp.limit(slope(ratio), d, sp.oo) == 1
    along = sp.limit(slope(ratio.subs(m, x * d)), d, sp.oo)
    assert sp.simplify(along) == sp.Rational(1, 2)
    assert sp.limit(slope(ratio), m, sp.oo) == 0


def test_the_two_rules_agree_along_m_proportional_to_d():
    """Their ratio tends to a constant of d/m, so the exponent is the same; not beyond m = d.

    Source: docs/theory/learning_rates.md#which-ratio-when.
    """
    x = sp.Symbol("x", positive=True)
    maximal = derivations.maximal_update_ratio().expression.subs(MUP_UNIFORM)
    greedy = derivations.optimal_ratio_mup_uniform().expression
    constant = sp.limit((greedy / maximal).subs(m, x * d), d, sp.oo)
    assert constant.is_finite
    assert constant.subs(x, 1) > 0
    assert sp.limit((greedy / maximal).subs(m, d**2), d, sp.oo) == sp.oo  # but not beyond


def test_sp_loses_a_factor_root_width():
    for rule in (derivations.maximal_update_ratio(), derivations.optimal_ratio()):
        quotient = rule.expression.subs(MUP) / rule.expression.subs(derivations.initial_std("sp"))
        assert_same_expression(quotient, sp.sqrt(d))


def test_self_term_optimum_reduces_to_the_plain_one():
    """kappa -> 0, S = P_2; what is left is d against d - 1 in the coherent part."""
    general = derivations.optimal_projection_lr_with_self_term().expression
    at_zero = sp.limit(general, s.self_term_ratio, 0).subs(
        s.field_square_sum, s.frequency_square_sum
    )
    plain = derivations.optimal_learning_rate("projection").expression
    assert_same_expression(at_zero, plain.subs(d, d + 1))
    ratio = sp.simplify((at_zero / plain).subs(derivations.UNIFORM_LAW))
    assert sp.limit(ratio, d, sp.oo) == 1
    assert sp.limit(general / at_zero, s.self_term_ratio, sp.oo) == sp.oo  # it is a larger step


RATES = np.geomspace(1e-3, 30, 60)


def brute_force(change: np.ndarray, residual: np.ndarray, p: np.ndarray) -> float:
    """Rate of the lowest mean loss over seeds after a step: a scan, refined by a second scan."""

    def scan(rates):
        loss = [(0.5 * (residual + rate * change) ** 2 @ p).mean() for rate in rates]
        return int(np.argmin(loss))

    best = scan(RATES)
    assert 0 < best < len(RATES) - 1
    fine = np.linspace(RATES[best - 1], RATES[best + 1], 200)
    return float(fine[scan(fine)])


@pytest.mark.parametrize("law", [0.0, 0.8])
@pytest.mark.parametrize("layer", ["projection", "embedding"])
def test_one_step_optimum_by_brute_force(layer, law, random):
    """A zero-output network, |r| = 1: exact at finite d, for uniform and Zipf tokens."""
    width, vocab_size = 24, 40
    p = zipf(vocab_size, law)
    signs = random.choice([-1.0, 1.0], (2000, vocab_size, 1))
    updates = linear_first_step(
        random,
        width=width,
        targets=-signs,
        frequencies=p,
        seeds=2000,
        projection_std=1 / width,
    )
    change = getattr(updates, layer)[..., 0]
    values = {
        d: width,
        s.embedding_std: 1,
        s.projection_std: 1 / width,
        s.frequency_square_sum: (p**2).sum(),
        s.frequency_cube_sum: (p**3).sum(),
    }
    derived = float(derivations.optimal_learning_rate(layer).expression.subs(values))
    found = brute_force(change, signs[..., 0], p)
    assert found == pytest.approx(derived, rel=0.03)
    assert found != pytest.approx(1.1 * derived, rel=0.03)


@pytest.mark.parametrize("ratio", [1, 4])
def test_optimum_with_self_term_by_brute_force(ratio, random):
    """SP networks with their own initial output, targets +-1: S = 2 P_2, J = 1."""
    width, seeds = 96, 300
    vocab_size = ratio * width
    p = zipf(vocab_size, 0)
    targets = random.choice([-1.0, 1.0], (seeds, vocab_size, 1))
    state = random.bit_generator.state
    options = {
        "width": width,
        "targets": targets,
        "frequencies": p,
        "seeds": seeds,
        "projection_std": width**-0.5,
        "centred": False,
    }
    change = linear_first_step(random, **options).projection[..., 0]
    random.bit_generator.state = state
    embedding = random.standard_normal((seeds, vocab_size, width))
    projection = width**-0.5 * random.standard_normal((seeds, 1, width))
    residual = (embedding @ projection.swapaxes(1, 2) - targets)[..., 0]
    kappa = math.sqrt(vocab_size / (2 * width))
    values = {
        d: width,
        s.embedding_std: 1,
        s.field_square_sum: 2 / vocab_size,
        s.frequency_square_sum: 1 / vocab_size,
        s.frequency_cube_sum: 1 / vocab_size**2,
        s.self_term_ratio: kappa,
    }
    general = derivations.optimal_projection_lr_with_self_term().expression
    found = brute_force(change, residual, p)
    assert found == pytest.approx(float(general.subs(values)), rel=0.04)
    plain = derivations.optimal_learning_rate("projection").expression
    assert found != pytest.approx(float(plain.subs(values)), rel=0.1)


def _output_noise_of_a_hidden_step(width, outputs, slope, seed):
    """RMS noise of the output over eta sqrt(d): first sign step of one hidden matrix at m = 4d.

    The readout starts at 1/d and the output is small, so the residuals are the targets. `slope` is
    that of the activation at the hidden neurons' inputs.
    """
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((4 * width, width))
    slopes = slope(embeddings @ random.standard_normal((width, width)) / math.sqrt(width))
    readout = random.standard_normal((outputs, width)) / width
    residuals = random.standard_normal((4 * width, outputs))
    update = -np.sign((residuals @ readout * slopes).T @ embeddings)
    change = (embeddings @ update.T * slopes) @ readout.T
    signal = np.sum(change * residuals) / np.sum(residuals**2)
    return math.sqrt(np.mean((change - signal * residuals) ** 2) / width)


@pytest.mark.parametrize("outputs", [1, 4])
def test_noise_that_neurons_share_does_not_average_out_in_the_readout(outputs):
    """Linear: sqrt(2/(pi n)); with ReLU or tanh less, but no less in wider networks.

    Source: docs/theory/learning_rates.md#which-ratio-when.
    """

    def noise(slope, width):
        return np.mean(
            [_output_noise_of_a_hidden_step(width, outputs, slope, seed) for seed in range(6)]
        )

    shared = math.sqrt(2 / (math.pi * outputs))
    assert noise(np.ones_like, 128) == pytest.approx(shared, rel=0.05)
    for slope in (lambda z: 1.0 * (z > 0), lambda z: 1 - np.tanh(z) ** 2):
        narrow, wide = noise(slope, 64), noise(slope, 256)
        assert wide < 0.6 * shared
        assert wide > 0.85 * narrow  # noise of independent neurons would halve
