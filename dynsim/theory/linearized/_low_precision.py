"""Whether a function computes what depends on its parameters in less than float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from dynsim._outcome import Outcome, Status

from ._result import LinearizedTraining


def low_precision(f: Callable[..., Any], params: Any, x: Any = None) -> str | None:
    """The shortest floating type in which f computes something that depends on its parameters, if
    that is shorter than float64."""
    closed = jax.make_jaxpr(lambda p: f(p) if x is None else f(p, x))(params)
    program = closed.jaxpr
    found = _shorter_types(program, [True] * len(program.invars))
    return min(found, key=lambda name: jnp.finfo(name).bits) if found else None


def with_precision(result: LinearizedTraining, shorter: str | None) -> LinearizedTraining:
    """A result that is ok, as inaccurate where f computes in a shorter type."""
    if shorter is None or not result.outcome.ok:
        return result
    return replace(result, outcome=Outcome(Status.INACCURATE, _message(shorter)))


def warn_of_precision(f: Callable[..., Any], params: Any, x: Any = None) -> None:
    """Warns where there is no outcome to say it."""
    shorter = low_precision(f, params, x)
    if shorter is not None:
        warnings.warn(_message(shorter), stacklevel=3)


def _message(shorter: str) -> str:
    digits = -jnp.finfo(shorter).machep * 0.30103
    return (
        f"f computes in {shorter}, with about {digits:.0f} digits, and the kernel and what follows "
        "from it have no more; let f keep the type of its parameters"
    )


def _shorter_types(program: Any, depends: Iterable[bool]) -> set[str]:
    """Floating types shorter than float64 of what depends on the marked inputs of a program."""
    marked = {variable for variable, on in zip(program.invars, depends, strict=True) if on}
    found: set[str] = set()
    for step in program.eqns:
        inputs = [not hasattr(one, "val") and one in marked for one in step.invars]
        if not any(inputs):
            continue
        marked.update(step.outvars)
        for inner in programs_of(step.params):
            same = len(inner.invars) == len(inputs)
            found |= _shorter_types(inner, inputs if same else [True] * len(inner.invars))
        for one in step.outvars:
            kind = getattr(one.aval, "dtype", None)
            if kind is not None and jnp.issubdtype(kind, jnp.floating):
                found |= {kind.name} if jnp.finfo(kind).bits < 64 else set()
    return found


def programs_of(values: Any) -> list[Any]:
    """The programs among the parameters of a step (of jit, scan, cond, custom derivatives)."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [program for value in values for program in programs_of(value)]
    inner = getattr(values, "jaxpr", values)
    return [inner] if hasattr(inner, "eqns") and hasattr(inner, "invars") else []
