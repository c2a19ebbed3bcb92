"""Powers of the growing size in every symbol of the theory, along a family of setups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import sympy as sp

import derivations
from derivations import symbols as s
from dynsim.scaling._family import Family
from dynsim.scaling._quantity import Unavailable
from dynsim.tokens._laws import token_law

Orders = Mapping[sp.Symbol, sp.Expr]
FITTED_DIGITS = 3  # of a Zipf exponent that is fitted to counts


@dataclass(frozen=True)
class FamilyOrders:
    """The power of the growing size in each symbol; `assumptions`: what they take for granted."""

    of: Orders
    assumptions: tuple[str, ...]

    def power(self, expression: sp.Expr) -> sp.Expr:
        """Of a sum of products of symbols."""
        return sp.nsimplify(derivations.leading_order(expression, self.of))


def rational(value: Fraction) -> sp.Expr:
    return sp.Integer(value.numerator) / sp.Integer(value.denominator)


def family_orders(family: Family) -> FamilyOrders:
    """Orders of sizes, token law, batch, learning rates and initial standard deviations.

    With s the growing size, d ~ s^a, m ~ s^b, B ~ s^c: the powers of a Zipf law are those of
    `derivations.zipf_orders` with b and c in place of mu and beta. Logarithms (at alpha = 1, 1/2
    and 1/3) count as order zero. Raises `Unavailable` for sizes that shrink.
    """
    width, vocabulary, batch = (
        rational(family.order(field)) for field in ("width", "vocab_size", "batch_size")
    )
    for field, order in (("width", width), ("vocab_size", vocabulary), ("batch_size", batch)):
        if order < 0:
            raise Unavailable(f"`{field}` shrinks along this path, and no power is derived for it")
    exponent, assumptions = zipf_exponent(family)
    values: list[tuple[sp.Expr, sp.Expr]] = [
        (s.rank_exponent, sp.Integer(0)),
        (s.zipf_exponent, exponent),
        (s.vocab_exponent, vocabulary),
        (s.batch_exponent, batch),
    ]
    of_law = {**derivations.zipf_orders(), s.presence: derivations.presence_order()}
    orders = {symbol: sp.sympify(order).subs(values) for symbol, order in of_law.items()}
    orders |= {
        s.width: width,
        s.vocab_size: vocabulary,
        s.batch_size: batch,
        s.outputs: rational(family.order("outputs")),
        s.embedding_std: sp.Integer(0),
    }
    if family.network == "linear":
        init = cast(derivations.Init, family.options.get("init", "mup"))
        std = derivations.initial_std(init)[s.projection_std]
        orders[s.projection_std] = derivations.leading_order(std, {s.width: width})
        orders[s.projection_lr] = rational(family.order("projection_lr"))
    orders[s.embedding_lr] = rational(family.order("embedding_lr"))
    return FamilyOrders(orders, assumptions)


def zipf_exponent(family: Family) -> tuple[sp.Expr, tuple[str, ...]]:
    """Of the family's token law: exact from its name, or fitted at the largest vocabulary."""
    setup = family.setup(family.sizes[-1])
    kind, _, detail = setup.law_name.partition(":")
    if kind == "uniform":
        return sp.Integer(0), ()
    if kind == "zipf":
        logarithms = ("Zipf token law, up to logarithms",)
        return rational(Fraction(detail.strip())), logarithms
    fit = token_law(setup.law_name, setup.vocab_size).zipf_exponent
    if not fit.value >= 0:
        raise Unavailable(f"no Zipf exponent can be fitted to {setup.law_name}")
    value = sp.Rational(str(round(fit.value, FITTED_DIGITS)))
    fitted = (
        f"the Zipf exponent {float(value):g} is fitted to {setup.law_name} (95 % interval "
        f"{fit.low:.3g} to {fit.high:.3g}) and not exact, and neither is the power"
    )
    return value, (fitted, "Zipf token law, up to logarithms")
