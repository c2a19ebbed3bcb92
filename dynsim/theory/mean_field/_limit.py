"""A limit on the time that mean-field solutions take: it is looked at between two of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class OutOfTime(Exception):
    """The solutions did not come in time; the text is one sentence."""


_LIMIT: ContextVar[tuple[float, str] | None] = ContextVar("limit", default=None)


@contextmanager
def time_limit(seconds: float, problem: str) -> Iterator[None]:
    """Solutions that are begun inside the block after these seconds raise `OutOfTime(problem)`."""
    token = _LIMIT.set((time.perf_counter() + seconds, problem))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def check_time() -> None:
    """Raises `OutOfTime` if the time is over. Called before each solution."""
    limit = _LIMIT.get()
    if limit is not None and time.perf_counter() > limit[0]:
        raise OutOfTime(limit[1])
