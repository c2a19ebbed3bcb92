"""Mean-field dynamics: what large networks do, at any ratio of vocabulary to width, untrained.

`predict` combines up to three sets of solutions: of the limit; of the limit with about half the
particles, which shows the bias; and of as few independent neurons. An empirical measure of N
independent neurons fluctuates as that of a network of N neurons, so to first order in 1/d a network
of width d differs from the limit by N/d times what N such particles do. That is the finite-width
correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_integer
from dynsim._precision import require_x64
from dynsim._setup import Setup, check_covered

from ._averages import combined
from ._particles import token_particles
from ._replicas import Sampling, solutions
from ._result import Floats, Prediction, outcome
from ._solver import Plan

MAX_PARTICLES, MAX_REPLICAS = 2**15, 10_000
DEFAULT_PARTICLES = 2048
TOKENS_PER_NEURON = 4  # a sampled tail needs more particles than the neurons do
DEFAULT_REPLICAS, MOST_EXTRA_REPLICAS = 16, 8
TOKEN_REDUCTIONS = (64, 8)  # factors by which a small vocabulary may take fewer token particles
MOST_STRATA = 16  # replicas that share a stratified sample of what is not evenly spread


def predict(
    setup: Setup,
    *,
    particles: int | None = None,
    replicas: int | None = None,
    embedding_lrs: ArrayLike | None = None,
    projection_lrs: ArrayLike | None = None,
    error_estimate: bool = True,
    finite_width: bool = True,
    responses: bool = True,
    memory_gb: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> Prediction:
    """Solves the mean-field equations forward in time at each pair of learning rates.

    Time and memory depend on particles, outputs and steps alone, not on width or vocabulary; a
    sweep is one compiled computation, with the same random numbers at every learning rate. Fresh
    Gaussians are even in value and in the particles' state (array-randomised quasi Monte Carlo),
    except those of the head tokens, which are as random as in a network and stratified over
    replicas.

    **Arguments:**

    - `particles`: number of token particles; by default 2048, or the power of two that is enough
      for the setup's outputs and steps. Neuron particles: a quarter of it, or what is enough.
    - `replicas`: number of independent replicas that are averaged, at least 2; by default 16, and
      128 where the vocabulary is so small that these take no longer.
    - `embedding_lrs`, `projection_lrs`: shape (L,) each, paired; default the setup's one pair.
    - `error_estimate`: also solve with about half the particles, so that the errors contain the
      bias; without it they are the replicas' standard errors.
    - `finite_width`: add the correction of order 1/width; without it, the infinite-width limit.
    - `responses`: False leaves out how tokens and neurons respond to their own past through each
      other (R_w and R_r), which no valid theory may: a negative control.
    - `memory_gb`: how much memory solutions computed side by side may take (at least one is
      computed); default 32 MiB on a CPU, which is its cache, and 2 GiB elsewhere.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for too few particles (fewer than 4 outputs * steps), too many (the
    solver keeps tokens x neurons numbers) or too few replicas, and
    `RuntimeError` if JAX's 64-bit types are off.
    Source: docs/theory/mean_field.md#mean-field-equations.
    """
    require_x64()
    check_covered(setup, "mean-field theory")
    particles = _particles(setup, particles)
    sets = _sets_of_solutions(setup, particles, error_estimate, finite_width)
    replicas = _replicas(particles // sets[0].tokens, replicas)
    rates = _paired_rates(setup, embedding_lrs, projection_lrs)
    work = sum(one.tokens * one.neurons for one in sets)
    strata = min(max(1, replicas // 8), MOST_STRATA)  # so that at least 8 blocks are independent
    vocabularies = {one.tokens: token_particles(setup, one.tokens) for one in sets}
    results = []
    for one in sets:
        share = one.tokens * one.neurons / work

        def report(part: float, share: float = share) -> None:
            if progress is not None:
                progress(part * share)

        fields = (setup.output_count, setup.loss_name, setup.optimizer, setup.steps, responses)
        plan = Plan(one.tokens, one.neurons, *fields)
        sampling = Sampling(replicas, strata, *rates, one.evenly_spread, memory_gb)
        results.append(solutions(setup, plan, vocabularies[one.tokens], sampling, report))
    neurons, reduced = sets[0].neurons, sets[-1].neurons
    with np.errstate(invalid="ignore", over="ignore"):
        mean, spread, bias, correction = combined(
            [records for records, _ in results],
            min(setup.width, reduced) / setup.width,
            strata,
            neurons / reduced - 1 if error_estimate else math.inf,
        )
        error = np.hypot(spread, bias)
        rms = np.sqrt(np.where(mean < 0, 0, mean))
        rms_error = error / np.maximum(2 * rms, np.sqrt(np.maximum(error, 1e-300)))
    return Prediction(
        setup,
        embedding_lrs=rates[0],
        projection_lrs=rates[1],
        loss=mean[..., 0],
        loss_error=error[..., 0],
        finite_width_correction=correction[..., 0],
        projection_update_rms=rms[..., 1],
        projection_update_rms_error=rms_error[..., 1],
        embedding_update_rms=rms[..., 2],
        embedding_update_rms_error=rms_error[..., 2],
        projection_step_rms=rms[..., 3],
        projection_step_rms_error=rms_error[..., 3],
        particles=particles,
        neurons=neurons,
        replicas=replicas,
        outcome=tuple(
            outcome(*row)
            for row in zip(mean[..., 0], spread[..., 0], bias[..., 0], results[0][1], strict=True)
        ),
    )


class _Solutions(NamedTuple):
    """One set of solutions: its particles, and whether its neurons are evenly spread."""

    tokens: int
    neurons: int
    evenly_spread: bool


def _sets_of_solutions(
    setup: Setup, particles: int, error_estimate: bool, finite_width: bool
) -> list[_Solutions]:
    """The limit and, where asked for, the limit with fewer particles and independent neurons.

    Token particles that are all tokens there are have no bias, and are not reduced.
    """
    directions = setup.output_count * setup.steps
    reductions = (by for by in TOKEN_REDUCTIONS if setup.vocab_size * by <= particles)
    tokens = particles // next(reductions, 1)
    neurons = max(particles // TOKENS_PER_NEURON, 4 * directions)
    reduced = (
        max(particles // 2, 3 * directions) if tokens == particles else tokens,
        max(neurons // 2, 3 * directions),
    )
    sets = [_Solutions(tokens, neurons, True)]
    if error_estimate or finite_width:
        sets.append(_Solutions(*reduced, True))
    if finite_width:
        sets.append(_Solutions(*reduced, False))
    return sets


def enough_particles(setup: Setup, at_least: int) -> int:
    """`at_least`, or the power of two that is enough for the setup's outputs and steps.

    Raises `InputError` where that is more than the solver keeps.
    """
    directions = setup.output_count * setup.steps
    if 4 * directions > MAX_PARTICLES:
        raise InputError(
            "steps",
            setup.steps,
            f"times `outputs` must be at most {MAX_PARTICLES // 4} for the mean-field solver",
        )
    return max(at_least, 2 ** math.ceil(math.log2(4 * directions)))


def _particles(setup: Setup, particles: int | None) -> int:
    """The number of particles asked for, checked, or the default."""
    directions = setup.output_count * setup.steps
    enough = enough_particles(setup, DEFAULT_PARTICLES)
    particles = enough if particles is None else particles
    check_integer("particles", particles, 2, MAX_PARTICLES)
    if particles < 4 * directions:
        raise InputError(
            "particles",
            particles,
            f"must be at least {4 * directions} for {setup.output_count} outputs and {setup.steps} "
            "steps (every step uses up directions in the particles' space)",
        )
    return particles


def _replicas(reduction: int, replicas: int | None) -> int:
    """The number of replicas asked for, checked, or a default that costs about the same."""
    if replicas is None:
        replicas = DEFAULT_REPLICAS * min(reduction, MOST_EXTRA_REPLICAS)
    check_integer("replicas", replicas, 2, MAX_REPLICAS)
    return replicas


def _paired_rates(
    setup: Setup, embedding_lrs: ArrayLike | None, projection_lrs: ArrayLike | None
) -> tuple[Floats, Floats]:
    """Learning rates of both layers, the setup's own where none are given, shape (L,) each."""
    embedding_rates, projection_rates = np.broadcast_arrays(
        *(
            np.atleast_1d(np.asarray(own if given is None else given, dtype=np.float64))
            for given, own in (
                (embedding_lrs, setup.embedding_lr),
                (projection_lrs, setup.projection_lr),
            )
        )
    )
    return np.asarray(embedding_rates), np.asarray(projection_rates)
