"""Tokens of the small languages of paths and formulas, and the errors that point at a place."""

from __future__ import annotations

import re
from fractions import Fraction

from dynsim._errors import InputError, shown

MOST_CHARACTERS, DEEPEST = 200, 20
LARGEST_NUMBER = 10**30
_TOKEN = re.compile(
    r"(?P<number>(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)|(?P<name>[A-Za-z]\w*)|(?P<mark>\*\*|[-+*/^(),])",
    re.ASCII,
)


class Reader:
    """Reads a text token by token, from left to right.

    `name` is the field that an error names, `examples` what it shows in its last words.
    """

    def __init__(self, text: str, name: str, examples: str):
        self.text, self.name, self.examples = text, name, examples
        if len(text) > MOST_CHARACTERS:
            raise InputError(name, text, f"must have at most {MOST_CHARACTERS} characters")
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
            if match is None:
                raise self.wrong("it has no meaning here", position)
            kind = str(match.lastgroup)
            found.append((kind, "^" if match[0] == "**" else match[0], position))
            position = match.end()
        return [*found, ("end", "", len(self.text))]

    def kind(self, ahead: int = 0) -> str:
        """Of the present token or one ahead: number, name, end, or the mark itself."""
        kind, text, _ = self.tokens[min(self.place + ahead, len(self.tokens) - 1)]
        return text if kind == "mark" else kind

    def next(self) -> str:
        """The present token as it is written, which is left behind."""
        self.place += 1
        return self.tokens[self.place - 1][1]

    def expect(self, mark: str) -> None:
        """Leaves a mark behind. Raises `InputError` where another token stands."""
        if self.kind() != mark:
            raise self.wrong(f"{mark!r} is missing here")
        self.next()

    def deeper(self) -> None:
        """Enters parentheses. Raises `InputError` where there are too many."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.wrong("there are too many parentheses")

    def wrong(self, reason: str, position: int | None = None, form: str = "") -> InputError:
        """The error at a position (default: of the next token), with an example or `form`."""
        at = self.tokens[self.place][2] if position is None else position
        here = repr(self.text[at]) if at < len(self.text) else "the end"
        written = form or f"write it like {self.examples}"
        return InputError(
            self.name, self.text, f"at character {at + 1}, {here}: {reason}; {written}"
        )

    def number(self) -> Fraction:
        """The present token as an exact number, left behind."""
        position, text = self.tokens[self.place][2], self.next()
        value = Fraction(self.plain(text, position))
        if value > LARGEST_NUMBER or 0 < value < 1 / Fraction(LARGEST_NUMBER):
            raise self._out_of_range(text, position)
        return value

    def plain(self, text: str, position: int = 0) -> str:
        """A number in the form that `Fraction` reads, if its power of ten is not absurd."""
        power = text.lower().partition("e")[2]
        if abs(int(power or 0)) > MOST_CHARACTERS:
            raise self._out_of_range(text, position)
        return text

    def _out_of_range(self, text: str, position: int) -> InputError:
        bounds = f"{1 / LARGEST_NUMBER:g} to {LARGEST_NUMBER:g}"
        return self.wrong(
            f"{shown(text)} is too large or too small", position, f"numbers are {bounds}"
        )
