"""Formulas: arithmetic in numbers and named variables.

A prediction is a text such as `1/2`, `1 - mu/2` or `min(1, 1/2 + mu/4)`, in the variables

- mu, nu, beta: the power of the growing size in the vocabulary m, the outputs n, the batch B;
- alpha: the exponent of the Zipf law (0: uniform tokens).

A value at finite sizes is a text such as `pi/2*sqrt(m) + (d - 1)/sqrt(m)`, in d, m, n and B.

    formula = [ "-" ] term { ("+" | "-") term }
    term    = factor { ("*" | "/") factor }
    factor  = base [ "^" [ "-" ] factor ]
    base    = number | "pi" | variable | "(" formula ")" | "sqrt(" formula ")"
            | ("min" | "max") "(" formula "," formula { "," formula } ")"

A text is parsed by this grammar alone and never executed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dynsim._errors import InputError, shown
from dynsim.scaling._tokens import LARGEST_NUMBER, Reader

POWERS: Mapping[str, str] = {
    "mu": "power of the vocabulary",
    "nu": "power of the outputs",
    "beta": "power of the batch",
    "alpha": "Zipf exponent",
}
FUNCTIONS = ("min", "max", "sqrt")
CONSTANTS = {"pi": math.pi}
NAMED = ("asymptotic", "derived or mean_field")  # what is no formula
EXAMPLES = ("1/2, 1 - mu/2 or min(1, 1/2 + mu/4)", "pi/2*sqrt(m) + (d - 1)/sqrt(m)")

Values = Mapping[str, float]
_Node = Callable[[Values], float]


@dataclass(frozen=True)
class Formula:
    """A number as a function of variables.

    - `text`: as it was given; `field`: what an error names.
    - `variables`: those that occur.
    """

    text: str
    field: str
    variables: frozenset[str]
    root: _Node

    def __call__(self, values: Values) -> float:
        """Its value. Raises `InputError` where it is not finite."""
        try:
            value = self.root(values)
        except (ArithmeticError, ValueError):
            value = math.nan
        if isinstance(value, complex) or not math.isfinite(value):
            given = ", ".join(f"{name} = {values[name]:g}" for name in sorted(self.variables))
            where = f" (it is not at {given})" if given else ""
            raise InputError(self.field, self.text, f"must be a finite number{where}")
        return value

    def __str__(self) -> str:
        return self.text


def formula(
    value: float | str, field: str = "prediction", variables: Mapping[str, str] = POWERS
) -> Formula:
    """Parses a formula; a plain number is a constant one.

    `variables` are those that may occur, with their meaning. Raises `InputError` that points at
    the place.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(field, value, _grammar(variables))
    if isinstance(value, str):
        return _Parser(value, field, variables).parsed()
    if not abs(value) < LARGEST_NUMBER:
        raise InputError(field, value, "must be finite")
    number = float(value)
    return Formula(f"{value:g}", field, frozenset(), lambda values: number)


def _grammar(variables: Mapping[str, str]) -> str:
    of_sizes = variables is not POWERS
    names = ", ".join(variables)
    return f"must be a number, {NAMED[of_sizes]}, or a formula in {names}"


class _Parser(Reader):
    """Recursive descent over the grammar at the head of this module."""

    def __init__(self, text: str, field: str, allowed: Mapping[str, str]):
        super().__init__(text, field, EXAMPLES[allowed is not POWERS])
        self.allowed = allowed
        self.variables: set[str] = set()

    def parsed(self) -> Formula:
        root = self._formula()
        if self.kind() != "end":
            raise self.wrong("a formula does not go on so")
        return Formula(self.text, self.name, frozenset(self.variables), root)

    def _formula(self) -> _Node:
        self.deeper()
        negative = self.kind() == "-"
        if negative:
            self.next()
        first = self._term()
        terms = [(-1.0 if negative else 1.0, first)]
        while self.kind() in ("+", "-"):
            sign = 1.0 if self.next() == "+" else -1.0
            terms.append((sign, self._term()))
        self.depth -= 1
        return lambda values: sum(sign * term(values) for sign, term in terms)

    def _term(self) -> _Node:
        product = self._factor()
        while self.kind() in ("*", "/"):
            product = _combined(self.next(), product, self._factor())
        return product

    def _factor(self) -> _Node:
        base = self._base()
        if self.kind() != "^":
            return base
        self.next()
        self.deeper()
        negative = self.kind() == "-"
        if negative:
            self.next()
        power = self._factor()
        self.depth -= 1
        return lambda values: base(values) ** (-power(values) if negative else power(values))

    def _base(self) -> _Node:
        if self.kind() == "number":
            number = float(self.number())
            return lambda values: number
        if self.kind() == "(":
            self.next()
            inside = self._formula()
            self.expect(")")
            return inside
        if self.kind() != "name":
            raise self.wrong("a number or a variable is missing here")
        name = self.tokens[self.place][1]
        if name in CONSTANTS:
            constant = CONSTANTS[self.next()]
            return lambda values: constant
        if name in self.allowed:
            self.variables.add(self.next())
            return lambda values: values[name]
        if name not in FUNCTIONS:
            known = ", ".join(f"{one} ({meaning})" for one, meaning in self.allowed.items())
            form = f"these are {known}; or write {NAMED[self.allowed is not POWERS]}"
            raise self.wrong(f"{shown(name)} is no variable", form=form)
        return self._function(self.next())

    def _function(self, name: str) -> _Node:
        self.expect("(")
        parts = [self._formula()]
        while name != "sqrt" and self.kind() == ",":
            self.next()
            parts.append(self._formula())
        self.expect(")")
        if name == "sqrt":
            return lambda values: math.sqrt(parts[0](values))
        if len(parts) < 2:
            raise self.wrong(f"{name} takes two or more formulas")
        pick = min if name == "min" else max
        return lambda values: pick(part(values) for part in parts)


def _combined(mark: str, left: _Node, right: _Node) -> _Node:
    if mark == "*":
        return lambda values: left(values) * right(values)
    return lambda values: left(values) / right(values)
