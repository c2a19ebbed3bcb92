"""Mean-field solutions of many setups, sooner: few particles, and one program for all sizes.

`predict` asks for a small error and takes its time; for the power of a size in a quantity an error
of a percent will do. The compiled shape holds particles, outputs, loss, optimizer and steps, never
a width or a vocabulary. To compile takes longer than few solutions themselves, so there is one
program, of one solution, without most optimisations. Many solutions, of a grid of learning rates
after many steps, are computed side by side by a program with some more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dynsim._errors import check_integer
from dynsim._network_setup import NetworkSetup
from dynsim._precision import require_x64
from dynsim._setup import Experiment, Setup, check_covered

from ._averages import Records, combined
from ._compiling import compiling, solve_compiled
from ._model import Model, model_of
from ._particles import TokenParticles, token_particles
from ._predict import (
    MAX_REPLICAS,
    TOKENS_PER_NEURON,
    check_memory,
    checked_particles,
    enough_particles,
    paired_rates,
    sets_of_solutions,
)
from ._replicas import Rates, Sampling, chunk_size, descent_of, solutions
from ._result import Floats
from ._solver import Plan

FIRST_PARTICLES, PARTICLES, REPLICAS, STRATA = 512, 1024, 8, 1
COLUMNS = ("loss", "projection_update_rms", "embedding_update_rms", "projection_step_rms")
AT_ONCE = 8  # solutions of one call, of those in turn
IN_TURN = 7e6  # entries of all tables at all steps; of more, side by side is sooner


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
        model, plan = _own_plan(setup, particles, replicas)
        vocabulary = token_particles(setup, plan.tokens)
        own = Rates(
            np.array([setup.embedding_lr]), np.empty((1, 0)), np.array([setup.projection_lr])
        )

        def report(part: float) -> None:
            if progress is not None:
                progress(part / (2 * len(setups)))

        limit, independent = (
            _records(setup, model, plan, vocabulary, _sampling(plan, own, replicas, even), report)
            for even in (True, False)
        )
        ratio = min(setup.width, plan.neurons) / setup.width
        with np.errstate(invalid="ignore", over="ignore"):
            mean, spread, _, _ = combined([limit, limit, independent], ratio, STRATA, math.inf)
            rms = np.sqrt(np.where(mean < 0, 0, mean))
            error = spread / np.maximum(2 * rms, np.sqrt(np.maximum(spread, 1e-300)))
        values = {name: rms[0, :, place] for place, name in enumerate(COLUMNS)}
        errors = {name: error[0, :, place] for place, name in enumerate(COLUMNS)}
        values["loss"], errors["loss"] = mean[0, :, 0], spread[0, :, 0]
        found.append(QuickPrediction(values, errors))
    return found


def begin_prediction(setup: Setup) -> None:
    """Begins to compile, in a thread, what `quick_predictions` of the setup takes.

    It takes what the program takes to trace, at any size. Raises as `quick_predictions` does.
    """
    require_x64()
    model, plan = _own_plan(setup, None, REPLICAS)
    compiling(plan, _at_once(plan, 2 * REPLICAS), descent_of(setup, model))


def _own_plan(setup: Setup, particles: int | None, replicas: int) -> tuple[Model, Plan]:
    """Of a setup at its own learning rates."""
    check_covered(setup, "mean-field theory")
    model = model_of(setup)
    tokens = few_particles(setup) if particles is None else particles
    neurons = max(tokens // TOKENS_PER_NEURON, 4 * setup.output_count * setup.steps)
    return model, _plan(setup, model, tokens, neurons, 2 * replicas)


def _plan(setup: Experiment, model: Model, tokens: int, neurons: int, cases: int) -> Plan:
    plan = Plan(
        tokens,
        neurons,
        setup.output_count,
        setup.loss_name,
        model.optimizer,
        setup.steps,
        True,
        model.depth,
        model.residual,
        model.muon,
        transposed=False,
    )
    entries = (tokens + model.depth * neurons) * neurons * setup.steps * cases
    return plan._replace(in_turn=entries <= IN_TURN)


def quick_means(
    setup: Setup | NetworkSetup,
    embedding_lrs: ArrayLike,
    second_lrs: ArrayLike,
    *,
    particles: int,
    replicas: int,
) -> Floats:
    """Loss and mean-square updates, shape (L, T, columns), at pairs of learning rates, (L,) each.

    Of the linear model, with the loss and the squares of the other `COLUMNS`; its second rate is
    the projection's. Or of a network with linear hidden layers, whose common rate is the second
    one; the squares of their updates are further columns. Up to 15 replicas the numbers are those
    of `predict` without `error_estimate` and `finite_width`, to rounding (with one output; with
    more they are another sample), and the same errors are raised.
    """
    require_x64()
    model = model_of(setup)
    assert model.linear, "the plan is of linear layers"
    check_integer("replicas", replicas, 2, MAX_REPLICAS)
    if isinstance(setup, Setup):
        rates = paired_rates(setup, model.depth, embedding_lrs, None, second_lrs)
    else:
        rates = paired_rates(setup, model.depth, embedding_lrs, second_lrs, None)
    particles = checked_particles(setup, particles)
    (one,) = sets_of_solutions(setup, model, particles, False, False)
    check_memory(setup, model, one)
    cases = 2 * replicas * len(rates.embedding)
    plan = _plan(setup, model, one.tokens, one.neurons, cases)
    vocabulary = token_particles(setup, one.tokens)
    sampling = _sampling(plan, rates, replicas, True)
    return _records(setup, model, plan, vocabulary, sampling, lambda part: None).mean(axis=1)


def _sampling(plan: Plan, rates: Rates, replicas: int, evenly_spread: bool) -> Sampling:
    at_once = _at_once(plan, 2 * replicas * len(rates.embedding))
    few = plan.in_turn  # normals
    return Sampling(replicas, STRATA, rates, evenly_spread, None, at_once=at_once, few=few)


def _at_once(plan: Plan, cases: int) -> int:
    """Solutions of one call: a power of two."""
    if not plan.in_turn:
        return chunk_size(plan, cases, None)
    return min(AT_ONCE, 2 ** math.ceil(math.log2(cases)))


def _records(
    setup: Experiment,
    model: Model,
    plan: Plan,
    vocabulary: TokenParticles,
    sampling: Sampling,
    report: Callable[[float], None],
) -> Records:
    return solutions(setup, model, plan, vocabulary, sampling, report, solve_compiled)[0]


def few_particles(setup: Setup) -> int:
    """A power of two that is enough for the setup's outputs and steps. Raises `InputError`."""
    first_step = setup.steps <= 2 and not setup.batch_size
    return enough_particles(setup, FIRST_PARTICLES if first_step else PARTICLES)
