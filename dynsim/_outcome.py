"""How a prediction, a flow or a fit ended: an enumeration, with a message that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ._errors import named


class Status(StrEnum):
    """Kinds of outcomes; the value is how it prints and how it is stored."""

    OK = "ok"
    FLAT = "flat"
    """near-optimal values span a wide range"""
    EDGE = "edge"
    """the optimum lies at the end of its grid"""
    UNDETERMINED = "undetermined"
    """the data do not say"""
    NO_INTERVAL = "no interval"
    """a value without an interval"""
    MISFIT = "misfit"
    """the model does not describe the data"""
    DIVERGED = "diverged"
    """a loss or a state left all bounds: a result, not a failure"""
    INACCURATE = "inaccurate"
    """the numerical error is larger than it should be"""
    STOPPED = "stopped"
    """a solver gave up before the end"""


@dataclass(frozen=True)
class Outcome:
    """A status and, where it is not ok, what happened and what to change. Prints as one line.

    In `message` fields stand between backticks, as in `InputError`.
    """

    status: Status = Status.OK
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    def written(self, name: Callable[[str], str]) -> str:
        """The line with every field named by `name`."""
        return f"{self.status}: {named(self.message, name)}" if self.message else str(self.status)

    def __str__(self) -> str:
        return self.written(str)


OK = Outcome()
