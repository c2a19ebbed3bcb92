"""Two calculations at a time on a CPU: one's program is compiled while another one runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import jax

Result = TypeVar("Result")
Report = Callable[[float], None]


def side_by_side(
    calculations: Sequence[Callable[[Report], Result]], progress: Callable[[float], object]
) -> list[Result]:
    """The results in order: the first of them beside all others, which follow each other.

    A calculation takes the function to which it reports its progress. `progress` is called by one
    of them at a time. If the first one raises, the others end at their next report.
    """
    lock, over = threading.Lock(), threading.Event()

    def report(part: float) -> None:
        if over.is_set():
            raise _Over
        with lock:
            progress(part)

    if jax.default_backend() != "cpu":
        return [calculate(report) for calculate in calculations]
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(copy_context().run, one, report) for one in calculations[1:]]
        try:
            return [calculations[0](report), *(one.result() for one in waiting)]
        except BaseException:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Over(Exception):
    """Another calculation has failed: what this one would find is not needed."""
