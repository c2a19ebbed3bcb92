"""Chunks of runs in threads: each core trains its own, which short steps profit from most."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, TypeVar

import jax

R = TypeVar("R")
T = TypeVar("T")

PIECES = 8
"""chunks that a grid is cut into at least, whatever the machine, so that cores have work and the
numbers do not depend on how many there are"""


def core_count() -> int:
    """Threads that train at once: this process's cores, no more than `OMP_NUM_THREADS` says; one
    where there is an accelerator or where runs are spread over devices already."""
    if jax.default_backend() != "cpu" or len(jax.devices()) > 1:
        return 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, int(asked) if asked.isdecimal() else 2**20))


class Stopped(Exception):
    """Another chunk has failed, or the user has stopped the run."""


class Crew:
    """Threads that work on the chunks of one training.

    - `call`: of a jitted function; the first of the threads compiles it, the others wait.
    - `check`: raises `Stopped` once the work is in vain; to be called now and then.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._first: dict[int, threading.Lock] = {}
        self._compiled: set[int] = set()

    def call(self, function: Callable[..., R], *arguments: Any) -> R:
        name = id(function)
        if self._workers == 1 or name in self._compiled:
            return function(*arguments)
        with self._lock:
            first = self._first.setdefault(name, threading.Lock())
        with first:
            found = function(*arguments)
            self._compiled.add(name)
        return found

    def check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def reporting(self, progress: Callable[[float], object] | None) -> Callable[[float], object]:
        """`progress`, called by one thread at a time."""

        def report(share: float) -> None:
            if progress is not None:
                with self._lock:
                    progress(share)

        return report

    def map(self, work: Callable[[T], object], items: Iterable[T]) -> None:
        """`work` on every item. Raises what the first that failed has raised."""
        items = list(items)
        if self._workers == 1 or len(items) == 1:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(min(self._workers, len(items))) as pool:
            tasks = [pool.submit(copy_context().run, self._one, work, item) for item in items]
            try:
                wait(tasks, return_when="FIRST_EXCEPTION")
            finally:
                self._stop.set()
                for task in tasks:
                    task.cancel()
        failures = [e for task in tasks if not task.cancelled() and (e := task.exception())]
        for failure in sorted(failures, key=lambda error: isinstance(error, Stopped)):
            raise failure

    def _one(self, work: Callable[[T], object], item: T) -> None:
        self.check()
        work(item)
