"""Tokens of the small languages of paths and formulas, and the errors that point at a place."""

from __future__ import annotations

import re
from fractions import Fraction

from dynsim._errors import InputError, shown

MOST_CHARACTERS, DEEPEST = 200, 20
LARGEST_NUMBER, LARGEST_TEN = 10**30, 30
_TOKEN = re.compile(
    r"(?P<number>(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)|(?P<name>[A-Za-z]\w*)|(?P<mark>\*\*|[-+*/^(),])"
)


class Reader:
    """Reads a text token by token, from left to right.

    `field` is what an error names, `grammar` how its text ends: what is allowed.
    """

    def __init__(self, text: str, field: str, grammar: str):
        self.text, self.field, self.grammar = text, field, grammar
        if len(text) > MOST_CHARACTERS:
            raise InputError(field, text, f"must have at most {MOST_CHARACTERS} characters")
        self.tokens = self._tokens()
        self.place = self.depth = 0

    def _tokens(self) -> list[tuple[str, str, int]]:
        """(kind, text, position) of every token, ended by ("end", "", length)."""
        found, position = [], 0
        while position < len(self.text):
            if self.text[position].isspace():
                position += 1
                continue
            match = _TOKEN.match(self.text, position)
            if match is None or not match[0].isascii():
                raise self.wrong(f"{self.text[position]!r} has no meaning", position)
            kind = str(match.lastgroup)
            found.append((kind, "^" if match[0] == "**" else match[0], position))
            position = match.end()
        return [*found, ("end", "", len(self.text))]

    @property
    def kind(self) -> str:
        """number, name, end, or the mark itself."""
        kind, text, _ = self.tokens[self.place]
        return text if kind == "mark" else kind

    @property
    def word(self) -> str:
        """The present token as it is written."""
        return self.tokens[self.place][1]

    @property
    def shown(self) -> str:
        """The present token in an error."""
        return "the end" if self.kind == "end" else repr(self.word)

    def next(self) -> str:
        """The present token, which is left behind."""
        self.place += 1
        return self.tokens[self.place - 1][1]

    def expect(self, mark: str) -> None:
        """Leaves a mark behind. Raises `InputError` where another token stands."""
        if self.kind != mark:
            raise self.wrong(f"{mark!r} is expected, not {self.shown}")
        self.next()

    def deeper(self) -> None:
        """Enters parentheses. Raises `InputError` where there are too many."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.wrong("there are too many parentheses")

    def wrong(self, reason: str, position: int | None = None) -> InputError:
        """The error at the present token, or at a position of the text."""
        at = self.tokens[self.place][2] if position is None else position
        return InputError(self.field, self.text, f"{reason} at character {at + 1}; {self.grammar}")

    def number(self) -> Fraction:
        """The present token as an exact number, left behind."""
        position, text = self.tokens[self.place][2], self.next()
        mantissa, _, power = text.lower().partition("e")
        if abs(int(power or 0)) > LARGEST_TEN:
            raise self.wrong(f"{shown(text)} is too large or too small", position)
        value = Fraction(mantissa.rstrip(".") if not mantissa.startswith(".") else "0" + mantissa)
        value *= Fraction(10) ** int(power or 0)
        if value > LARGEST_NUMBER:
            raise self.wrong(f"{shown(text)} is too large", position)
        return value
