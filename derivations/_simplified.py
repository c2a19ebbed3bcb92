"""What sympy simplifies, without asking it where there is nothing to simplify.

`sympy.simplify` takes milliseconds for a product of symbols too, and at its first call it imports
all physical units.
"""

from __future__ import annotations

import sympy as sp


def simplified(expression: sp.Expr) -> sp.Expr:
    """`sympy.simplify` of the expression, which a product of powers of symbols and numbers is
    already."""
    factors = (factor.as_base_exp() for factor in sp.Mul.make_args(expression))
    if all(base.is_Atom and power.is_Rational for base, power in factors):
        return expression
    return sp.simplify(expression)
