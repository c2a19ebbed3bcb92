"""The one door between sympy and JAX: derived expressions as jitted functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.scipy.special
import sympy as sp

from derivations import Derivation

_SPECIAL = {"erf": jax.scipy.special.erf}  # sympy's JAX printer does not know them


@lru_cache(maxsize=256)
def compiled(expression: sp.Expr, arguments: tuple[sp.Symbol, ...]) -> Callable[..., Any]:
    """`expression` as a jitted function of `arguments`, which may be arrays that broadcast.

    Raises `ValueError` if the expression has symbols that are not among the arguments.
    """
    missing = expression.free_symbols - set(arguments)
    if missing:
        raise ValueError(f"no value for {', '.join(sorted(map(str, missing)))} in {expression}")
    return jax.jit(sp.lambdify(arguments, expression, modules=[_SPECIAL, "jax"]))


def evaluate(derived: Derivation | sp.Expr, values: dict[sp.Symbol, Any]) -> Any:
    """The derived expression at `values` (float64 numbers or arrays), compiled once."""
    expression = derived.expression if isinstance(derived, Derivation) else derived
    arguments = tuple(sorted(values, key=str))
    return compiled(expression, arguments)(*(values[symbol] for symbol in arguments))
