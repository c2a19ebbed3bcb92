"""Marchenko-Pastur law of the initial embedding's Gram matrix, and its quadrature.

c = tokens / width is held fixed as both grow; lambda are the eigenvalues of Z^T Z / width, with
Z (tokens x width) of independent standard normals.
"""

from __future__ import annotations

import sympy as sp

from ._cache import cache
from ._derivation import Derivation, Step
from ._flow_symbols import aspect_ratio as c
from ._flow_symbols import eigenvalue

_z, _g, _tail = sp.symbols("z G T")
_EQUATION = _z * _g**2 - (_z + 1 - c) * _g + 1
_ASSUMPTION = "tokens and width are large at a fixed ratio c = tokens / width"
_SOURCE = "docs/theory/gradient_flow.md#flow-limits; Marchenko & Pastur 1967"


def _equation_step() -> Step:
    return Step(
        "The Stieltjes transform G(z) = E[1/(z - lambda)] is the root of this that falls off like "
        "1/z.",
        "0",
        "0",
        _EQUATION,
    )


@cache
def marchenko_pastur_density() -> Derivation:
    """Density of the positive eigenvalues; an atom 1 - c stands at 0 besides where c < 1."""
    discriminant = sp.discriminant(_EQUATION, _g)
    low, high = (1 - sp.sqrt(c)) ** 2, (1 + sp.sqrt(c)) ** 2
    assert sp.expand(discriminant - (_z - low) * (_z - high)) == 0
    density = sp.sqrt((high - eigenvalue) * (eigenvalue - low)) / (2 * sp.pi * eigenvalue)
    left, latex_left = "rho(lambda)", r"\rho(\lambda)"
    return Derivation(
        name="Marchenko-Pastur density",
        left=left,
        latex_left=latex_left,
        expression=density,
        assumptions=(
            _ASSUMPTION,
            "(1 - sqrt(c))^2 <= lambda <= (1 + sqrt(c))^2; zero elsewhere but for an atom 1 - c "
            "at 0 where c < 1",
        ),
        steps=(
            _equation_step(),
            Step(
                "Its two roots are complex between (1 - sqrt(c))^2 and (1 + sqrt(c))^2:",
                "discriminant in G",
                r"\mathrm{disc}_G",
                sp.factor(discriminant),
            ),
            Step("The density is -Im G / pi.", left, latex_left, density),
        ),
        source=_SOURCE,
    )


@cache
def marchenko_pastur_recurrence() -> Derivation:
    """(a_0, a, b): orthogonal polynomials x q_k = q_(k+1) + a_k q_k + b q_(k-1) of the law.

    a_0 = c, a_k = a for k > 0, and b for every k. The eigenvalues of the tridiagonal matrix with
    diagonal a_k and off-diagonal sqrt(b) are the nodes of Gauss's rule, atom at 0 included.
    """
    first, later, square = c, 1 + c, c
    # The tail of the continued fraction repeats: T = b / (z - a - T), and G = 1 / (z - a_0 - T).
    tail = (_z - first) - 1 / _g  # T from G
    gap = sp.together(tail * (_z - later - tail) - square)
    numerator = sp.expand(sp.fraction(gap)[0])
    quotient, remainder = sp.div(sp.Poly(numerator, _g), sp.Poly(_EQUATION, _g))
    assert remainder.is_zero
    assert not quotient.is_zero
    expression = sp.Tuple(first, later, square)
    left, latex_left = "(a_0, a, b)", "(a_0, a, b)"
    return Derivation(
        name="Recurrence of the Marchenko-Pastur polynomials",
        left=left,
        latex_left=latex_left,
        expression=expression,
        assumptions=(_ASSUMPTION,),
        steps=(
            _equation_step(),
            Step(
                "A Stieltjes transform is a continued fraction of the recurrence: G = "
                "1/(z - a_0 - T) with T = b/(z - a - T) where the coefficients repeat. Solve the "
                "first for T,",
                "T",
                "T",
                tail,
            ),
            Step(
                "and the second is the equation of G when",
                left,
                latex_left,
                expression,
            ),
        ),
        source=f"{_SOURCE}; Golub & Welsch 1969 for the rule",
    )


@cache
def marchenko_pastur_moment(order: int) -> Derivation:
    """E[lambda^order] = sum_k N(order, k) c^k with Narayana numbers, from the equation of G."""
    moments = sp.symbols(f"mu_1:{order + 1}")
    series = 1 / _z + sum(moment / _z ** (k + 1) for k, moment in enumerate(moments, 1))
    expanded = sp.expand(_EQUATION.subs(_g, series))
    known: dict[sp.Symbol, sp.Expr] = {}
    for k, moment in enumerate(moments, 1):
        coefficient = expanded.coeff(_z, -k).subs(known)
        known[moment] = sp.factor(sp.solve(coefficient, moment)[0])
    expression = sp.expand(known[moments[-1]])
    left, latex_left = f"E[lambda^{order}]", rf"\mathbb{{E}}[\lambda^{{{order}}}]"
    return Derivation(
        name=f"Moment {order} of the Marchenko-Pastur law",
        left=left,
        latex_left=latex_left,
        expression=expression,
        assumptions=(_ASSUMPTION,),
        steps=(
            _equation_step(),
            Step(
                "Expand G = 1/z + E[lambda]/z^2 + ... and solve order by order.",
                left,
                latex_left,
                expression,
            ),
        ),
        source=_SOURCE,
    )
