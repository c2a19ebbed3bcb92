"""The one error for bad input, and the checks that raise it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

_FIELD = re.compile(r"`(\w+)`")


def named(text: str, name: Callable[[str], str]) -> str:
    """A text in which fields stand between backticks, with every field named by `name`."""
    return _FIELD.sub(lambda match: name(match[1]), text)


class InputError(ValueError):
    """A value that the user gave is outside what is allowed.

    The message is one line: the field or argument, the value (None: it is missing), what is
    allowed. In `allowed` other fields stand between backticks, so that each surface can name them
    its own way: Python writes `vocab_size`, the command line --vocab-size.
    """

    def __init__(self, field: str, value: object, allowed: str):
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(self.written(str))

    def written(self, name: Callable[[str], str]) -> str:
        """The message with every field named by `name`."""
        given = "is missing" if self.value is None else shown(self.value)
        return f"{name(self.field)} {given}: {named(self.allowed, name)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.allowed)  # so that processes can pass it


def shown(value: object) -> str:
    """`value` as one short printable line; of a long one the ends, since a path's matters."""
    text = repr(value) if isinstance(value, str) else str(value)
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 80 else f"{text[:37]}...{text[-40:]}"


def check_integer(field: str, value: int, low: int, high: int | None = None) -> None:
    """Raises `InputError` unless `value` is an integer within [low, high].

    **Example:**

    >>> from dynsim import InputError, check_integer
    >>> check_integer("steps", 3, 1, 10)
    >>> try:
    ...     check_integer("steps", 0, 1, 10)
    ... except InputError as error:
    ...     print(error)
    ...
    steps 0: must be an integer of at least 1 and at most 10
    """
    allowed = f"must be an integer of at least {low}"
    if high is not None:
        allowed += f" and at most {high}"
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(field, value, allowed)
    if high is not None and value > high:
        raise InputError(field, value, allowed)


def check_rate(field: str, value: float) -> None:
    """Raises `InputError` unless `value` is a finite number of at least 0."""
    if not math.isfinite(value) or value < 0 or value > 1e30:
        raise InputError(field, value, "must be a finite number from 0 to 1e30")


def check_share(field: str, value: float) -> None:
    """Raises `InputError` unless `value` is at least 0 and less than 1."""
    if not 0 <= value < 1:
        raise InputError(field, value, "must be at least 0 and less than 1")


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `InputError` unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(field, value, "must be one of " + ", ".join(choices))
