"""Lines between regimes, written in one line: as a text and as mathematics for a figure."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import sympy as sp
from sympy.printing.latex import LatexPrinter

from . import _symbols as s
from ._cache import cache
from ._law_first_step import Init, initial_std
from ._lv_ageing import Directions
from ._lv_lifetime import restoration_displacement
from ._regimes import critical_vocab_exponent, crossover_vocab_size

Sign = Literal["=", "~"]
RELATIONS: dict[Sign, str] = {"=": "=", "~": r"\simeq "}


class BoundaryFormula(NamedTuple):
    """Where a line between regimes lies: as a text, and as mathematics for a figure."""

    text: str
    drawn: str


@cache
def vocabulary_boundary(of: Literal["uniform", "law", "batch"]) -> BoundaryFormula:
    """rho = 1 at m* = (2/pi) (d - 1): the vocabulary, or the effective one of a law or a batch."""
    text, drawn = {
        "uniform": ("m", "m"),
        "law": ("m_eff", r"m_\mathrm{eff}"),
        "batch": ("m_eff(B)", r"m_\mathrm{eff}(B)"),
    }[of]
    return _written(text, drawn, crossover_vocab_size().expression, "=")


@cache
def zipf_boundary(exponent: float | None = None) -> BoundaryFormula:
    """rho = 1 at m of the order d^mu*, in full batch; of all Zipf exponents if none is given."""
    critical: Any = critical_vocab_exponent().expression
    if exponent is None:
        above, below = sp.fraction(critical)
        power = f"{sp.latex(above)}/[{_positive_parts(below)}]"
        return BoundaryFormula(
            f"m of the order d^mu*, mu* = {critical}", rf"$m\sim d^{{\,\mu_*}}$, $\mu_*={power}$"
        )
    critical = critical.subs(s.zipf_exponent, sp.nsimplify(exponent))
    if not critical.is_finite:
        return BoundaryFormula("at finite widths alone", r"$\rho\to\infty$ with $d$ at any $m$")
    power = f"{float(critical):.3g}"
    return BoundaryFormula(f"m of the order d^{power}", rf"$m\sim d^{{\,{power}}}$")


@cache
def restoration_boundary(directions: Directions) -> BoundaryFormula:
    """The end of the LV regime for m >> d, which no longer depends on m."""
    end = restoration_displacement(directions).expression
    if directions == "one":
        end = end.subs(s.effective_outputs, 1)
    return _written("eta_E t", r"\eta_E t", end, "~")


@cache
def self_term_boundary(init: Init) -> BoundaryFormula:
    """kappa = 1: S = P_2 (to leading order) is sigma_E^2 sigma_W^2."""
    std = initial_std(init)
    inverse = 1 / (std[s.embedding_std] * std[s.projection_std]) ** 2
    return _written("1/P_2", "1/P_2", inverse, "~")


class _PositiveParts(LatexPrinter):
    """Writes max(0, x) as (x)_+, which is short enough for a legend."""

    def _print_Max(self, expr: sp.Max) -> str:
        (part,) = (one for one in expr.args if one != 0)
        return rf"({self._print(part)})_+"


def _positive_parts(expression: sp.Expr) -> str:
    """A sum, with what is subtracted at its end."""
    added, subtracted = sp.sift(
        sp.Add.make_args(expression), lambda term: not term.could_extract_minus_sign(), binary=True
    )
    printed = _PositiveParts().doprint
    return " - ".join([" + ".join(map(printed, added)), *(printed(-one) for one in subtracted)])


def _written(text: str, drawn: str, value: sp.Expr, sign: Sign) -> BoundaryFormula:
    return BoundaryFormula(f"{text} {sign} {value}", f"${drawn}{RELATIONS[sign]}{_latex(value)}$")


def _latex(expression: sp.Expr) -> str:
    """In what matplotlib knows: no brackets that grow; short denominators behind a stroke."""
    names = {s.effective_outputs: "n"}
    above, below = (sp.factor(part) for part in sp.fraction(expression))
    short = below != 1 and (below.is_Atom or below.is_Pow) and not above.is_Add
    parts = (above, below) if short else (expression,)
    text = " / ".join(sp.latex(part, symbol_names=names) for part in parts)
    for written, drawn in ((r"\left", ""), (r"\right", ""), (r"\frac", r"\dfrac")):
        text = text.replace(written, drawn)
    return text
