"""Both limits of the mean-field equations: fixed vocabulary, and a fixed ratio of m to d."""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import self_term_ratio
from ._gaussian import gradient_std, input_std, kernel
from ._law_first_step import UNIFORM_LAW, Init, initial_std
from ._mean_field_first_step import SOURCE, mean_field_first_update
from ._token_laws import EQUAL_RESIDUALS

width_over_vocab = sp.Symbol("gamma", positive=True)
_UNIFORM_TOKENS = (
    EQUAL_RESIDUALS,
    "uniform tokens",
    "mean squared error, targets of unit variance independent of each other",
)


@cache
def fixed_vocabulary_limit(init: Init) -> Derivation:
    """Width to infinity at fixed vocabulary: RMS^2 / d^2 of the projection's first sign update.

    Every neuron sees the m Gaussians z_i, and u_i = sum_l w_l z_il becomes d E[w z_i], which by
    Stein's lemma is R_w b_i: no noise is left beside the response.
    """
    second = mean_field_first_update("projection", "sign")
    exact = _kernel_response()
    value = sp.limit(
        _uniform(second.expression, init).subs(s.projection_lr, 1) / s.width**2, s.width, sp.oo
    )
    left, latex = (
        "lim E[(Delta W e_i)^2] / (d eta_W)^2",
        (r"\lim_{d\to\infty}\mathbb{E}[(\Delta W\,e_i)^2]/(d\,\eta_W)^2"),
    )
    return Derivation(
        name=f"Width to infinity at fixed vocabulary ({init} initialisation)",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*second.assumptions, *_UNIFORM_TOKENS),
        steps=(
            Step(
                "At fixed m the sum over neurons is d times its mean, in which h = sum_i b_i z_i: "
                "the kernel gives d E[z_i w(1)] with c = p_i r_i / sqrt(S). It is R_w(1, 0) b_i, "
                "as Stein's lemma says.",
                "d E[z_i w(1)]",
                r"d\,\mathbb{E}[z_iw^1]",
                exact,
            ),
            *second.steps,
            Step(
                f"Uniform tokens; {init} initialisation: kappa goes to zero with the width, "
                "and so does the noise beside the response.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )


def _kernel_response() -> sp.Expr:
    """d E[z_i w^1] at fixed vocabulary without self term, from the kernel of z_i and h."""
    aligned = s.frequency * s.residual / sp.sqrt(s.field_square_sum)
    at = {input_std: s.embedding_std, gradient_std: 1, s.alignment: aligned}
    return -s.projection_lr * s.width * kernel("sign").mean.subs(at, simultaneous=True)


def _uniform(second: sp.Expr, init: Init) -> sp.Expr:
    """A second moment in d and m alone: uniform tokens, |r| equal, targets of unit variance."""
    std = initial_std(init)
    output_variance = (s.width * s.embedding_std**2 * s.projection_std**2).subs(std)
    field = (1 + output_variance) * UNIFORM_LAW[s.frequency_square_sum]
    kappa = self_term_ratio().expression.subs(
        {s.residual_slope: 1, s.field_square_sum: field}, simultaneous=True
    )
    return second.subs(
        {
            s.alignment_square: 1 / s.vocab_size,
            s.frequency: UNIFORM_LAW[s.frequency],
            s.self_term_ratio: kappa,
        },
        simultaneous=True,
    ).subs(std)


@cache
def proportional_limit(init: Init) -> Derivation:
    """Width and vocabulary to infinity at d/m = gamma: RMS^2 / d of the first sign update.

    muP: 1 + (2/pi) gamma, the data collapse; SP keeps its self term kappa^2 = 1/(2 gamma).
    """
    second = mean_field_first_update("projection", "sign")
    along = _uniform(second.expression, init).subs(
        {s.projection_lr: 1, s.vocab_size: s.width / width_over_vocab}
    )
    value = sp.simplify(sp.limit(sp.simplify(along / s.width), s.width, sp.oo))
    left, latex = (
        "lim E[(Delta W e_i)^2] / (d eta_W^2)",
        (r"\lim_{d\to\infty}\mathbb{E}[(\Delta W\,e_i)^2]/(d\,\eta_W^2)"),
    )
    return Derivation(
        name=f"Width and vocabulary to infinity in proportion ({init} initialisation)",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(*second.assumptions, *_UNIFORM_TOKENS),
        steps=(
            *second.steps,
            Step(
                f"Uniform tokens and {init} initialisation; put m = d/gamma and let d grow: noise "
                "and response stay of the same order.",
                left,
                latex,
                value,
            ),
        ),
        source=SOURCE,
    )
