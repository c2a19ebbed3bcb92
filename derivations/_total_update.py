"""The projection's first update on embeddings that have moved in the same step."""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import self_term_ratio
from ._gaussian import arcsine_law, normal_expectation

_x = sp.Symbol("x", real=True)
target_size = sp.Symbol("y", nonnegative=True)
output_std = sp.Symbol("sigma_f", positive=True)
weighted_residual = sp.Symbol("r_p", positive=True)  # p_i E|r_ik|, or its average over tokens
residual_sign_slope = sp.Symbol("D", positive=True)  # dE[sign r]/df = E[f sign r] / Var f
SOURCE = "docs/theory/first_step.md#total-update"


@cache
def mean_residual_size() -> Derivation:
    """E|f - y| of an initial output f of standard deviation sigma_f: a folded normal."""
    sign = sp.erf(target_size / (sp.sqrt(2) * output_std))  # of y - f, in the mean
    x = sp.Symbol("u", nonnegative=True)
    growth = sp.integrate(sign.subs(target_size, x), (x, 0, target_size))
    value = sp.simplify(output_std * normal_expectation(sp.Abs(_x)) + growth)
    left, latex = "E|r|", r"\mathbb{E}|r|"
    return Derivation(
        name="Mean size of a residual under squared error",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=("one output, squared error", "the initial output is Gaussian"),
        steps=(
            Step("The sign of y - f has the mean", "E[sign(y - f)]", r"\mathbb{E}", sign),
            Step(
                "which is the slope of E|f - y| in y; at y = 0 it is E|f|. Integrate.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def residual_sign_response() -> Derivation:
    """D = dE[sign r]/df, twice the density of the residual at zero."""
    sign = sp.erf(target_size / (sp.sqrt(2) * output_std))
    value = sp.simplify(sp.diff(sign, target_size))
    return Derivation(
        name="Response of a residual's sign to its output",
        left="D",
        latex_left="D",
        expression=value,
        assumptions=mean_residual_size().assumptions,
        steps=(
            Step(
                "E[sign(f - y)] changes with the output as E[sign(y - f)] does with the target.",
                "D",
                "D",
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def cross_term_addition() -> Derivation:
    """What Delta W Delta e_i adds to the mean square of the projection's first update under sign.

    E[(Delta W Delta e_i)_k^2] + 2 E[(Delta W e_i)_k (Delta W Delta e_i)_k]. With a =
    (2/pi) asin(kappa / sqrt(n (1 + kappa^2))): the first is eta_W^2 eta_E^2 d [1 + (d - 1) a^2],
    the second is negative and of first order in eta_E.
    """
    d, kappa = s.width, s.self_term_ratio
    turned = kappa / sp.sqrt(1 + kappa**2)
    agreement = arcsine_law().expression.subs(s.alignment, turned / sp.sqrt(s.outputs))
    mean_size = normal_expectation(sp.Abs(_x))
    moved = s.projection_lr * s.embedding_lr * d * agreement
    square = (s.projection_lr * s.embedding_lr) ** 2 * d * (1 + (d - 1) * agreement**2)
    signal = s.projection_lr * s.embedding_std * d * mean_size
    signal *= weighted_residual / sp.sqrt(s.field_square_sum * (1 + kappa**2))
    output = s.projection_lr * mean_size * turned / s.projection_std
    output *= residual_sign_slope * d * s.embedding_std**2 * s.projection_std**2
    value = s.presence * square - 2 * moved * (signal + s.presence * output)
    left = "E[(Delta W e_i(1))_k^2] - E[(Delta W e_i(0))_k^2]"
    latex = r"\mathbb{E}[(\Delta W e_i(1))_k^2] - \mathbb{E}[(\Delta W e_i(0))_k^2]"
    return Derivation(
        name="What the cross term adds to the projection's first update under sign",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            *self_term_ratio().assumptions[:1],
            "width and vocabulary large at any ratio, d >> n",
            "|r_ik| equal for all outputs of a token, or kappa/sqrt(n) small",
        ),
        steps=(
            *arcsine_law().steps,
            Step(
                "The signs of the two gradients of a neuron, h_kl and sum_q r_iq W_ql, correlate "
                "through the self term: by kappa/sqrt(1 + kappa^2) times r_ik/|r_i|.",
                "a",
                "a",
                agreement,
            ),
            Step(
                "So Delta W Delta e_i is along the residual and has the mean square",
                "E[(Delta W Delta e_i)_k^2]",
                r"\mathbb{E}[(\Delta W\Delta e_i)_k^2]",
                square,
            ),
            Step(
                "The token's own signal, which the self term damps, is against the residual,",
                "signal",
                r"\text{signal}",
                signal,
            ),
            Step(
                "and so is, in the mean, what the output itself adds to the update, "
                "f_i E[x sign(h)] / sigma_W. x = w / sigma_W is the "
                "neuron's entry of the projection and D = E[f_i sign r_i] / Var f.",
                "output",
                r"\text{output}",
                output,
            ),
            Step(
                "Add twice the products. A token that the batch does not hold does not move.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )
