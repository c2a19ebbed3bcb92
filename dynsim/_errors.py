"""The one error for bad input, and the checks that raise it."""

from __future__ import annotations

import math
from typing import Any


class InputError(ValueError):
    """A value that the user gave is outside what is allowed.

    The message is one line: the option, the value (None: it is missing), what is allowed.
    """

    def __init__(self, option: str, value: object, allowed: str):
        self.option, self.value, self.allowed = option, value, allowed
        given = "is missing" if value is None else shown(value)
        super().__init__(f"{option} {given}: {allowed}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.option, self.value, self.allowed)  # so that processes can pass it


def shown(value: object) -> str:
    """`value` as one short printable line; of a long one the ends, since a path's matters."""
    text = repr(value) if isinstance(value, str) else str(value)
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 80 else f"{text[:37]}...{text[-40:]}"


def check_integer(option: str, value: int, low: int, high: int | None = None) -> None:
    """Raises `InputError` unless `value` is an integer within [low, high]."""
    allowed = f"must be an integer of at least {low}"
    if high is not None:
        allowed += f" and at most {high}"
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(option, value, allowed)
    if high is not None and value > high:
        raise InputError(option, value, allowed)


def check_rate(option: str, value: float) -> None:
    """Raises `InputError` unless `value` is a finite number of at least 0."""
    if not math.isfinite(value) or value < 0 or value > 1e30:
        raise InputError(option, value, "must be a finite number from 0 to 1e30")


def check_share(option: str, value: float) -> None:
    """Raises `InputError` unless `value` is at least 0 and less than 1."""
    if not 0 <= value < 1:
        raise InputError(option, value, "must be at least 0 and less than 1")


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `InputError` unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(option, value, "must be one of " + ", ".join(choices))
