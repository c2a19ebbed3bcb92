"""What a derived result is: an expression with its assumptions and its steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp


@dataclass(frozen=True)
class Step:
    """One line of a derivation: why, and what it gives.

    **Fields:**

    - `reason`: a sentence in plain text that justifies the line.
    - `left`: the left-hand side in plain text, `latex_left` the same in LaTeX.
    - `right`: the sympy expression it equals.
    """

    reason: str
    left: str
    latex_left: str
    right: sp.Expr

    def to_text(self) -> str:
        return f"{self.reason}\n      {self.left} = {self.right}"

    def to_latex(self) -> str:
        reason = latex_prose(self.reason)
        return f"{reason}\n\\[ {self.latex_left} = {sp.latex(self.right)} \\]"


@dataclass(frozen=True)
class Derivation:
    """A derived quantity, the assumptions it needs and the steps that lead to it.

    **Fields:**

    - `name`: what the quantity is called in the field.
    - `left`, `latex_left`: its symbol in plain text and in LaTeX.
    - `expression`: the sympy expression, the last word of the derivation.
    - `assumptions`: every condition under which it holds.
    - `steps`: the lines that lead to it, in order.
    - `source`: a paper, or a section of the theory as `docs/theory/PAGE.md#ANCHOR`.
    """

    name: str
    left: str
    latex_left: str
    expression: sp.Expr
    assumptions: tuple[str, ...]
    steps: tuple[Step, ...]
    source: str

    def specialise(
        self,
        values: Mapping[sp.Expr, sp.Expr | int | float],
        reason: str,
        assumptions: tuple[str, ...] = (),
    ) -> Derivation:
        """The same quantity with `values` put in, one step longer.

        `reason` is the sentence of the new step and `assumptions` what it assumes beyond
        what was assumed before.
        """
        expression = self.expression.subs(dict(values))
        return replace(
            self,
            expression=expression,
            assumptions=self.assumptions + assumptions,
            steps=(*self.steps, Step(reason, self.left, self.latex_left, expression)),
        )

    def to_text(self) -> str:
        """The derivation as plain text, one numbered paragraph a step."""
        lines = [f"{self.name}", "", "Assumptions"]
        lines += [f"  - {assumption}" for assumption in self.assumptions]
        lines += ["", "Steps"]
        lines += [f"  {number}. {step.to_text()}" for number, step in enumerate(self.steps, 1)]
        lines += ["", "Result", f"  {self.left} = {self.expression}", "", f"Source: {self.source}"]
        return "\n".join(lines)

    def to_latex(self) -> str:
        """The derivation as a LaTeX fragment (needs amsmath and amssymb)."""
        lines = [
            f"\\paragraph{{{latex_words(self.name)}}}",
            "Assumptions:",
            "\\begin{itemize}",
            *(f"\\item {latex_prose(assumption)}" for assumption in self.assumptions),
            "\\end{itemize}",
            "\\begin{enumerate}",
            *(f"\\item {step.to_latex()}" for step in self.steps),
            "\\end{enumerate}",
            f"\\[ \\boxed{{ {self.latex_left} = {sp.latex(self.expression)} }} \\]",
            f"Source: {latex_words(self.source)}",
        ]
        return "\n".join(lines)


_LATEX_WORDS = {
    "\\": "\\textbackslash{}",
    "_": "\\_",
    "^": "\\^{}",
    "%": "\\%",
    "&": "\\&",
    "#": "\\#",
    "{": "\\{",
    "}": "\\}",
    "~": "\\textasciitilde{}",
}


# A symbol with an index or a power in a sentence, such as sigma_E^2 or h_(l-1); no part of a path.
_INDEXED = re.compile(
    r"\S+\.(?:md|py)\S*"
    r"|(?<![A-Za-z0-9_])(?P<name>[A-Za-z]+'?)"
    r"(?P<index>(?:_(?:[A-Za-z0-9]+|\([^()]*\)|\{[^{}]*\}|[+-](?!\w)))*)"
    r"(?:\^(?P<power>-?[A-Za-z0-9]+(?:_[A-Za-z0-9]+)?|\([^()]*\)))?"
    r"(?![A-Za-z0-9_])"
)
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "eta", "kappa", "lambda", "mu", "nu", "phi"),
    *("pi", "rho", "sigma", "tau", "theta", "Delta"),
)
_COMMANDS = (*_GREEK, "sum")


def latex_prose(words: str) -> str:
    """A sentence with every indexed symbol set as mathematics, and the rest as words."""
    parts, end = [], 0
    for found in _INDEXED.finditer(words):
        name, index, power = found.group("name", "index", "power")
        if not (index or power):
            continue
        parts.append(latex_words(words[end : found.start()]))
        symbol = name if len(name.rstrip("'")) == 1 else rf"\mathrm{{{name}}}"
        symbol = f"\\{name}" if name.rstrip("'") in _COMMANDS else symbol
        inside = ",".join(_index(one.strip("(){}")) for one in index.split("_")[1:])
        below = f"_{{{inside}}}" if inside else ""
        above = "" if power is None else f"^{{{_index(power.strip('()'))}}}"
        parts.append(f"${symbol}{below}{above}$")
        end = found.end()
    return "".join([*parts, latex_words(words[end:])])


def _index(name: str) -> str:
    sign, letters = ("-", name[1:]) if name.startswith("-") else ("", name)
    return f"{sign}\\{letters}" if letters in _COMMANDS else name


def latex_words(words: str) -> str:
    """`words` with every character that LaTeX reads as a command escaped."""
    return "".join(_LATEX_WORDS.get(character, character) for character in words)
