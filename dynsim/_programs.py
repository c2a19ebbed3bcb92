"""Compiled programs, with as much optimisation as they profit from."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper, wraps
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

import jax

MOST_MAPPINGS = 25_000  # of memory, of which Linux allows a process 65,530

LESS = {"xla_backend_optimization_level": 1}
"""LLVM's passes beyond the first level take a good part of a compilation. They may reorder sums,
and with them the last digits; loops over arrays and products of matrices gain no speed by them."""
_sooner: ContextVar[bool] = ContextVar("compiled sooner", default=False)

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def compiled_sooner() -> Iterator[None]:
    """Within it (and its thread) a CPU's programs compile sooner, to rounding the same numbers."""
    token = _sooner.set(True)
    try:
        yield
    finally:
        _sooner.reset(token)


class Program(Generic[P, R]):
    """A jitted function.

    - `traces`: how often it was traced: once for each shape, with whatever passes it is compiled.
    - `jitted`: what `jax.jit` made of the function, for all that only it has, such as `lower`.
    """

    def __init__(self, function: Callable[P, R], without_sums: bool, options: dict[str, Any]):
        @wraps(function)
        def counted(*arguments: P.args, **named: P.kwargs) -> R:
            self.traces += 1
            return function(*arguments, **named)

        self.traces = 0
        self._without_sums = without_sums
        self.jitted = jax.jit(counted, **options)
        self._sooner = jax.jit(counted, compiler_options=LESS, **options)
        self.lower = self.jitted.lower
        update_wrapper(self, function)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        less = (self._without_sums or _sooner.get()) and _on_an_optimising_cpu()
        return (self._sooner if less else self.jitted)(*arguments, **named)


def program(
    function: Callable[P, R], *, without_sums: bool = False, **options: Any
) -> Program[P, R]:
    """`function` jitted; `options` are those of `jax.jit`.

    A function `without_sums` of floating numbers always compiles sooner, as its numbers are bit
    for bit the same. Not to be called within another jitted function.
    """
    return Program(function, without_sums, options)


def _on_an_optimising_cpu() -> bool:
    switched_off = jax.config.read("jax_disable_most_optimizations")
    return not switched_off and jax.default_backend() == "cpu"


def many_mappings(most: int = MOST_MAPPINGS) -> bool:
    """Whether the process has more than so many mappings of memory; False where none are told.

    Each compiled program takes some, and a compilation beyond the system's limit ends the process.
    """
    mappings = Path("/proc/self/maps")
    return mappings.exists() and mappings.read_bytes().count(b"\n") > most


def release_programs() -> None:
    """Lets all compiled programs go that are not running; they are compiled again when needed."""
    jax.clear_caches()
    gc.collect()  # programs that are part of a cycle
