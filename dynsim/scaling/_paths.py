"""Paths: how sizes and rates grow together, written as products of numbers and powers.

A path is a text such as `4*d`, `d^0.7`, `d^(3/2)/8`, `0.03*d^(-1/2)` or `min(d^2/8, 50000)`, in the
variables d (width), m (vocabulary size), n (outputs) and B (batch size). Its grammar:

    path   = factor { ("*" | "/") factor }
    factor = base [ "^" power ]
    base   = number | variable | "(" path ")" | "sqrt(" path ")"
           | "min(" path "," path { "," path } ")" | "max(" path "," path { "," path } ")"
    power  = number | "-" number | "(" [ "-" ] number [ "/" number ] ")"

Numbers and powers are exact fractions. The number 0 stands alone (a frozen layer, the full batch).
`d^-1/2` and `d^1/2` are refused, since half of their readers take them for a root and half for a
quotient. A text is parsed by this grammar alone and never executed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as member
from fractions import Fraction
from functools import reduce
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from dynsim._errors import InputError, shown

from ._tokens import LARGEST_NUMBER, Reader

VARIABLES: Mapping[str, str] = {
    "d": "width",
    "m": "vocabulary size",
    "n": "outputs",
    "B": "batch size",
}
LARGEST_POWER = 8
EXAMPLES = "4*d, d^0.7, d^(3/2)/8 or min(d^2/8, 50000)"
GRAMMAR = f"must be a product of numbers and powers of d, m, n or B, such as {EXAMPLES}"

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
        """Its value at these sizes, which may be arrays; infinite beyond what a float holds.

        Raises `KeyError` for a size that is missing.
        """
        try:
            with np.errstate(all="ignore"):
                value = self.root.at(values)
        except (OverflowError, ZeroDivisionError):
            return math.inf
        return value if isinstance(value, np.ndarray) else float(value)

    def order(self, **orders: Fraction) -> Fraction:
        """Its power of s where each variable grows like s^order; exact, for s to infinity."""
        return self.root.order(orders)

    def __str__(self) -> str:
        return self.text


def scaling_path(
    text: str | float | ScalingPath, field: str = "path", allowed: str = "dmnB"
) -> ScalingPath:
    """Parses a path; a plain number is a constant path.

    `field` is what an error names, `allowed` the variables that may occur. Raises
    `InputError` that points at the place.

    **Example:**

    >>> from dynsim.scaling import scaling_path
    >>> path = scaling_path("16*d^(1/2)")
    >>> sorted(path.variables)
    ['d']
    """
    if isinstance(text, ScalingPath):
        text = text.text
    if isinstance(text, str):
        return _Parser(text, field, allowed).parsed()
    if isinstance(text, bool) or not isinstance(text, Real):
        raise InputError(field, text, GRAMMAR)
    if not 0 <= text <= LARGEST_NUMBER:
        raise InputError(field, text, f"must be a number from 0 to {LARGEST_NUMBER:g}, or a path")
    written = str(int(text)) if isinstance(text, Integral) else repr(float(text))
    return ScalingPath(written, Number(Fraction(written)))


def power_of(name: str, power: Fraction) -> str:
    """A power as text: 1, d, d^2, d^(7/10)."""
    if power in (0, 1):
        return name if power else "1"
    return f"{name}^{power}" if power.denominator == 1 and power > 0 else f"{name}^({power})"


def growth(name: str, power: Fraction) -> str:
    """What a quantity of this power does: `grows like d^2`, `does not grow`."""
    return f"grows like {power_of(name, power)}" if power else "does not grow"


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
        super().__init__(text, name, EXAMPLES)
        self.allowed = allowed

    def parsed(self) -> ScalingPath:
        root = self._zero() or self._path()
        if self.kind() != "end":
            raise self.wrong(self._left_over())
        return ScalingPath(self.text, root)

    def _left_over(self) -> str:
        """Why a path cannot go on as it does."""
        if self.kind() in ("number", "name", "("):
            return "a '*' is missing here"
        return "a path does not go on so"

    def _zero(self) -> Node | None:
        """The path 0."""
        kind, text, _ = self.tokens[0]
        if kind == "number" and len(self.tokens) == 2 and not Fraction(self.plain(text)):
            self.next()
            return Number(Fraction(0))
        return None

    def _path(self) -> Node:
        self.deeper()
        factors = [self._factor()]
        while self.kind() in ("*", "/"):
            sign = 1 if self.next() == "*" else -1
            node, power = self._factor()
            factors.append((node, sign * power))
        self.depth -= 1
        if self.kind() in ("+", "-"):
            raise self.wrong("a path has no sums and no differences")
        return (
            factors[0][0] if len(factors) == 1 and factors[0][1] == 1 else Product(tuple(factors))
        )

    def _factor(self) -> tuple[Node, Fraction]:
        start = self.place
        base = self._base()
        if self.kind() != "^":
            return base, Fraction(1)
        self.next()
        return base, self._power(start)

    def _base(self) -> Node:
        kind = self.kind()
        if kind == "number":
            position = self.tokens[self.place][2]
            value = self.number()
            if not value:
                raise self.wrong("0 stands alone, not in a product", position)
            return Number(value)
        if kind == "(":
            self.next()
            inside = self._path()
            self.expect(")")
            return inside
        if kind == "-":
            raise self.wrong("a path has no minus sign (sizes and rates are at least 0)")
        if kind != "name":
            raise self.wrong("a number or a variable is missing here")
        name = self.tokens[self.place][1]
        if name in VARIABLES and name in self.allowed:
            self.next()
            return Variable(name)
        if name not in ("min", "max", "sqrt"):
            known = ", ".join(f"{one} ({VARIABLES[one]})" for one in self.allowed)
            raise self.wrong(f"{shown(name)} is no variable", form=f"these are {known}")
        self.next()
        self.expect("(")
        parts = [self._path()]
        while name != "sqrt" and self.kind() == ",":
            self.next()
            parts.append(self._path())
        if name != "sqrt" and len(parts) < 2:
            raise self.wrong(f"{name} takes two or more paths, with ',' between them")
        self.expect(")")
        if name == "sqrt":
            return Product(((parts[0], Fraction(1, 2)),))
        return Extreme("min" if name == "min" else "max", tuple(parts))

    def _power(self, start: int) -> Fraction:
        """The number after ^; `start` is the token with which its base begins."""
        first = self.place
        bracket = self.kind() == "("
        if bracket:
            self.next()
        sign = -1 if self.kind() == "-" else 1
        if sign < 0:
            self.next()
        if self.kind() != "number":
            raise self.wrong("a power is a number")
        value = sign * self.number()
        if bracket and self.kind() == "/":
            self.next()
            if self.kind() != "number":
                raise self.wrong("a power is a number")
            position = self.tokens[self.place][2]
            below = self.number()
            if not below:
                raise self.wrong("a power is divided by zero", position)
            value /= below
        if bracket:
            self.expect(")")
        elif self.kind() == "/" and self.kind(1) == "number" and (sign < 0 or value == 1):
            raise self._ambiguous(start, first)
        if abs(value) > LARGEST_POWER:
            position = self.tokens[first][2]
            raise self.wrong(f"a power is at most {LARGEST_POWER} in size", position)
        return value

    def _ambiguous(self, start: int, first: int) -> InputError:
        """Of `d^-1/2`: both readings, written so that there is no doubt."""
        base = "".join(text for _, text, _ in self.tokens[start : first - 1])
        above = "".join(text for _, text, _ in self.tokens[first : self.place])
        below = self.tokens[self.place + 1][1]
        both = f"write {base}^({above}/{below}) or ({base}^{above})/{below}"
        return self.wrong(f"{base}^{above}/{below} is ambiguous", form=both)
