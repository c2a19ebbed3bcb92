"""What a token law does to the alignment: c_i^2 for any frequencies, and its exponents.

A token of frequency p_i aligns with the gradient of a weight that reads all tokens by
c_i = p_i r_i / sqrt(sum_j p_j^2 r_j^2). With residuals of equal size the frequencies decide
alone, through P_2 = sum_j p_j^2 and P_3 = sum_j p_j^3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Step
from ._simplified import simplified

EQUAL_RESIDUALS = "|r| is equal for all tokens and outputs"
BATCH_AVERAGE = (
    "mini-batch counts are multinomial, and the ratio of squared counts is averaged as a ratio "
    "of averages (exact for uniform tokens; for Zipf tokens the averaged RMS comes out too large, "
    "by up to 8 % in batches of a few tokens, 4 % from 64 tokens on and 2.5 % from 256 on)"
)


@dataclass(frozen=True)
class Alignment:
    """Squared alignment and field strength of a token law at |r| = 1.

    `alignment_square`: c_i^2, or sum_i p_i c_i^2 without a rank. `field_square_sum`:
    S = sum_j p_j^2 of the batch. `presence`: probability q that the batch holds the token.
    """

    alignment_square: sp.Expr
    field_square_sum: sp.Expr
    presence: sp.Expr
    steps: tuple[Step, ...]
    assumptions: tuple[str, ...]


@cache
def multinomial_moment(order: int) -> sp.Expr:
    """E[p_hat^order] of one token's share p_hat = count / B of a batch, count ~ Bin(B, p_i).

    Order 1 to 3, from the derivatives of the generating function (1 - p + p e^t)^B at t = 0.
    """
    t = sp.Symbol("t")
    generating = (1 - s.frequency + s.frequency * sp.exp(t)) ** s.batch_size
    moment = sp.diff(generating, t, order).subs(t, 0) / s.batch_size**order
    return sp.expand(simplified(moment))


def summed_over_tokens(moment: sp.Expr, weight: int) -> sp.Expr:
    """sum_i p_i^weight (polynomial in p_i), with the power sums written P_2 and P_3."""
    power_sums = {1: sp.Integer(1), 2: s.frequency_square_sum, 3: s.frequency_cube_sum}
    polynomial = sp.Poly(moment * s.frequency**weight, s.frequency)
    return sp.Add(*(factor * power_sums[power] for (power,), factor in polynomial.terms()))


@cache
def alignment(*, of_one_token: bool, mini_batch: bool) -> Alignment:
    """The squared alignment coefficient under |r| = 1, for one token or averaged over tokens.

    Full batch: c_i^2 = p_i^2 / P_2 and sum_i p_i c_i^2 = P_3 / P_2. In a mini-batch of B tokens
    p is replaced by the batch's shares, whose moments are multinomial:
    E p_hat_i^2 = p_i^2 + p_i (1 - p_i) / B.
    """
    square = multinomial_moment(2) if mini_batch else s.frequency**2
    field = summed_over_tokens(square, 0)
    assumptions = (EQUAL_RESIDUALS, *((BATCH_AVERAGE,) if mini_batch else ()))
    steps: tuple[Step, ...] = ()
    if mini_batch:
        steps += (
            Step(
                "A batch of B tokens replaces p_i by its share of the batch, a binomial count "
                "over B.",
                "E[p_hat_i^2]",
                r"\mathbb{E}[\hat p_i^2]",
                square,
            ),
        )
    steps += (
        Step(
            "With |r| = 1 the gradient field of one neuron has this variance (in units of the "
            "input's).",
            "S",
            "S",
            field,
        ),
    )
    numerator = square if of_one_token else summed_over_tokens(square, 1)
    left, latex = ("c_i^2", "c_i^2") if of_one_token else ("sum_i p_i c_i^2", r"\sum_i p_ic_i^2")
    value = simplified(numerator / field)
    steps += (
        Step(
            "The alignment of a token is its own share of that field"
            + ("." if of_one_token else ", here averaged over tokens by their frequency."),
            left,
            latex,
            value,
        ),
    )
    presence = 1 - (1 - s.frequency) ** s.batch_size if mini_batch else sp.Integer(1)
    return Alignment(value, field, presence, steps, assumptions)


@cache
def batch_alignment() -> sp.Expr:
    """sum_i p_hat_i c_i^2 of a batch, weighted by the tokens' share of it.

    E[sum p_hat^3] / E[sum p_hat^2], the ratio of averages of multinomial sums; its inverse is the
    effective vocabulary that the tokens of the batch see, about B when the vocabulary is large.
    """
    return simplified(
        summed_over_tokens(multinomial_moment(3), 0) / summed_over_tokens(multinomial_moment(2), 0)
    )


@cache
def power_sum_order(exponent: sp.Expr) -> sp.Expr:
    """Exponent of m in sum_{i <= m} i^(-exponent), up to logarithms: max(0, 1 - exponent).

    The sum lies between the integral of x^(-exponent) from 1 to m and that integral plus one,
    so both grow alike.
    """
    x, power = sp.Symbol("x", positive=True), sp.Symbol("s", positive=True)
    primitive = x ** (1 - power) / (1 - power)
    assert sp.powsimp(sp.diff(primitive, x)) == x ** (-power)
    integral = primitive.subs(x, s.vocab_size) - primitive.subs(x, 1)
    # d log(integral) / d log m tends to 1 - s for s < 1 and to 0 for s > 1.
    slope = s.vocab_size * sp.diff(integral, s.vocab_size) / integral
    below = sp.limit(slope.subs(power, sp.Rational(1, 2)), s.vocab_size, sp.oo)
    above = sp.limit(slope.subs(power, 2), s.vocab_size, sp.oo)
    assert (below, above) == (sp.Rational(1, 2), 0)
    return sp.Max(0, 1 - exponent)


@cache
def zipf_orders() -> Mapping[sp.Symbol, sp.Expr]:
    """Exponents of d in the symbols of a Zipf law with m = d^mu, i = d^iota, B = d^beta.

    p_i = i^-alpha / H_alpha gives P_k = H_{k alpha} / H_alpha^k, each H a power sum. A uniform
    law is alpha = 0. The chance that a batch holds the token is min(1, B p_i); averaged over
    tokens the rare ones carry the mass for alpha < 1 and the frequent ones for alpha >= 1.
    """
    alpha, mu = s.zipf_exponent, s.vocab_exponent
    normalisation = power_sum_order(alpha)
    return {
        s.width: sp.Integer(1),
        s.vocab_size: mu,
        s.rank: s.rank_exponent,
        s.batch_size: s.batch_exponent,
        s.frequency: -alpha * s.rank_exponent - mu * normalisation,
        s.frequency_square_sum: mu * (power_sum_order(2 * alpha) - 2 * normalisation),
        s.frequency_cube_sum: mu * (power_sum_order(3 * alpha) - 3 * normalisation),
    }


def leading_order(expression: sp.Expr, orders: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr:
    """Exponent of d in a sum of positive powers, given the exponent of each symbol in it.

    A product adds exponents, a power multiplies them, a sum takes the largest (the terms that
    are subtracted in this theory are never of higher order than what they are subtracted from).
    Raises `KeyError` for a symbol without an order.
    """
    if expression.is_number:
        return sp.Integer(0)
    if expression.is_Symbol:
        return orders[expression]
    if expression.is_Add:
        return sp.Max(*(leading_order(term, orders) for term in expression.args))
    if expression.is_Mul:
        return sp.expand(sp.Add(*(leading_order(factor, orders) for factor in expression.args)))
    if expression.is_Pow and expression.exp.is_number:
        return expression.exp * leading_order(expression.base, orders)
    raise ValueError(f"no leading order for {expression}")
