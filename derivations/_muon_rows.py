"""Muon on an embedding: how far each token's row is moved, by the rank of the gradient."""

from __future__ import annotations

from typing import Literal, get_args

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._law_first_step import Init, initial_std
from ._muon_symbols import (
    columns,
    concentration,
    count,
    half_rank,
    row_level,
    row_square_mean,
    row_weight_square,
    rows,
    shared_residual,
)

SOURCE = "docs/theory/muon_rows.md#muon-rows"

MuonConvention = Literal["plain", "original", "match-rms", "spectral"]
MUON_CONVENTIONS: tuple[MuonConvention, ...] = get_args(MuonConvention)


@cache
def muon_row_square() -> Derivation:
    """Squared length of row i of the orthogonalised gradient: h_i = w_i/(w_i + ell).

    The gradient's rows are sqrt(w_i) R_i, R_i independent Gaussian in r dimensions, and ell is
    fixed by sum_i h_i = r. It is 0, so that every h_i is 1, where at most r rows are not zero.
    """
    w, level = row_weight_square, row_level
    y = sp.Symbol("y", positive=True)  # R_i^T A^-1 R_i without token i
    own = sp.simplify(w * (y - w * y**2 / (1 + w * y)))  # Sherman-Morrison
    assert sp.simplify(own - w * y / (1 + w * y)) == 0
    value = sp.simplify(own.subs(y, 1 / level))
    return Derivation(
        name="squared length of a row of Muon's update",
        left="h_i",
        latex_left="h_i",
        expression=value,
        assumptions=(
            "row i of the gradient is sqrt(w_i) R_i, with independent Gaussian R_i of k dimensions"
            " (any common covariance)",
            "the update is exactly orthogonalised (no Newton-Schulz error, no shape factor)",
            "more than k rows are not zero; k is large (corrections of relative order 1/k)",
            "ell solves sum_j w_j/(w_j + ell) = k",
        ),
        steps=(
            Step(
                "The orthogonalised gradient U V^T has the rows of U. Their squared lengths are "
                "the leverage scores w_i R_i^T A^-1 R_i with A = sum_j w_j R_j R_j^T, which a "
                "linear map of all R_j leaves alone. Take token i out of A and call R_i^T A^-1 R_i "
                "then y; Sherman and Morrison put it back:",
                "h_i",
                "h_i",
                w * y / (1 + w * y),
            ),
            Step(
                "Without token i, A is independent of R_i, so that y is the trace of A^-1 up to a "
                "relative 1/sqrt(k), and the same for all tokens. Call it 1/ell. It is fixed by "
                "the sum of all h_i, which is the rank k exactly.",
                "h_i",
                "h_i",
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def muon_row_weight() -> Derivation:
    """The weight of the row of a token that a batch holds n times: w_i = n (1 + (n - 1) rho_r).

    rho_r is the share of the residual's square that is the token's own mean, the same at each of
    its occurrences: 1 where the target is a function of the token, 0 for residuals independent
    from occurrence to occurrence.
    """
    n, shared = count, shared_residual
    value = n * (1 + (n - 1) * shared)
    return Derivation(
        name="weight of a token's row in the gradient of a batch",
        left="w_i",
        latex_left="w_i",
        expression=value,
        assumptions=(
            "the residuals at two occurrences of a token have the correlation rho_r",
            "residuals of all tokens have one size, which is left out",
        ),
        steps=(
            Step(
                "The row is the sum of n residuals: n squares of one and n (n - 1) products of "
                "rho_r.",
                "w_i",
                "w_i",
                value,
            ),
        ),
        source="docs/theory/muon_rows.md#muon-rows-batch",
    )


@cache
def muon_half_rank() -> Derivation:
    """Rank of the token that Muon moves by half the largest squared length: r sinc(pi/(2 a)).

    Of weights w_i = i^(-2 a): the full batch of a Zipf law with exponent a > 1/2 (and a half of
    the exponent where residuals differ at every occurrence).
    """
    a, r = s.zipf_exponent, s.gradient_rank
    x = sp.Symbol("x", positive=True)
    for exponent in (1, 2):  # of int_0^oo dx/(1 + x^(2 a)) = (pi/2a)/sin(pi/2a)
        whole = sp.integrate(1 / (1 + x ** (2 * exponent)), (x, 0, sp.oo))
        angle = sp.pi / (2 * exponent)
        assert sp.simplify(whole - angle / sp.sin(angle)) == 0
    angle = sp.pi / (2 * a)
    value = r * sp.sin(angle) / angle
    return Derivation(
        name="rank of the token whose row keeps half of its square under Muon",
        left="i_half",
        latex_left=r"i_{1/2}",
        expression=value,
        assumptions=(
            *muon_row_square().assumptions,
            "weights i^(-2 alpha), alpha > 1/2",
            "many more tokens than i_half, so that the sum over ranks is an integral to infinity",
        ),
        steps=(
            *muon_row_square().steps,
            Step(
                "With w_i = i^(-2 alpha) and ell = i_half^(-2 alpha):",
                "h_i",
                "h_i",
                1 / (1 + (s.rank / half_rank) ** (2 * a)),
            ),
            Step(
                "The sum over ranks is i_half times the integral of 1/(1 + x^(2 alpha)), which is "
                "(pi/2 alpha)/sin(pi/2 alpha). It must be k.",
                "i_half",
                r"i_{1/2}",
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def muon_row_square_zipf() -> Derivation:
    """h_i = 1/(1 + (i/i_half)^(2 a)) for weights i^(-2 a), a > 1/2."""
    half = muon_half_rank()
    value = (1 / (1 + (s.rank / half_rank) ** (2 * s.zipf_exponent))).subs(
        half_rank, half.expression
    )
    return Derivation(
        name="squared length of a row of Muon's update under a Zipf law",
        left="h_i",
        latex_left="h_i",
        expression=value,
        assumptions=half.assumptions,
        steps=(*half.steps, Step("Put it in.", "h_i", "h_i", value)),
        source=SOURCE,
    )


@cache
def muon_row_rank_power() -> Derivation:
    """Local power of the rank in h_i: (1 - h_i) r/sum_j h_j (1 - h_j).

    Of the width, where the width is the rank. 2 alpha (1 - h_i) for a Zipf law with alpha > 1/2.
    """
    level, total = row_level, concentration
    h = muon_row_square().expression
    by_level = sp.simplify(sp.diff(sp.log(h), level) * level)  # d ln h/d ln ell
    kept = sp.Symbol("h_i", positive=True)
    assert sp.simplify(by_level + (1 - h)) == 0
    assert sp.simplify(sp.diff(h, level) * level + h * (1 - h)) == 0
    value = (1 - h) * s.gradient_rank / total
    return Derivation(
        name="local power of the gradient's rank in a row's squared length under Muon",
        left="d ln h_i/d ln k",
        latex_left=r"\frac{d\ln h_i}{d\ln k}",
        expression=value,
        assumptions=(*muon_row_square().assumptions, "N_1 is the sum of h_j (1 - h_j)"),
        steps=(
            *muon_row_square().steps,
            Step(
                "By the logarithm of ell:",
                "d ln h_i/d ln ell",
                r"\frac{d\ln h_i}{d\ln\ell}",
                -(1 - kept),
            ),
            Step(
                "The same of sum_j h_j = k gives how ell must move:",
                "d ln ell/d ln k",
                r"\frac{d\ln\ell}{d\ln k}",
                -s.gradient_rank / total,
            ),
            Step("The product.", "d ln h_i/d ln k", r"\frac{d\ln h_i}{d\ln k}", value),
        ),
        source="docs/theory/muon_rows.md#muon-rows-width",
    )


@cache
def muon_class_row_square() -> Derivation:
    """h_i = p_i^2/sum_(j in the class of i) p_j^2 for one-hot residuals of at most d classes.

    Exact: tokens of one class have parallel rows and share one direction of the gradient.
    """
    p, total = s.frequency, s.frequency_square_sum
    value = p**2 / total
    return Derivation(
        name="squared length of a row of Muon's update, tokens sharing few directions",
        left="h_i",
        latex_left="h_i",
        expression=value,
        assumptions=(
            "residuals of two tokens are equal where they are of one class",
            "the residuals of all classes are linearly independent behind the readout",
            "P_2 is here the sum of squared frequencies over the tokens of the class",
            "the update is exactly orthogonalised",
        ),
        steps=(
            Step(
                "The columns of the gradient span one vector for each class, p_i on its tokens and "
                "0 elsewhere. These are orthogonal, and h_i is the squared length of token i's "
                "unit vector projected on its own:",
                "h_i",
                "h_i",
                value,
            ),
        ),
        source="docs/theory/muon_rows.md#muon-rows-classes",
    )


@cache
def muon_embedding_rms(init: Init = "mup") -> Derivation:
    """RMS of the outputs' change by an embedding's first Muon step at LR 1: sigma_W sqrt(d h/r).

    h is the squared length of the token's row, or its mean over tokens by frequency, and r the
    smaller of width and outputs.
    """
    row, n, d, r = muon_row_square(), s.outputs, s.width, s.gradient_rank
    size = n * d * s.projection_std**2
    value = s.projection_std * sp.sqrt(d * row_square_mean / r)
    assert sp.simplify(value**2 - row_square_mean * size / (r * n)) == 0
    std = initial_std(init)[s.projection_std]
    at_start = sp.simplify(value.subs(s.projection_std, std))
    return Derivation(
        name="First step of the embedding under Muon: RMS over all outputs at LR = 1",
        left="RMS",
        latex_left=r"\mathrm{RMS}",
        expression=at_start,
        assumptions=(
            *row.assumptions,
            "independent Gaussian initial projection; k is the smaller of d and n",
            "n << d or n >> d, or tokens of equal frequency: else rows of frequent tokens lie "
            "along what the projection stretches most, and their squares are larger, by up to "
            "(n + d)/max(n, d)",
        ),
        steps=(
            *row.steps,
            Step(
                "The row lies in the k dimensions that the projection's rows span, all of which "
                "are stretched alike. The squared entries of the projection sum to",
                "|W|^2",
                "|W|^2",
                size,
            ),
            Step(
                "in these k dimensions, so that a row of squared length h moves all outputs "
                "together by h |W|^2/k, which n outputs share.",
                "RMS",
                r"\mathrm{RMS}",
                value,
            ),
            Step(f"sigma_W of the {init} start:", "RMS", r"\mathrm{RMS}", at_start),
        ),
        source="docs/theory/muon_rows.md#muon-rows-outputs",
    )


_SCALES: dict[MuonConvention, tuple[str, sp.Expr]] = {
    "plain": ("Muon without a factor", sp.Integer(1)),
    "original": (
        "the original Muon: sqrt(max(1, rows/columns)), rows being outputs",
        sp.sqrt(sp.Max(1, rows / columns)),
    ),
    "match-rms": (
        "Liu et al. 2025, arXiv 2502.16982: 0.2 sqrt(max(rows, columns))",
        sp.Rational(1, 5) * sp.sqrt(sp.Max(rows, columns)),
    ),
    "spectral": (
        "the spectral condition: sqrt(rows/columns), rows being outputs",
        sp.sqrt(rows / columns),
    ),
}


@cache
def muon_scale(convention: MuonConvention) -> Derivation:
    """The factor before the orthogonalised update: its spectral norm per unit of learning rate.

    - plain: 1.
    - original: sqrt(max(1, M/N)) for M outputs and N inputs.
    - match-rms: 0.2 sqrt(max(M, N)): entries of RMS 0.2 whatever the shape.
    - spectral: sqrt(M/N): inputs of RMS one move outputs by an RMS of at most one.
    """
    words, value = _SCALES[convention]
    return Derivation(
        name=f"factor of Muon's update, convention {convention}",
        left="s",
        latex_left="s",
        expression=value,
        assumptions=(
            "the update per unit of learning rate is s times a matrix whose singular values are 1",
        ),
        steps=(Step(f"By definition; {words}.", "s", "s", value),),
        source="docs/theory/muon_rows.md#muon-scales",
    )


@cache
def muon_entry_rms(convention: MuonConvention) -> Derivation:
    """RMS of the entries of a full-rank update per unit of learning rate: s/sqrt(max(M, N))."""
    scale = muon_scale(convention)
    value = sp.simplify(scale.expression / sp.sqrt(sp.Max(rows, columns)))
    return Derivation(
        name=f"RMS entry of Muon's update, convention {convention}",
        left="RMS",
        latex_left=r"\mathrm{RMS}",
        expression=value,
        assumptions=(*scale.assumptions, "the gradient has full rank min(M, N)"),
        steps=(
            *scale.steps,
            Step(
                "The sum of squares of all M N entries is s^2 min(M, N).",
                "RMS",
                r"\mathrm{RMS}",
                value,
            ),
        ),
        source="docs/theory/muon_rows.md#muon-scales",
    )


@cache
def muon_operator_rms(convention: MuonConvention) -> Derivation:
    """Largest RMS of the change of the outputs for inputs of RMS one: s sqrt(N/M).

    The common gauge of the conventions: two of them train alike if the learning rates times this
    are equal.
    """
    scale = muon_scale(convention)
    value = sp.simplify(scale.expression * sp.sqrt(columns / rows))
    return Derivation(
        name=f"largest change of the outputs under Muon, convention {convention}",
        left="RMS(O x)/RMS(x)",
        latex_left=r"\max\frac{\mathrm{RMS}(Ox)}{\mathrm{RMS}(x)}",
        expression=value,
        assumptions=scale.assumptions,
        steps=(
            *scale.steps,
            Step(
                "A vector of N entries has the length sqrt(N) times its RMS, one of M entries "
                "sqrt(M) times it.",
                "RMS(O x)/RMS(x)",
                r"\max\frac{\mathrm{RMS}(Ox)}{\mathrm{RMS}(x)}",
                value,
            ),
        ),
        source="docs/theory/muon_rows.md#muon-scales",
    )
