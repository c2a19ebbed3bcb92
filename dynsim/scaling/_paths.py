"""Paths: how sizes and rates grow together, written as products of numbers and powers.

A path is a text such as `4*d`, `d^0.7`, `d^(3/2)/8`, `0.03*d^(-1/2)` or `min(d^2/8, 50000)`, in the
variables d (width), m (vocabulary size), n (outputs) and B (batch size). Its grammar:

    path   = factor { ("*" | "/") factor }
    factor = base [ "^" power ]
    base   = number | variable | "(" path ")" | "sqrt(" path ")"
           | "min(" path "," path { "," path } ")" | "max(" path "," path { "," path } ")"
    power  = number | "-" number | "(" [ "-" ] number [ "/" number ] ")"

Numbers and powers are exact fractions. A text is parsed by this grammar alone and never executed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as member
from fractions import Fraction
from functools import reduce
from typing import Any, Literal

import numpy as np

from dynsim._errors import InputError, shown

from ._tokens import Reader

VARIABLES: Mapping[str, str] = {
    "d": "width",
    "m": "vocabulary size",
    "n": "outputs",
    "B": "batch size",
}
LARGEST_POWER = 8
GRAMMAR = (
    "must be a product of numbers and powers of d, m, n or B, such as 4*d, d^0.7, d^(3/2)/8 or "
    "min(d^2/8, 50000)"
)

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Number:
    value: Fraction

    def at(self, values: Values) -> Any:
        return float(self.value)

    def order(self, orders: Mapping[str, Fraction]) -> Fraction:
        return Fraction(0)


@dataclass(frozen=True)
class Variable:
    name: str

    def at(self, values: Values) -> Any:
        return values[self.name] * 1.0

    def order(self, orders: Mapping[str, Fraction]) -> Fraction:
        return orders[self.name]


@dataclass(frozen=True)
class Product:
    """Product of factors, each to a power."""

    factors: tuple[tuple[Node, Fraction], ...]

    def at(self, values: Values) -> Any:
        return math.prod(node.at(values) ** float(power) for node, power in self.factors)

    def order(self, orders: Mapping[str, Fraction]) -> Fraction:
        return sum((power * node.order(orders) for node, power in self.factors), Fraction(0))


@dataclass(frozen=True)
class Extreme:
    """The smallest or the largest of its parts."""

    which: Literal["min", "max"]
    parts: tuple[Node, ...]

    def at(self, values: Values) -> Any:
        pick = np.minimum if self.which == "min" else np.maximum
        return reduce(pick, (part.at(values) for part in self.parts))

    def order(self, orders: Mapping[str, Fraction]) -> Fraction:
        pick = min if self.which == "min" else max
        return pick(part.order(orders) for part in self.parts)


Node = Number | Variable | Product | Extreme


@dataclass(frozen=True)
class ScalingPath:
    """A quantity as a function of the sizes d, m, n and B.

    - `text`: as it was given; two paths are equal if their parsed forms are.
    - `variables`: the sizes that it depends on.
    """

    text: str = member(compare=False)
    root: Node

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(_variables(self.root))

    def __call__(self, **values: Any) -> Any:
        """Its value at these sizes, which may be arrays. Raises `KeyError` for one that is missing."""
        value = self.root.at(values)
        return value if isinstance(value, np.ndarray) else float(value)

    def order(self, **orders: Fraction) -> Fraction:
        """Its power of s where each variable grows like s^order; exact, for s to infinity."""
        return self.root.order(orders)

    def __str__(self) -> str:
        return self.text


def scaling_path(text: str | float, field: str = "path", allowed: str = "dmnB") -> ScalingPath:
    """Parses a path; a plain number is a constant path.

    `field` is what an error names, `allowed` the variables that may occur. Raises
    `InputError` that points at the place.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise InputError(field, text, GRAMMAR)
    return _Parser(str(text) if isinstance(text, str) else repr(text), field, allowed).parsed()


def _variables(node: Node) -> Iterator[str]:
    match node:
        case Variable(name):
            yield name
        case Product(factors):
            for part, _ in factors:
                yield from _variables(part)
        case Extreme(_, parts):
            for part in parts:
                yield from _variables(part)


class _Parser(Reader):
    """Recursive descent over the grammar at the head of this module."""

    def __init__(self, text: str, name: str, allowed: str):
        super().__init__(text, name, GRAMMAR)
        self.allowed = allowed

    def parsed(self) -> ScalingPath:
        root = self._path()
        if self.kind != "end":
            raise self.wrong(f"{self.shown} is not expected")
        return ScalingPath(self.text, root)

    def _path(self) -> Node:
        self.deeper()
        factors = [self._factor()]
        while self.kind in ("*", "/"):
            sign = 1 if self.next() == "*" else -1
            node, power = self._factor()
            factors.append((node, sign * power))
        self.depth -= 1
        if self.kind in ("+", "-"):
            raise self.wrong("sums and differences are no paths:")
        return (
            factors[0][0] if len(factors) == 1 and factors[0][1] == 1 else Product(tuple(factors))
        )

    def _factor(self) -> tuple[Node, Fraction]:
        base = self._base()
        if self.kind != "^":
            return base, Fraction(1)
        self.next()
        return base, self._power()

    def _base(self) -> Node:
        kind = self.kind
        if kind == "number":
            return Number(self.number())
        if kind == "(":
            self.next()
            inside = self._path()
            self.expect(")")
            return inside
        if kind != "name":
            raise self.wrong(f"a number or a variable is expected, not {self.shown}")
        name = self.word
        if name in VARIABLES and name in self.allowed:
            self.next()
            return Variable(name)
        if name not in ("min", "max", "sqrt"):
            known = ", ".join(f"{one} ({VARIABLES[one]})" for one in self.allowed)
            raise self.wrong(f"{shown(name)} is none of the variables {known}")
        self.next()
        self.expect("(")
        parts = [self._path()]
        while name != "sqrt" and self.kind == ",":
            self.next()
            parts.append(self._path())
        self.expect(")")
        if name == "sqrt":
            return Product(((parts[0], Fraction(1, 2)),))
        if len(parts) < 2:
            raise self.wrong(f"{name} takes two or more paths")
        return Extreme("min" if name == "min" else "max", tuple(parts))

    def _power(self) -> Fraction:
        start = self.place
        bracket = self.kind == "("
        if bracket:
            self.next()
        sign = -1 if self.kind == "-" else 1
        if sign < 0:
            self.next()
        if self.kind != "number":
            raise self.wrong(f"a number is expected as the power, not {self.shown}")
        value = sign * self.number()
        if bracket and self.kind == "/":
            self.next()
            if self.kind != "number":
                raise self.wrong(f"a number is expected, not {self.shown}")
            below = self.number()
            if not below:
                raise self.wrong("a power is divided by zero")
            value /= below
        if bracket:
            self.expect(")")
        elif self.kind == "/" and (sign < 0 or value == 1):
            whole = "".join(token for _, token, _ in self.tokens[start : self.place + 2])
            hint = f"^{whole} is ambiguous: write ^({whole}) for the power or (...^{value})/... for"
            raise self.wrong(f"{hint} the quotient")
        if abs(value) > LARGEST_POWER:
            raise self.wrong(f"the power {value} is beyond {LARGEST_POWER}")
        return value
