"""The error for a vocabulary that a text cannot fill, with the size that it can."""

from __future__ import annotations

from dynsim._errors import InputError


class Unfilled(InputError):
    """A vocabulary that a corpus cannot fill; `largest` is what it can fill."""

    largest: int = 0


def unfilled(vocab_size: int, largest: int, allowed: str) -> Unfilled:
    """The error with its `largest`."""
    error = Unfilled("vocab_size", vocab_size, allowed)
    error.largest = largest
    return error
