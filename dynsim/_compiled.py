"""The one door between sympy and numbers: derived expressions as functions, most of them jitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import sympy as sp
from numpy.typing import NDArray
from sympy.printing.numpy import SciPyPrinter

from derivations import Derivation
from derivations._cache import SYMPY as SYMPY

from ._programs import program


def _hyperu(a: float, b: float, x: Any, of: Any = jnp) -> Any:
    """Tricomi's U(a, b, x) for a > 0, b < 1, x >= 0; `of` is jax.numpy or numpy.

    JAX does not have it, and scipy's is good to 1e-6. Its integral in ln y by the trapezoidal
    rule, which converges exponentially.
    """
    nodes = np.arange(-37 / a, 37 / (1 - b), TRAPEZOID_STEP)  # beyond: below e^-37 of the whole
    y = np.exp(nodes)
    weights = TRAPEZOID_STEP * y**a * (1 + y) ** (b - a - 1) / math.gamma(a)
    return of.exp(-of.asarray(x)[..., None] * y) @ weights


TRAPEZOID_STEP = 0.25
FEW = 1000
"""numbers, up to which an expression is evaluated without being compiled"""
_SPECIAL = {  # sympy's JAX printer does not know them
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "hyperu": _hyperu,
}


_OF_NUMBERS = {"hyperu": partial(_hyperu, of=np), "pi": math.pi}
_LAMBDIFY = {  # what `lambdify` sets for its own printers
    "fully_qualified_modules": False,
    "inline": True,
    "allow_unknown_functions": True,
    "user_functions": {"hyperu": "hyperu"},
}


class _ScipyPrinter(SciPyPrinter):
    """Sympy's own takes pi from scipy's table of physical constants, which is slow to import."""

    def _print_Pi(self, expr: sp.Expr) -> str:
        return "pi"


@lru_cache(maxsize=256)
def compiled(expression: sp.Expr, arguments: tuple[sp.Symbol, ...]) -> Callable[..., Any]:
    """`expression` as a function of `arguments`, which may be arrays that broadcast.

    Of traced values and of many numbers it is jitted; few numbers are left to numpy and scipy,
    since to compile would take longer.

    Raises `ValueError` if the expression has symbols that are not among the arguments.
    """
    missing = expression.free_symbols - set(arguments)
    if missing:
        raise ValueError(f"no value for {', '.join(sorted(map(str, missing)))} in {expression}")

    numbers = isinstance(expression, sp.Expr) and not any(
        one.is_Matrix for one in (expression, *arguments)
    )

    def function_of(*values: Any) -> Any:
        if any(isinstance(value, jax.core.Tracer) for value in values):
            return _jitted(expression, arguments).within(*values)
        if numbers and all(np.size(value) <= FEW for value in values):
            return _of_few_numbers(expression, arguments)(*values)
        return _jitted(expression, arguments).alone(*values)

    return function_of


class _Jitted(NamedTuple):
    """An expression jitted for use within another jitted function, and by itself."""

    within: Callable[..., Any]
    alone: Callable[..., Any]


@lru_cache(maxsize=256)
def _jitted(expression: sp.Expr, arguments: tuple[sp.Symbol, ...]) -> _Jitted:
    with SYMPY:
        function = sp.lambdify(arguments, expression, modules=[_SPECIAL, "jax"])

    def broadcasting(*values: Any) -> Any:
        with jax.numpy_rank_promotion("allow"):  # arguments of different rank are the purpose
            return function(*values)

    return _Jitted(jax.jit(broadcasting), program(broadcasting))


@lru_cache(maxsize=256)
def _of_few_numbers(
    expression: sp.Expr, arguments: tuple[sp.Symbol, ...]
) -> Callable[..., NDArray[np.float64]]:
    with SYMPY:
        function = sp.lambdify(
            arguments, expression, modules=[_OF_NUMBERS, "scipy"], printer=_ScipyPrinter(_LAMBDIFY)
        )

    def of_numbers(*values: Any) -> NDArray[np.float64]:
        arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values))
        with np.errstate(all="ignore"):
            found = np.asarray(function(*arrays), dtype=np.float64)
        return np.array(np.broadcast_to(found, np.broadcast_shapes(*map(np.shape, values))))

    return of_numbers


def evaluate(derived: Derivation | sp.Expr, values: dict[sp.Symbol, Any]) -> Any:
    """The derived expression at `values` (float64 numbers or arrays), compiled once.

    **Example:**

    >>> import derivations
    >>> from derivations import symbols
    >>> from dynsim import evaluate
    >>> boundary = derivations.crossover_vocab_size()
    >>> round(float(evaluate(boundary, {symbols.width: 1024.0})), 1)
    651.3
    """
    expression = derived.expression if isinstance(derived, Derivation) else derived
    arguments = tuple(sorted(values, key=lambda symbol: symbol.name))
    return compiled(expression, arguments)(*(values[symbol] for symbol in arguments))
