"""Muon on a head, on the embedding below it or on both tied: what a step does to the logits."""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._head_step import HeadLayer
from ._muon_symbols import (
    free_dimensions,
    free_pair_dimensions,
    other_level,
    row_level,
    singular_square,
    singular_value,
)

SOURCE = "docs/theory/first_step.md#head-muon"
ASSUMPTIONS = (
    "independent Gaussian entries of unit variance in Z, which has d columns",
    "the residuals do not depend on the weights (small initial logits)",
    "an exactly orthogonalised gradient (no Newton-Schulz error, no shape factor)",
    "d is large (corrections of relative order 1/d)",
)


@cache
def muon_resolvent() -> Derivation:
    """Mean of Z (t + Z^T M Z)^-1 Z^T in the directions of M: 1/(lambda_a + ell) at t = ell F.

    M has the eigenvalues lambda_a, Z independent standard normals and d columns, and F is
    d - sum_a lambda_a/(lambda_a + ell).
    """
    square, level = singular_square, row_level
    y = sp.Symbol("y", positive=True)  # z_a^T K^-1 z_a without direction a
    own = sp.simplify(y - square * y**2 / (1 + square * y))  # Sherman-Morrison
    assert sp.simplify(own - y / (1 + square * y)) == 0
    value = sp.simplify(own.subs(y, 1 / level))
    return Derivation(
        name="resolvent of Muon's gradient in one singular direction",
        left="E[Q_aa(t)]",
        latex_left=r"E[Q_{aa}(t)]",
        expression=value,
        assumptions=ASSUMPTIONS,
        steps=(
            Step(
                "Q(t) = Z (t + Z^T M Z)^-1 Z^T. In the directions of M its entry aa is "
                "z_a^T K^-1 z_a with K = t + sum_b lambda_b z_b z_b^T. Take a out of K and call "
                "the same y; Sherman and Morrison put it back:",
                "Q_aa",
                "Q_{aa}",
                own,
            ),
            Step(
                "Without a, K is independent of z_a, so that y is the trace of K^-1 up to a "
                "relative 1/sqrt(d), and the same for all a. Call it 1/ell. The trace of K K^-1 "
                "is d = t/ell + sum_a lambda_a Q_aa, which fixes t = ell F.",
                "E[Q_aa(t)]",
                r"E[Q_{aa}(t)]",
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def muon_filter_density() -> Derivation:
    """How much of each level is in the mean of Q: f_a = int dl w(l)/(lambda_a + l).

    From ell_0 on, at which t = 0.
    """
    level = row_level
    t, x = sp.symbols("t x", positive=True)
    root = sp.integrate(1 / (sp.sqrt(t) * (x + t)), (t, 0, sp.oo)) / sp.pi
    assert sp.simplify(root - 1 / sp.sqrt(x)) == 0
    some = sp.symbols("lambda_1:4", positive=True)  # of any number of them
    free = s.width - sum(one / (one + level) for one in some)
    free_pair = s.width - sum(one**2 / (one + level) ** 2 for one in some)
    assert sp.simplify(sp.diff(level * free, level) - free_pair) == 0
    value = free_pair_dimensions / (sp.pi * sp.sqrt(level * free_dimensions))
    return Derivation(
        name="weight of a level in Muon's filter of singular values",
        left="w(ell)",
        latex_left=r"w(\ell)",
        expression=value,
        assumptions=(*ASSUMPTIONS, "ell from ell_0 on, where t = 0: F = 0, or ell = 0"),
        steps=(
            *muon_resolvent().steps,
            Step(
                "An inverse root is an integral of resolvents.",
                "x^(-1/2)",
                "x^{-1/2}",
                sp.Integral(1 / (sp.sqrt(t) * (x + t)), (t, 0, sp.oo)) / sp.pi,
            ),
            Step(
                "So Q = Z (Z^T M Z)^(-1/2) Z^T is (1/pi) times the integral of Q(t)/sqrt(t). Take "
                "ell in place of t: with F_2 = d - sum_a lambda_a^2/(lambda_a + ell)^2,",
                "dt/d ell",
                r"\mathrm dt/\mathrm d\ell",
                free_pair_dimensions,
            ),
            Step("and sqrt(t) = sqrt(ell F).", "w(ell)", r"w(\ell)", value),
        ),
        source=SOURCE,
    )


@cache
def muon_level_covariance() -> Derivation:
    """Covariance of Q_ab at two levels, over the resolvents of a and b at both.

    E[Q_ab(t) Q_ab(t_2)] for a != b is this over (lambda_a + ell) (lambda_a + ell_2)
    (lambda_b + ell) (lambda_b + ell_2). Q is independent of the signs of its directions, so that
    entries ab have the mean 0 and only equal ones are correlated.
    """
    level, other = row_level, other_level
    some = sp.symbols("lambda_1:4", positive=True)
    free_pair = s.width - sum(one**2 / ((one + level) * (one + other)) for one in some)
    times = [one * (s.width - sum(x / (x + one) for x in some)) for one in (level, other)]
    trace = (1 / level - 1 / other) / (times[1] - times[0])
    assert sp.simplify(trace * level * other * free_pair) == 1
    value = level * other / free_pair_dimensions
    return Derivation(
        name="covariance of Muon's resolvents between two singular directions",
        left="c(ell, ell_2)",
        latex_left=r"c(\ell,\ell_2)",
        expression=value,
        assumptions=ASSUMPTIONS,
        steps=(
            Step(
                "Take a and b out of K: Q_ab = z_a^T K^-1 z_b times ell/(lambda_a + ell) times "
                "ell/(lambda_b + ell). For independent z_a and z_b the mean of the product at two "
                "levels is the trace of K^-1 K_2^-1, a difference quotient of the trace 1/ell:",
                "tr K^-1 K_2^-1",
                r"\operatorname{tr}K^{-1}K_2^{-1}",
                1 / (level * other * free_pair_dimensions),
            ),
            Step(
                "Put in the factors of both levels, and leave out 1/(lambda + ell) of a and b at "
                "each; F_2 = d - sum_a lambda_a^2/((lambda_a + ell)(lambda_a + ell_2)).",
                "c(ell, ell_2)",
                r"c(\ell,\ell_2)",
                value,
            ),
        ),
        source=SOURCE,
    )


WHAT = {
    "head": "the head",
    "embedding": "the embedding below a head",
    "tied": "one matrix that is embedding and head",
}
GRADIENT = {
    "head": (
        "V_ik = p_i r_ik, so that the head's gradient is V^T E. Orthogonalised it is "
        "V^T E (E^T M E)^(-1/2) with M = V V^T, and the logits change by -(Q V)_ik with Z = E in "
        "Q = Z (Z^T M Z)^(-1/2) Z^T."
    ),
    "embedding": (
        "V_ik = p_i r_ik, so that the embedding's gradient is V W. Orthogonalised it is "
        "V W (W^T M W)^(-1/2) with M = V^T V, and the logits change by -(V Q)_ik with Z = W in "
        "Q = Z (Z^T M Z)^(-1/2) Z^T."
    ),
    "tied": (
        "V_ik = p_i r_ik + p_k r_ki, which is symmetric, so that the gradient is V E. "
        "Orthogonalised it is V E (E^T M E)^(-1/2) with M = V^2, and the logits change by "
        "-(V Q + Q V)_ik, on average twice as much, with Z = E in Q = Z (Z^T M Z)^(-1/2) Z^T."
    ),
}


@cache
def muon_filter(layer: HeadLayer) -> Derivation:
    """What a Muon step does to logits: each singular value s of V is replaced by -h(s).

    h(s) = int_{ell_0} s w(ell)/(s^2 + ell) d ell, times the standard deviation of the entries that
    the step is multiplied by.
    """
    value, level, start = singular_value, row_level, sp.Symbol("ell_0", nonnegative=True)
    of_level = {
        one: sp.Function(one.name)(level) for one in (free_dimensions, free_pair_dimensions)
    }
    once = value * muon_filter_density().expression.subs(of_level) / (value**2 + level)
    twice = 2 if layer == "tied" else 1
    change = twice * sp.Integral(once, (level, start, sp.oo))
    return Derivation(
        name=f"First Muon step of {WHAT[layer]}: mean change of the logits at LR = 1",
        left="h(s)",
        latex_left="h(s)",
        expression=change,
        assumptions=(
            *ASSUMPTIONS,
            "in units of the standard deviation of the entries that the step is multiplied by",
        ),
        steps=(
            Step(GRADIENT[layer], "eigenvalues of M", r"\text{eigenvalues of }M", value**2),
            *muon_filter_density().steps,
            Step(
                "Q is on average diagonal in the directions of M, with int w(ell)/(lambda_a + ell) "
                "d ell. So the mean keeps the singular directions of V and replaces each value s "
                "by -h(s). The integral starts at the level of t = 0. Far below its root h is "
                "proportional to s; far above, h levels off at sqrt(d).",
                "h(s)",
                "h(s)",
                change,
            ),
        ),
        source=SOURCE,
    )
