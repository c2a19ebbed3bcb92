"""The alignment of a token when backpropagated residuals differ in size.

A token's squared alignment with a neuron's gradient is c_i^2 = p_i^2 delta_i^2 / S with
S = sum_j p_j^2 delta_j^2. Both are random if the sizes |delta_j| are, and a ratio's mean is not the
ratio of means. One over S is an integral of exp(-t S), whose mean is a product over tokens.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._gaussian import normal_expectation

ResidualLaw = Literal["equal", "gaussian"]
RESIDUAL_LAWS: tuple[ResidualLaw, ...] = get_args(ResidualLaw)

transform_argument = sp.Symbol("lambda", nonnegative=True)
RESIDUAL_SOURCE = "docs/theory/first_step.md#unequal-residuals"
SIZES_CANCEL = (
    "in a mini-batch the sizes of residuals are averaged in numerator and denominator of c_i^2, "
    "where they cancel"
)


@cache
def residual_transform(residuals: ResidualLaw) -> Derivation:
    """L(lambda) = E[exp(-lambda r^2)] of residuals of mean square one."""
    at, size = transform_argument, sp.Symbol("x", real=True)
    reason = {
        "equal": "All residuals have the size one.",
        "gaussian": "The residual is a standard normal.",
    }[residuals]
    if residuals == "equal":
        value = sp.exp(-at)
    else:
        positive = sp.Symbol("lambda_", positive=True)
        value = normal_expectation(sp.exp(-positive * size**2)).subs(positive, at)
    left, latex = "L(lambda)", r"L(\lambda)"
    return Derivation(
        name=f"Transform of {residuals} residuals",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=("residuals of mean square one",),
        steps=(Step(reason, left, latex, value),),
        source=RESIDUAL_SOURCE,
    )


@cache
def residual_transform_slope(residuals: ResidualLaw) -> sp.Expr:
    """-dL/dlambda = E[r^2 exp(-lambda r^2)]."""
    return -sp.diff(residual_transform(residuals).expression, transform_argument)


@cache
def unequal_alignment_square() -> Derivation:
    """E[c_i^2] = p_i^2 int_0^oo (-L'(t p_i^2)) prod_{j != i} L(t p_j^2) dt.

    With equal sizes this is p_i^2 / P_2.
    """
    t, m = sp.Symbol("t", nonnegative=True), s.vocab_size
    j = sp.Symbol("j", integer=True, positive=True)
    p: Any = sp.IndexedBase("p")
    transform = sp.Function("L")
    slope = sp.Function("K")  # K(lambda) = -L'(lambda)
    own = slope(t * s.frequency**2)
    everyone = sp.Product(transform(t * p[j] ** 2), (j, 1, m)) / transform(t * s.frequency**2)
    value = s.frequency**2 * sp.Integral(own * everyone, (t, 0, sp.oo))
    rate = sp.Symbol("P_2", positive=True)
    equal = sp.integrate(s.frequency**2 * sp.exp(-rate * t), (t, 0, sp.oo))
    assert sp.simplify(equal - s.frequency**2 / s.frequency_square_sum) == 0
    left, latex = "E[c_i^2]", r"\mathbb{E}[c_i^2]"
    return Derivation(
        name="Squared alignment of a token under residuals of unequal size",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=("the sizes of residuals are independent between tokens",),
        steps=(
            Step(
                "One over S is the integral of exp(-t S) over t > 0. For equal sizes S = P_2, and",
                "E[c_i^2] at equal sizes",
                r"\mathbb{E}[c_i^2]",
                equal,
            ),
            Step(
                "For random sizes the mean of a product of independent factors is the product of "
                "their means. With L(lambda) = E[exp(-lambda delta^2)] and K = -dL/dlambda:",
                left,
                latex,
                value,
            ),
        ),
        source=RESIDUAL_SOURCE,
    )
