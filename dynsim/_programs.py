"""Compiled programs, with as much optimisation as they profit from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

import jax

LESS = {"xla_backend_optimization_level": 1}
"""LLVM's passes beyond the first level take a good part of a compilation. They may reorder sums,
and with them the last digits; loops over arrays and products of matrices gain no speed by them."""
_sooner: ContextVar[bool] = ContextVar("compiled sooner", default=False)

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def compiled_sooner() -> Iterator[None]:
    """Within it (and its thread) a CPU's programs compile sooner, to rounding the same numbers."""
    token = _sooner.set(True)
    try:
        yield
    finally:
        _sooner.reset(token)


def program(function: F, *, without_sums: bool = False, **options: Any) -> F:
    """`function` jitted; `options` are those of `jax.jit`, and `lower` is that of its result.

    A function `without_sums` of floating numbers always compiles sooner, as its numbers are bit
    for bit the same. Not to be called within another jitted function.
    """
    usual = jax.jit(function, **options)
    sooner = jax.jit(function, compiler_options=LESS, **options)

    @wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        less = (without_sums or _sooner.get()) and _on_an_optimising_cpu()
        return (sooner if less else usual)(*arguments, **named)

    for name in ("lower", "_cache_size"):
        setattr(called, name, getattr(usual, name))
    return called  # type: ignore[return-value]


def _on_an_optimising_cpu() -> bool:
    switched_off = jax.config.read("jax_disable_most_optimizations")
    return not switched_off and jax.default_backend() == "cpu"
