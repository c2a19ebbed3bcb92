"""From the muP regime to the large-vocabulary (LV) regime: exponents and boundaries.

Everything follows from one bracket, RMS^2 = (prefactor) d (1 + rho), where rho compares the
coherent part of the update with its noise: rho >> 1 is the muP regime, rho << 1 the LV regime.
"""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import Layer, update_second_moment
from ._gaussian import Optimizer
from ._law_first_step import (
    UNIFORM_LAW,
    Init,
    first_step,
    in_alignment_square,
    zipf_law,
)
from ._token_laws import (
    EQUAL_RESIDUALS,
    alignment,
    leading_order,
    power_sum_order,
    zipf_orders,
)


@cache
def local_exponent(rms: sp.Expr) -> sp.Expr:
    """d ln RMS / d ln d at fixed vocabulary, token law and batch, by differentiation."""
    return sp.simplify(s.width * sp.diff(sp.log(rms), s.width))


@cache
def exponent(
    layer: Layer,
    optimizer: Optimizer,
    *,
    of_one_token: bool = False,
    mini_batch: bool = False,
    init: Init = "mup",
) -> sp.Expr:
    """Exponent of d in the first-step RMS along m = d^mu, i = d^iota, B = d^beta, Zipf(alpha).

    Uniform tokens (alpha = 0) under sign give max(1 - mu/2, 1/2) for projection and hidden.
    Logarithms (at alpha = 1, 1/2 and 1/3) count as order zero.
    """
    _, rms = first_step(
        layer, optimizer, of_one_token=of_one_token, mini_batch=mini_batch, init=init
    )
    orders = dict(zipf_orders())
    orders[s.presence] = presence_order(of_one_token=of_one_token)
    return leading_order(rms.expression**2, orders) / 2


@cache
def presence_order(*, of_one_token: bool = False) -> sp.Expr:
    """Exponent of d in q, the chance that a batch of B = d^beta tokens holds a token.

    min(0, beta + order(p_i)) for one token; of the average over tokens by frequency without one.
    """
    alpha, mu, beta = s.zipf_exponent, s.vocab_exponent, s.batch_exponent
    if of_one_token:
        return sp.Min(0, beta + zipf_orders()[s.frequency])
    # sum_i p_i min(1, B p_i): for alpha <= 1/2 the mass lies with tokens of frequency 1/m, for
    # alpha >= 1 with the head; between, with the tokens up to the rank where B p_i = 1 (or, when
    # there is none, in B P_2).
    up_to_rank = (1 - alpha) / alpha * (beta - mu)
    linear = beta + zipf_orders()[s.frequency_square_sum]
    return sp.Piecewise(
        (sp.Min(0, beta - mu), alpha <= sp.Rational(1, 2)),
        (sp.Min(0, linear, up_to_rank), alpha < 1),
        (0, True),
    )


@cache
def coherence_ratio() -> Derivation:
    """rho = (2/pi) (d - 1) / m for uniform tokens under sign: coherent over incoherent power."""
    second = update_second_moment("projection", "sign")
    token_average = alignment(of_one_token=False, mini_batch=False)
    square = in_alignment_square(second.expression, token_average.alignment_square)
    prefactor = square.subs(s.frequency_cube_sum, 0)
    ratio = sp.simplify(square / prefactor - 1).subs(UNIFORM_LAW)
    ratio = sp.factor(ratio)
    return Derivation(
        name="Coherence ratio",
        left="rho",
        latex_left=r"\rho",
        expression=ratio,
        assumptions=(*second.assumptions, EQUAL_RESIDUALS, "uniform token law"),
        steps=(
            *second.steps,
            *token_average.steps,
            Step(
                "Uniform tokens have P_2 = 1/m and P_3 = 1/m^2; divide the coherent part of the "
                "bracket by the incoherent one.",
                "rho",
                r"\rho",
                ratio,
            ),
        ),
        source="docs/theory/regimes.md#interpolation",
    )


@cache
def average_coherence_ratio(optimizer: Optimizer = "sign", *, mini_batch: bool = False) -> sp.Expr:
    """rho of the projection's first update for any token law: coherent over incoherent power.

    RMS^2 has d incoherent terms and d (d - 1) products of two neurons, and at d = 1 the first
    alone; so rho = RMS^2(d) / (d RMS^2(1)) - 1. Under sign (2/pi) (d - 1) P_3/P_2.
    """
    return _coherent_over_incoherent(optimizer, of_one_token=False, mini_batch=mini_batch)


@cache
def token_coherence_ratio(*, mini_batch: bool = False) -> sp.Expr:
    """rho_i of one token under sign: coherent over incoherent power of what moves its output."""
    return _coherent_over_incoherent("sign", of_one_token=True, mini_batch=mini_batch)


@cache
def crossover_frequency(*, mini_batch: bool = False) -> sp.Expr:
    """Frequency of the tokens whose own rho_i is 1 under sign: more frequent ones are in muP.

    In full batch rho_i = (2/pi) (d - 1) p_i^2/P_2; in a mini-batch p_i^2 is the mean square of the
    token's share of the batch, and the positive root is that of a quadratic equation.
    """
    ratio = token_coherence_ratio(mini_batch=mini_batch)
    numerator, _ = sp.fraction(sp.together(ratio - 1))
    polynomial = sp.Poly(numerator, s.frequency)
    square, linear, constant = (polynomial.coeff_monomial(s.frequency**k) for k in (2, 1, 0))
    # The constant term is negative and the others are not, so that one root is positive. In this
    # form it is also that of a linear equation, which is that of batches of one token.
    return -2 * constant / (linear + sp.sqrt(linear**2 - 4 * square * constant))


def _coherent_over_incoherent(
    optimizer: Optimizer, *, of_one_token: bool, mini_batch: bool
) -> sp.Expr:
    _, rms = first_step("projection", optimizer, of_one_token=of_one_token, mini_batch=mini_batch)
    square = rms.expression**2
    return sp.factor(sp.simplify(square / (s.width * square.subs(s.width, 1)) - 1))


@cache
def crossover_vocab_size() -> Derivation:
    """m at which rho = 1: the boundary between the muP and the LV regime, (2/pi) (d - 1)."""
    ratio = coherence_ratio()
    (solution,) = sp.solve(sp.Eq(ratio.expression, 1), s.vocab_size)
    return Derivation(
        name="Crossover vocabulary size",
        left="m*",
        latex_left="m_*",
        expression=solution,
        assumptions=ratio.assumptions,
        steps=(*ratio.steps, Step("Solve rho = 1 for m.", "m*", "m_*", solution)),
        source="docs/theory/regimes.md#interpolation",
    )


@cache
def crossover_rank() -> Derivation:
    """Rank at which a Zipf token's own rho_i = (2/pi) (d - 1) c_i^2 is 1.

    i* = [(2/pi) (d - 1) / H_{2 alpha}(m)]^(1/(2 alpha)) ~ d^(1/(2 alpha)) for alpha > 1/2: the
    tokens up to i* are in the muP regime, the rarer ones in the LV regime.
    """
    of_token = alignment(of_one_token=True, mini_batch=False)
    c_square = sp.simplify(of_token.alignment_square.subs(zipf_law(of_one_token=True)))
    ratio = sp.Rational(2) / sp.pi * (s.width - 1) * c_square
    # c_i^2 falls as i^(-2 alpha): rho_i = rho_1 i^(-2 alpha) = 1.
    at_one = ratio.subs(s.rank, 1)
    assert sp.simplify(ratio / at_one - s.rank ** (-2 * s.zipf_exponent)) == 0
    solution = at_one ** (1 / (2 * s.zipf_exponent))
    return Derivation(
        name="Crossover rank of a Zipf law",
        left="i*",
        latex_left="i_*",
        expression=solution,
        assumptions=(EQUAL_RESIDUALS, "Zipf token law", "sign or Adam's first step, full batch"),
        steps=(
            *of_token.steps,
            Step("With p_i = i^-alpha / H_alpha(m):", "c_i^2", "c_i^2", c_square),
            Step("Solve (2/pi) (d - 1) c_i^2 = 1 for the rank.", "i*", "i_*", solution),
        ),
        source="docs/theory/regimes.md#zipf-tokens",
    )


@cache
def critical_vocab_exponent() -> Derivation:
    """mu*(alpha): the vocabulary exponent beyond which the frequency-weighted update is LV.

    d sum_i p_i c_i^2 has the order 1 - mu chi(alpha) with chi = e(alpha) + e(2 alpha) - e(3 alpha),
    e(s) = max(0, 1 - s); so mu* = 1/chi: 1 for alpha <= 1/3, 1/(2 - 3 alpha) up to 1/2,
    1/(1 - alpha) up to 1 and infinite beyond (the head keeps the average in the muP regime).
    """
    orders = zipf_orders()
    decay = orders[s.frequency_square_sum] - orders[s.frequency_cube_sum]
    per_mu = sp.simplify(decay / s.vocab_exponent)
    critical = 1 / per_mu
    return Derivation(
        name="Critical vocabulary exponent of a Zipf law",
        left="mu*",
        latex_left=r"\mu_*",
        expression=critical,
        assumptions=(EQUAL_RESIDUALS, "Zipf token law", "m = d^mu", "up to logarithms"),
        steps=(
            Step(
                "A power sum of exponent s up to m has this order in m.",
                "order of H_s(m)",
                r"\operatorname{order}H_s(m)",
                power_sum_order(sp.Symbol("s", positive=True)),
            ),
            Step(
                "so P_3 / P_2 = sum_i p_i c_i^2 falls with m with this exponent (times mu in d).",
                "chi",
                r"\chi",
                per_mu,
            ),
            Step("The average is in the LV regime once mu chi > 1.", "mu*", r"\mu_*", critical),
        ),
        source="docs/theory/regimes.md#zipf-tokens",
    )
