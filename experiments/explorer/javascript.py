"""Derived expressions as JavaScript, by sympy's printer, and the one special function they need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.special
import sympy as sp
from sympy.printing.jscode import JavascriptCodePrinter

# erf(x) for small |x| by its Taylor series, else 1 - exp(-x^2) erfcx(x), where erfcx is
# interpolated on Chebyshev nodes in t = (x - CENTRE) / (x + CENTRE), which maps [0, oo) to [-1, 1).
SERIES_UP_TO = 1.0
SERIES_TERMS = 20
CHEBYSHEV_TERMS = 40
CENTRE = 3.0


class _Printer(JavascriptCodePrinter):
    """sympy's printer with the functions of `erf_source`; squares are products."""

    def _print_erf(self, expression: sp.Expr) -> str:
        return f"erf({self._print(expression.args[0])})"

    def _print_Pow(self, expr: sp.Expr) -> str:
        base, exponent = expr.as_base_exp()
        if exponent == 2 and base.is_Symbol:
            return f"({self._print(base)}*{self._print(base)})"
        return super()._print_Pow(expr)


_PRINTER = _Printer()


def arguments_of(expression: sp.Expr) -> tuple[sp.Symbol, ...]:
    """The symbols that a printed function takes out of its argument, by name."""
    return tuple(sorted(expression.atoms(sp.Symbol), key=str))


def function_source(expression: sp.Expr) -> str:
    """An arrow function of an object that holds the symbols by name; common parts once."""
    parts, (result,) = sp.cse(expression, symbols=sp.numbered_symbols("part_"))
    names = ", ".join(map(str, arguments_of(expression)))
    lines = [f"  const {name} = {_PRINTER.doprint(part)};" for name, part in parts]
    lines.append(f"  return {_PRINTER.doprint(result)};")
    return "\n".join([f"({{{names}}}) => {{", *lines, "}"])


def formulas_source(formulas: Mapping[str, sp.Expr]) -> str:
    """`erf` and the object `formulas` with every expression as a function."""
    entries = [
        f"{json.dumps(name)}: {function_source(expression)}"
        for name, expression in formulas.items()
    ]
    return f"{erf_source()}\nconst formulas = {{\n" + ",\n".join(entries) + "\n};\n"


def erf_source() -> str:
    """The error function to about 1e-15, from coefficients computed here by sympy and scipy."""
    x = sp.Symbol("x")
    taylor = sp.erf(x).series(x, 0, 2 * SERIES_TERMS).removeO()
    series = [float(taylor.coeff(x, 2 * k + 1)) for k in range(SERIES_TERMS)]
    scaled = np.polynomial.chebyshev.chebinterpolate(_ERFCX, CHEBYSHEV_TERMS - 1)
    return _ERF.format(
        small=json.dumps(SERIES_UP_TO),
        series=json.dumps(series[::-1]),
        scaled=json.dumps(scaled.tolist()[::-1]),
        centre=json.dumps(CENTRE),
    )


def _erfcx_at(t: np.ndarray) -> np.ndarray:
    return scipy.special.erfcx(CENTRE * (1 + t) / (1 - t))


_ERFCX: Any = _erfcx_at  # numpy's annotation of such functions is narrower than what it takes
_ERF = """\
const erf = (() => {{
  const series = {series};
  const scaled = {scaled};
  return (x) => {{
    const size = Math.abs(x);
    if (size < {small}) return x * series.reduce((sum, term) => sum * x * x + term, 0);
    if (size === Infinity) return Math.sign(x);
    const t = (size - {centre}) / (size + {centre});
    let [now, before] = [0, 0];  // Clenshaw's sum of the Chebyshev series
    for (let k = 0; k < scaled.length - 1; k++)
      [now, before] = [2 * t * now - before + scaled[k], now];
    const rest = t * now - before + scaled[scaled.length - 1];
    return Math.sign(x) * (1 - Math.exp(-x * x) * rest);
  }};
}})();"""
