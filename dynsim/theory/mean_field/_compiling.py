"""Programs of `solve`, compiled beside the preparation of what they will solve.

A program is traced by the thread that asks for it first, since that takes Python's time, which
threads share. Another thread compiles it, once for all.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import jax

from dynsim._programs import LESS

from ._solver import Case, Descent, Multipliers, Plan, Sizes, Tokens, solve

MOST_PROGRAMS = 16  # that are kept; a study has plans without end, and a process little room

# On a CPU. Two calls run at a time, so that one of many solutions needs no threads of its own; a
# program of one solution in turn takes longer to compile than to run.
SIDE_BY_SIDE = {**LESS, "xla_cpu_multi_thread_eigen": False}
IN_TURN = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

# Not every version of XLA knows them. Its emitters of fused loops take most of a compilation, and
# the loops of many solutions are no faster by them.
SOONER = {"xla_cpu_use_fusion_emitters": False}
IN_ONE_PIECE = {"xla_cpu_parallel_codegen_split_count": 1}

_programs: dict[tuple[Plan, int], Future[Any]] = {}  # by plan and number of cases
_of_programs = threading.Lock()


def solve_compiled(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, cases: Case
) -> tuple[Any, Any]:
    """`solve`, compiled once for all threads."""
    program = compiling(plan, len(cases.side), descent).result()
    return program(tokens, sizes, descent, cases)


def compiling(plan: Plan, at_once: int, descent: Descent) -> Future[Any]:
    """The program of a plan for so many cases; of the descent only shapes count.

    One that could not be compiled is tried again when it is asked for again.
    """
    key = plan, at_once
    with _of_programs:
        known = _programs.get(key)
        if known is None or (known.done() and known.exception() is not None):
            while len(_programs) >= MOST_PROGRAMS:
                del _programs[next(iter(_programs))]  # the oldest
            lowered = solve.lower(plan, *_arguments(plan, at_once, descent))
            known = _programs[key] = Future()
            arguments = lowered, plan.in_turn, known
            threading.Thread(target=_compile, args=arguments, daemon=True).start()
        return known


def _compile(lowered: Any, in_turn: bool, found: Future[Any]) -> None:
    try:
        found.set_result(_compiled_soon(lowered, in_turn))
    except BaseException as error:  # for whoever waits
        found.set_exception(error)


def _compiled_soon(lowered: Any, in_turn: bool) -> Any:
    """On a CPU with the options that make it quick, as far as this version of XLA has them."""
    if jax.default_backend() != "cpu":
        return lowered.compile()
    known = IN_TURN if in_turn else SIDE_BY_SIDE
    newer = {**SOONER, **IN_ONE_PIECE} if in_turn else SOONER
    try:
        return lowered.compile(compiler_options={**known, **newer})
    except RuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile(compiler_options=known)


def _arguments(plan: Plan, cases: int, descent: Descent) -> tuple[Tokens, Sizes, Descent, Case]:
    """Shapes of what a plan solves."""

    def of(*shape: int, kind: type = float) -> Any:
        return jax.ShapeDtypeStruct(shape, kind)

    m, count, n, steps, depth = plan.tokens, plan.neurons, plan.outputs, plan.steps, plan.depth
    one, places = of(), steps + 1
    return (
        Tokens(of(m), of(m), of(m, n), of(m, kind=bool)),
        Sizes(one, one, one, one, Multipliers(one, one, one), one, one, of(kind=bool)),
        descent,
        Case(
            of(cases),
            of(cases, depth),
            of(cases),
            of(cases, kind=int),
            of(cases),
            of(cases, steps, m),
            of(cases, places, m, n),
            of(cases, places, m, n),
            of(cases, places, count, n),
            of(cases, steps, 2 * depth, count, n),
        ),
    )
