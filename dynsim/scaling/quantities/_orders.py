"""Powers of the growing size in every symbol of the theory, along a family of setups."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import derivations
from derivations import symbols as s
from dynsim.scaling._family import Family
from dynsim.scaling._quantity import Unavailable
from dynsim.tokens._laws import token_law

FITTED_DIGITS = 3  # of a Zipf exponent that is fitted to counts


def family_orders(family: Family) -> derivations.PathOrders:
    """Orders of sizes, token law, batch, learning rates and initial standard deviations.

    Raises `Unavailable` for sizes that shrink.
    """
    fields = ("width", "vocab_size", "batch_size")
    for field in fields:
        if family.order(field) < 0:
            raise Unavailable(f"`{field}` shrinks along this path, and no power is derived for it")
    fields, init = (*fields, "outputs", "embedding_lr"), None
    if family.network == "linear":
        fields = (*fields, "projection_lr")
        init = cast(derivations.Init, family.options.get("init", "mup"))
    exponent, assumptions = zipf_exponent(family)
    given = {getattr(s, field): family.order(field) for field in fields}
    return derivations.path_orders(given, exponent, init=init, assumptions=assumptions)


def zipf_exponent(family: Family) -> tuple[Fraction, tuple[str, ...]]:
    """Of the family's token law: exact from its name, or fitted at the largest vocabulary."""
    setup = family.setup(family.sizes[-1])
    kind, _, detail = setup.law_name.partition(":")
    if kind == "uniform":
        return Fraction(0), ()
    if kind == "zipf":
        logarithms = ("Zipf token law, up to logarithms",)
        return Fraction(detail.strip()), logarithms
    fit = token_law(setup.law_name, setup.vocab_size).zipf_exponent
    if not fit.value >= 0:
        raise Unavailable(f"no Zipf exponent can be fitted to {setup.law_name}")
    value = Fraction(str(round(fit.value, FITTED_DIGITS)))
    fitted = (
        f"the Zipf exponent {float(value):g} is fitted to {setup.law_name} (95 % interval "
        f"{fit.low:.3g} to {fit.high:.3g}) and not exact, and neither is the power"
    )
    return value, (fitted, "Zipf token law, up to logarithms")
