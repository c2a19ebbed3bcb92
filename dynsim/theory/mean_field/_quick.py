"""Mean-field solutions of many setups, sooner: few particles, and one program for all sizes.

`predict` asks for a small error and takes its time; for the power of a size in a quantity an error
of a percent will do. The compiled shape holds particles, outputs, loss, optimizer and steps, never
a width or a vocabulary. To compile takes longer than few solutions themselves, so there is one
program, of one solution, without most optimisations. Many solutions, of a grid of learning rates
after many steps, are computed side by side by a program with some more.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from dynsim._network_setup import NetworkSetup
from dynsim._precision import require_x64
from dynsim._programs import LESS
from dynsim._setup import Experiment, Setup, check_covered

from ._averages import Records, combined
from ._model import Model, model_of
from ._particles import TokenParticles, token_particles
from ._predict import TOKENS_PER_NEURON, enough_particles, paired_rates, sets_of_solutions
from ._replicas import Rates, Sampling, solutions
from ._result import Floats
from ._solver import Case, Descent, Plan, Sizes, Tokens, solve

FIRST_PARTICLES, PARTICLES, REPLICAS, STRATA = 512, 1024, 8, 1
COLUMNS = ("loss", "projection_update_rms", "embedding_update_rms", "projection_step_rms")
AT_ONCE = 8  # solutions of one call
IN_TURN = 7e6  # entries of all tables at all steps; of more, side by side is sooner
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SOONER = {  # not every version of XLA knows them
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


class QuickPrediction(NamedTuple):
    """Columns of `Prediction` by name, and their standard errors, of shape (T,)."""

    values: dict[str, Floats]
    errors: dict[str, Floats]


def quick_predictions(
    setups: Sequence[Setup],
    *,
    particles: int | None = None,
    replicas: int = REPLICAS,
    progress: Callable[[float], object] | None = None,
) -> list[QuickPrediction]:
    """The mean-field solution of each setup at its own learning rates.

    With the finite-width correction of `predict`; the errors are standard errors over replicas and
    leave out the bias of a finite number of particles, by default 1024 (512 for one step in full
    batch) or what is enough for outputs and steps. Raises as `predict` does.
    """
    require_x64()
    found = []
    for setup in setups:
        check_covered(setup, "mean-field theory")
        model = model_of(setup)
        tokens = few_particles(setup) if particles is None else particles
        neurons = max(tokens // TOKENS_PER_NEURON, 4 * setup.output_count * setup.steps)
        fields = (setup.output_count, setup.loss_name, setup.optimizer, setup.steps, True)
        plan = Plan(tokens, neurons, *fields, transposed=False, in_turn=True)
        vocabulary = token_particles(setup, tokens)
        own = Rates(
            np.array([setup.embedding_lr]), np.empty((1, 0)), np.array([setup.projection_lr])
        )

        def report(part: float) -> None:
            if progress is not None:
                progress(part / (2 * len(setups)))

        limit, independent = (
            _records(setup, model, plan, vocabulary, _sampling(own, replicas, even), report)
            for even in (True, False)
        )
        ratio = min(setup.width, neurons) / setup.width
        with np.errstate(invalid="ignore", over="ignore"):
            mean, spread, _, _ = combined([limit, limit, independent], ratio, STRATA, math.inf)
            rms = np.sqrt(np.where(mean < 0, 0, mean))
            error = spread / np.maximum(2 * rms, np.sqrt(np.maximum(spread, 1e-300)))
        values = {name: rms[0, :, place] for place, name in enumerate(COLUMNS)}
        errors = {name: error[0, :, place] for place, name in enumerate(COLUMNS)}
        values["loss"], errors["loss"] = mean[0, :, 0], spread[0, :, 0]
        found.append(QuickPrediction(values, errors))
    return found


def quick_means(
    setup: Setup | NetworkSetup,
    embedding_lrs: ArrayLike,
    second_lrs: ArrayLike,
    *,
    particles: int,
    replicas: int,
) -> Floats:
    """Loss and mean-square updates, shape (L, T, columns), at pairs of learning rates, (L,) each.

    The columns are the loss and the squares of the other `COLUMNS`. The second rate is the
    projection's or, of a network with linear hidden layers, theirs. The numbers are those of
    `predict` without `error_estimate` and `finite_width`, to rounding, and with the same errors
    raised.
    """
    require_x64()
    model = model_of(setup)
    assert model.linear, "the plan below is of linear layers"
    if isinstance(setup, Setup):
        rates = paired_rates(setup, model.depth, embedding_lrs, None, second_lrs)
    else:
        rates = paired_rates(setup, model.depth, embedding_lrs, second_lrs, None)
    (one,) = sets_of_solutions(setup, model, particles, False, False)
    work = one.pairs(model.depth) * setup.steps * 2 * replicas * len(rates.embedding)
    plan = Plan(
        one.tokens,
        one.neurons,
        setup.output_count,
        setup.loss_name,
        model.optimizer,
        setup.steps,
        True,
        model.depth,
        model.residual,
        model.muon,
        transposed=False,
        in_turn=work <= IN_TURN,
    )
    vocabulary = token_particles(setup, one.tokens)
    sampling = _sampling(rates, replicas, True)
    return _records(setup, model, plan, vocabulary, sampling, lambda part: None).mean(axis=1)


def _sampling(rates: Rates, replicas: int, evenly_spread: bool) -> Sampling:
    cases = 2 * replicas * len(rates.embedding)
    at_once = min(AT_ONCE, 2 ** math.ceil(math.log2(cases)))
    return Sampling(replicas, STRATA, rates, evenly_spread, None, at_once=at_once, few=True)


def _records(
    setup: Experiment,
    model: Model,
    plan: Plan,
    vocabulary: TokenParticles,
    sampling: Sampling,
    report: Callable[[float], None],
) -> Records:
    return solutions(setup, model, plan, vocabulary, sampling, report, _solve_sooner)[0]


def few_particles(setup: Setup) -> int:
    """A power of two that is enough for the setup's outputs and steps. Raises `InputError`."""
    first_step = setup.steps <= 2 and not setup.batch_size
    return enough_particles(setup, FIRST_PARTICLES if first_step else PARTICLES)


class _Begun(Exception):
    """The first program is being compiled."""


def begin(solve_something: Callable[[], object]) -> None:
    """Begins, in a thread, to compile the first program that a function solves by.

    The function is left there, without a solution. Its other exceptions are raised.
    """
    token = _only_begin.set(True)
    try:
        with contextlib.suppress(_Begun):
            solve_something()
    finally:
        _only_begin.reset(token)


_only_begin: ContextVar[bool] = ContextVar("programs are only begun", default=False)
_programs: dict[tuple[Plan, int], Future[Any]] = {}  # by plan and number of cases
_compilers = ThreadPoolExecutor(2)
_lowering = threading.Lock()


def _solve_sooner(
    plan: Plan, tokens: Tokens, sizes: Sizes, descent: Descent, cases: Case
) -> tuple[Any, Any]:
    """`solve`, compiled once for each plan without most optimisations."""
    key = plan, len(cases.side)
    with _lowering:  # sizes are solved in threads, and need the same program
        if key not in _programs:
            lowered = solve.lower(plan, tokens, sizes, descent, cases)
            options = UNOPTIMISED if plan.in_turn else LESS
            _programs[key] = _compilers.submit(_compiled, lowered, options)
    if _only_begin.get():
        raise _Begun
    return _programs[key].result()(tokens, sizes, descent, cases)


def _compiled(lowered: jax.stages.Lowered, options: dict[str, Any]) -> jax.stages.Compiled:
    try:
        return lowered.compile(compiler_options=options | SOONER)
    except jax.errors.JaxRuntimeError:
        return lowered.compile(compiler_options=options)
