"""A second process, which judges and draws beside the first: Python's threads share one core."""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from dynsim import InputError
from experiments.kept_between_runs import ignore_damaged_programs
from experiments.precision import enable_x64
from experiments.topics._names import known_figures

if TYPE_CHECKING:
    import xarray as xr

    from dynsim.claims import Evidence

P = ParamSpec("P")
R = TypeVar("R")

_MORE_OBJECTS = (100_000, 20, 50)  # between Python's searches for cycles, a twentieth of the time


@contextlib.contextmanager
def second_process() -> Iterator[ProcessPoolExecutor | None]:
    """A process beside this one, which imports what it needs at once; None where none can start.

    It starts afresh, for a fork of a process that has used JAX may hang. It ends with this one, and
    at once where this one raises. Ctrl-C, which a terminal sends to both, is for this one alone.
    """
    others = set(multiprocessing.active_children())
    pool = _started()
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.kill()
        raise
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _started() -> ProcessPoolExecutor | None:
    try:
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare)
        # Python's tracker of semaphores, which runs from here on, lets Ctrl-C through as it starts.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the process inherits it
        try:
            pool.submit(int)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return pool
    except (OSError, NotImplementedError):  # no process, or no semaphores
        return None


@contextlib.contextmanager
def fewer_searches_for_cycles() -> Iterator[None]:
    """Python looks for cycles of objects less often."""
    threshold = gc.get_threshold()
    gc.set_threshold(*_MORE_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


def _prepare() -> None:
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    import jax

    jax.config.update("jax_platforms", "cpu")  # the first process has the accelerator's memory
    ignore_damaged_programs()
    enable_x64()
    atexit.register(gc.freeze)  # as in the first process
    gc.set_threshold(*_MORE_OBJECTS)
    import experiments.topics._draw
    import experiments.topics._study  # noqa: F401


def _end_with_the_first() -> None:
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)


def begun(
    process: ProcessPoolExecutor | None, work: Callable[P, R], *args: P.args, **named: P.kwargs
) -> Callable[[], R]:
    """Has the process do this work, or does it at once; what is returned gives the result.

    Should the process be lost, the work is done by who asks for the result.
    """
    here = partial(work, *args, **named)
    if process is None:
        done = here()
        return lambda: done
    try:
        started = process.submit(work, *args, **named)
    except BrokenProcessPool:
        return here

    def result() -> R:
        try:
            return started.result()
        except BrokenProcessPool:
            return here()

    return result


def draw_stored(
    name: str,
    source: Path,
    folder: Path,
    formats: Sequence[str] = ("png", "pdf"),
    field: str = "data",
) -> list[Path]:
    """Draws a figure from the stored studies of a folder; returns the files.

    `field` is the option that names the folder, as it stands in an error.
    """
    enable_x64()
    from dynsim._programs import compiled_sooner
    from experiments.topics._draw import draw

    studies = {need: study_in(source, need, field) for need in known_figures()[name].studies}
    with compiled_sooner():  # the last digits are not seen
        return draw(name, studies, folder, formats)


def judge_stored(names: Sequence[str], source: Path) -> dict[str, Evidence]:
    """The evidence of claims on the stored studies of a folder."""
    enable_x64()
    from experiments.topics._registry import CLAIMS

    claims = [CLAIMS[name] for name in names]
    return {one.name: one.evidence(study_in(source, one.study, "out")) for one in claims}


@cache
def study_in(folder: Path, name: str, field: str) -> xr.Dataset:
    """A study of a folder, which all figures and claims of a run share; none of them changes it.

    Raises `InputError` of `field` for a file that cannot be read.
    """
    from experiments.results import load, unreadable

    path = folder / f"{name}.nc"
    try:
        return load(path)
    except OSError as error:
        raise InputError(field, str(path), unreadable(error)) from None
