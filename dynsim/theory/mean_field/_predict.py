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
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_integer
from dynsim._network_setup import NetworkSetup
from dynsim._optimizers import weight_copies
from dynsim._precision import require_x64
from dynsim._runs import free_memory
from dynsim._setup import Experiment, Setup

from ._accuracy import DEFAULT_ACCURACY, Accurate, Particles, Task, accurate, particles_for
from ._averages import combined, extrapolated
from ._model import Model, model_of
from ._parallel import side_by_side
from ._particles import token_particles
from ._replicas import Rates, Sampling, solutions
from ._result import Floats, Prediction, outcome, rms_and_error
from ._solver import Plan, solve
from .nonlinear._equivalence import solve as solve_proportional
from .nonlinear._few_tokens import solve as solve_few_tokens
from .nonlinear._validity import (
    check_proportional,
    few_tokens,
    frequent_tokens,
)

MAX_PARTICLES, MAX_REPLICAS = 2**15, 10_000
DEFAULT_PARTICLES = 2048
LEAST_ACCURACY = 1e-4
MOST_DEFAULT_PARTICLES, MOST_WORK = 4096, 4  # without an accuracy asked for; work over the usual
TOKENS_PER_NEURON = 4  # a sampled tail needs more particles than the neurons do
DEFAULT_REPLICAS, MOST_EXTRA_REPLICAS = 16, 8
TOKEN_REDUCTIONS = (64, 8)  # factors by which a small vocabulary may take fewer token particles
FEW_TOKEN_NEURONS = 1024  # with which the default number of replicas is the least
PROPORTIONAL_TOKENS, PROPORTIONAL_NEURONS = 256, 256
MOST_STRATA = 16  # replicas that share a stratified sample of what is not evenly spread


def predict(
    setup: Setup | NetworkSetup,
    *,
    accuracy: float | None = None,
    particles: int | None = None,
    replicas: int | None = None,
    output_sample: int | None = None,
    embedding_lrs: ArrayLike | None = None,
    hidden_lrs: ArrayLike | None = None,
    projection_lrs: ArrayLike | None = None,
    error_estimate: bool = True,
    finite_width: bool = True,
    responses: bool = True,
    memory_gb: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> Prediction:
    """Solves the mean-field equations forward in time at each pair of learning rates.

    Covered are the linear model (`Setup`) and networks with up to eight hidden layers: a
    `dynsim.laboratory.NetworkSetup` with `network` mlp, whose learning rates are those at its base
    width. With `activation` identity and `normalisation` none the vocabulary may have any size.
    With others every token is a direction of its own at every step, if tokens times steps are at
    most 512; beyond that one hidden layer without skip connection or norm is solved by Gaussian
    equivalence of its neurons.

    Time and memory of the solver depend on particles, outputs and steps alone, not on width or
    vocabulary. (That is cut into particles first, in about 100 bytes a type up to 2^22 types; more
    are taken in pieces of neighbours in rank, in no more memory.) A sweep is one compiled
    computation, with the same random numbers at every learning rate. Fresh Gaussians are
    even in value and in the particles' state (array-randomised quasi Monte Carlo), except those of
    the head tokens, which are as random as in a network and stratified over replicas.

    Of steps times outputs the solver takes 8192. Beyond that the outputs of the linear model are
    rotated where that is exact (squared error, sgd or momentum, targets of a lower rank than there
    are outputs), and `output_sample` covers exchangeable outputs in any number.

    **Arguments:**

    - `accuracy`: the error of the loss that is allowed at any step, as a share of the initial loss
      (by default 0.01); particles and replicas are chosen from a short first solve, as few as that
      takes. The largest standard error is to be at most 0.8 of it, so that in about nine
      predictions of ten the worst step is within it. Left to itself a prediction takes at most four
      times the work that the numbers below take by default; an accuracy that is asked for takes
      what it needs. To be left out where `particles` or `replicas` are given.
    - `particles`: number of token particles (of nonlinear layers all tokens are particles, and this
      sets the neurons only); beside `replicas` by default 2048, or the power of two that is enough
      for the setup's outputs and steps. Neuron particles: a quarter of it, or what is enough.
    - `replicas`: number of independent replicas that are averaged, at least 2; beside `particles`
      by default 16, and 128 where the vocabulary is so small that these take no longer.
    - `output_sample`: so many outputs stand for all, in a network of the linear model that is
      smaller in all its sizes, with any number of steps; the error contains what half of them
      change. `replicas` is then how many such networks are averaged. For gaussian targets without
      a rank, sign and onehot targets, and uniform tokens.
    - `embedding_lrs`, `projection_lrs`: shape (L,) each, paired; default the setup's one pair.
      The projection is the readout of a network with hidden layers; where only `hidden_lrs` are
      given, its rates are `readout_lr`, or `readout_ratio` times the first hidden layer's.
    - `hidden_lrs`: shape (L,), or (L, depth) for hidden layers one by one.
    - `error_estimate`: also solve with about half the particles, so that the errors contain the
      bias; without it they are the replicas' standard errors.
    - `finite_width`: add the correction of order 1/width; without it, the infinite-width limit.
    - `responses`: False leaves out how tokens and neurons respond to their own past through each
      other (R_w and R_r), which no valid theory may: a negative control. Under Gaussian equivalence
      it leaves out the noise of the single neurons instead.
    - `memory_gb`: how much memory solutions computed side by side may take (at least one is
      computed); default 32 MiB on a CPU, which is its cache, and 2 GiB elsewhere.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for too few particles (fewer than 4 outputs * steps), too many (the
    solver keeps tokens x neurons numbers) or too few replicas, and
    `RuntimeError` if JAX's 64-bit types are off.
    Source: docs/theory/mean_field.md#mean-field-equations; docs/theory/many_outputs.md.

    **Example:**

    >>> from dynsim import Setup, predict
    >>> setup = Setup(width=4096, vocab_size=131072, optimizer="sign", steps=2)
    >>> prediction = predict(setup, particles=64, replicas=4, error_estimate=False)
    >>> prediction.loss.shape  # pairs of learning rates, steps and the start
    (1, 2)
    """
    require_x64()
    model = model_of(setup)
    chosen = particles is None and replicas is None
    allowed = _accuracy(accuracy, chosen)
    # Many outputs are imported where there are some: sympy takes longer than the other imports.
    if output_sample is None and isinstance(setup, Setup) and _needs_rotation(setup):
        from ._many_outputs import predict_rotated

        solver = partial(
            predict,
            accuracy=accuracy,
            particles=particles,
            replicas=replicas,
            embedding_lrs=embedding_lrs,
            projection_lrs=projection_lrs,
            error_estimate=error_estimate,
            finite_width=finite_width,
            responses=responses,
            memory_gb=memory_gb,
        )
        return predict_rotated(setup, solver, progress)
    rates = paired_rates(setup, model.depth, embedding_lrs, hidden_lrs, projection_lrs)
    report = progress or (lambda part: None)
    if output_sample is not None:
        from ._many_outputs import predict_sampled
        from ._similar import check_similar

        sampled_setup = check_similar(setup, output_sample)
        if particles is not None:
            raise InputError("particles", particles, "must be left out with `output_sample`")
        if not responses:
            raise InputError("responses", responses, "must be left out with `output_sample`")
        if replicas is not None:
            check_integer("replicas", replicas, 2, MAX_REPLICAS)
        return predict_sampled(
            sampled_setup,
            output_sample,
            rates,
            accuracy=allowed,
            asked=chosen,
            replicas=replicas,
            error_estimate=error_estimate,
            finite_width=finite_width,
            memory_gb=memory_gb,
            progress=report,
        )
    task = Task(setup, model, rates, responses, error_estimate, finite_width, memory_gb)
    if model.linear and chosen:
        found = _as_accurate_as_asked(task, allowed, accuracy is not None, report)
    elif chosen:
        found = _with_enough_replicas(task, allowed, accuracy is not None, report)
    else:
        found = _with_given(task, particles, replicas, report)
    mean, spread, bias, correction = found.mean, found.spread, found.bias, found.correction
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.hypot(spread, bias)
        rms, rms_error = rms_and_error(mean, error)
    return Prediction(
        setup,
        embedding_lrs=rates.embedding,
        projection_lrs=rates.projection,
        loss=mean[..., 0],
        loss_error=error[..., 0],
        finite_width_correction=correction[..., 0],
        projection_update_rms=rms[..., 1],
        projection_update_rms_error=rms_error[..., 1],
        embedding_update_rms=rms[..., 2],
        embedding_update_rms_error=rms_error[..., 2],
        projection_step_rms=rms[..., 3],
        projection_step_rms_error=rms_error[..., 3],
        hidden_lrs=rates.hidden if model.depth else None,
        hidden_update_rms=rms[..., 4:] if model.depth else None,
        hidden_update_rms_error=rms_error[..., 4:] if model.depth else None,
        particles=found.particles.tokens,
        neurons=found.particles.neurons,
        replicas=found.replicas,
        accuracy=allowed if chosen else None,
        outcome=tuple(
            outcome(*row, allowed, setup.width if finite_width else math.inf)
            for row in zip(mean[..., 0], spread[..., 0], bias[..., 0], found.defects, strict=True)
        ),
    )


def _accuracy(accuracy: float | None, chosen: bool) -> float:
    """The accuracy asked for, checked, or the default."""
    if accuracy is None:
        return DEFAULT_ACCURACY
    if not LEAST_ACCURACY <= accuracy <= 1:
        raise InputError("accuracy", accuracy, f"must be from {LEAST_ACCURACY:g} to 1")
    if not chosen:
        allowed = "must be left out where `particles` or `replicas` are given"
        raise InputError("accuracy", accuracy, allowed)
    return accuracy


def _as_accurate_as_asked(
    task: Task, accuracy: float, asked: bool, report: Callable[[float], object]
) -> Accurate:
    """Of linear layers. By default the work has a limit."""
    setup, model = task.setup, task.model
    enough_particles(setup, DEFAULT_PARTICLES)  # refuses what needs too many
    usual = _Solutions(DEFAULT_PARTICLES, DEFAULT_PARTICLES // TOKENS_PER_NEURON, True)
    usual_solutions = 2 * DEFAULT_REPLICAS
    most_work = MOST_WORK * usual_solutions * usual.pairs(model.depth)

    def most_replicas(sizes: Particles) -> int:
        if asked:
            return MAX_REPLICAS
        pairs = _Solutions(sizes.tokens, sizes.neurons, True).pairs(model.depth)
        return max(most_work // pairs, usual_solutions)

    check_memory(setup, model, _Solutions(*particles_for(task, 1)[:2], True))
    most_particles = MAX_PARTICLES if asked else MOST_DEFAULT_PARTICLES
    return accurate(task, accuracy, most_particles, most_replicas, report)


def _with_enough_replicas(
    task: Task, accuracy: float, asked: bool, report: Callable[[float], object]
) -> Accurate:
    """Of nonlinear layers: the usual particles, and more than the usual replicas where asked."""
    found = _with_given(task, None, None, lambda part: report(0.5 * part))
    loss = found.mean[:, :1, 0]
    with np.errstate(invalid="ignore"):
        ok = np.isfinite(found.mean[..., 0]).all(axis=1)
        bias, spread = (
            float(np.max((one[..., 0] / loss)[ok], initial=0.0))
            for one in (found.bias, found.spread)
        )
    left = (0.9 * accuracy) ** 2 - bias**2
    if asked and left > 0 and math.isfinite(spread) and spread**2 > accuracy**2 - bias**2:
        more = math.ceil(min(found.replicas * spread**2 / left, MAX_REPLICAS))
        return _with_given(task, None, more, lambda part: report(0.5 * part))
    report(0.5)
    return found


def _with_given(
    task: Task,
    particles: int | None,
    replicas: int | None,
    progress: Callable[[float], object],
) -> Accurate:
    """With numbers that are given, or usual ones."""
    setup, model, finite_width = task.setup, task.model, task.finite_width
    if model.linear:
        particles = checked_particles(setup, particles)
        sets = sets_of_solutions(setup, model, particles, task.error_estimate, finite_width)
        solver = solve
        whole = _Solutions(particles, max(particles // TOKENS_PER_NEURON, sets[0].neurons), True)
        replicas = _replicas(whole.pairs(model.depth) // sets[0].pairs(model.depth), replicas)
    elif few_tokens(setup):
        sets = _few_token_sets(setup, model, particles, task.error_estimate, finite_width)
        particles, solver = setup.vocab_size, solve_few_tokens
        replicas = _replicas((FEW_TOKEN_NEURONS // sets[0].neurons) ** 2, replicas)
    else:
        sets = _proportional_sets(setup, model, particles)
        particles, solver = sets[0].tokens, solve_proportional
        replicas = _replicas(1, replicas)
    check_memory(setup, model, sets[0])
    work = sum(one.pairs(model.depth) for one in sets)
    strata = min(max(1, replicas // 8), MOST_STRATA)  # so that at least 8 blocks are independent
    heads = 0 if solver is not solve_proportional else frequent_tokens(setup)
    vocabularies = {one.tokens: token_particles(setup, one.tokens) for one in sets}

    def solved(one: _Solutions, report: Callable[[float], None]) -> Any:
        fields = (setup.output_count, setup.loss_name, model.optimizer, setup.steps)
        network = (model.depth, model.residual, model.muon, model.activation, model.normalisation)
        plan = Plan(one.tokens, one.neurons, *fields, task.responses, *network, heads)
        sampling = Sampling(replicas, strata, task.rates, one.evenly_spread, task.memory_gb)
        share = one.pairs(model.depth) / work
        return solutions(
            setup,
            model,
            plan,
            vocabularies[one.tokens],
            sampling,
            lambda part: report(part * share),
            solver,
        )

    results = side_by_side([partial(solved, one) for one in sets], progress)
    neurons, reduced = sets[0].neurons, sets[-1].neurons
    records = [found for found, _ in results]
    with np.errstate(invalid="ignore", over="ignore"):
        if solver is solve_proportional:
            share = neurons / setup.width if finite_width else 0.0
            averages = extrapolated(records, share, strata)
        else:
            averages = combined(
                records,
                min(setup.width, reduced) / setup.width,
                strata,
                neurons / reduced - 1 if task.error_estimate else math.inf,
            )
    used = Particles(particles, neurons, sets[-1].tokens, reduced)
    return Accurate(*averages, results[0][1], used, replicas)


class _Solutions(NamedTuple):
    """One set of solutions: its particles, and whether its neurons are evenly spread."""

    tokens: int
    neurons: int
    evenly_spread: bool

    def pairs(self, depth: int) -> int:
        """Entries of all matrices."""
        return (self.tokens + depth * self.neurons) * self.neurons


def sets_of_solutions(
    setup: Experiment, model: Model, particles: int, error_estimate: bool, finite_width: bool
) -> list[_Solutions]:
    """The limit and, where asked for, the limit with fewer particles and independent neurons.

    Token particles that are all tokens there are have no bias, and are not reduced.
    """
    directions = setup.output_count * setup.steps
    if model.residual:
        directions *= model.depth + 1  # of all levels together
    reductions = (by for by in TOKEN_REDUCTIONS if setup.vocab_size * by <= particles)
    tokens = particles // next(reductions, 1)
    few = 2 if model.depth and tokens < particles else 1  # else hidden matrices would cost most
    neurons = max(particles // (few * TOKENS_PER_NEURON), 4 * directions)
    used_up = 3 * setup.output_count * setup.steps
    reduced = (
        max(particles // 2, used_up) if tokens == particles else tokens,
        max(neurons // 2, 3 * directions),
    )
    sets = [_Solutions(tokens, neurons, True)]
    if error_estimate or finite_width:
        sets.append(_Solutions(*reduced, True))
    if finite_width:
        sets.append(_Solutions(*reduced, False))
    return sets


def _few_token_sets(
    setup: Experiment,
    model: Model,
    particles: int | None,
    error_estimate: bool,
    finite_width: bool,
) -> list[_Solutions]:
    """The same for hidden layers with an activation or a norm: every token is a particle.

    Raises `InputError` for too few particles.
    """
    tokens = setup.vocab_size
    directions = tokens * setup.steps
    of_neuron = 3 * (directions + tokens)  # of a level; of all levels together if residual
    if model.residual:
        of_neuron = 3 * model.depth * (directions + tokens)
    if particles is not None:
        check_integer("particles", particles, 2, MAX_PARTICLES)
        if particles < TOKENS_PER_NEURON * of_neuron:
            raise InputError(
                "particles",
                particles,
                f"must be at least {TOKENS_PER_NEURON * of_neuron} for {tokens} tokens and "
                f"{setup.steps} steps (a quarter of them are neurons; every token uses up "
                "directions in their space at every step)",
            )
    given = FEW_TOKEN_NEURONS // 4 if particles is None else particles // TOKENS_PER_NEURON
    neurons = max(given, 2 ** math.ceil(math.log2(of_neuron + 1)))
    reduced = max(neurons // 2, of_neuron)
    sets = [_Solutions(tokens, neurons, True)]
    if error_estimate or finite_width:
        sets.append(_Solutions(tokens, reduced, True))
    if finite_width:
        sets.append(_Solutions(tokens, reduced, False))
    return sets


def _proportional_sets(setup: Experiment, model: Model, particles: int | None) -> list[_Solutions]:
    """The same for one nonlinear layer with many tokens: at most d neurons, and half as many.

    Raises `InputError` for what Gaussian equivalence does not cover, and for too few particles.
    """
    check_proportional(setup, model, min(setup.width, PROPORTIONAL_NEURONS))
    tokens = PROPORTIONAL_TOKENS if particles is None else particles
    check_integer("particles", tokens, 2, MAX_PARTICLES)
    least = 4 * (setup.output_count + 2) * setup.steps
    if tokens < min(least, setup.vocab_size):
        raise InputError(
            "particles",
            tokens,
            f"must be at least {least} for {setup.output_count} outputs and {setup.steps} steps "
            "(every step uses up directions in the particles' space)",
        )
    tokens, neurons = min(tokens, setup.vocab_size), min(setup.width, PROPORTIONAL_NEURONS)
    return [_Solutions(tokens, neurons, True), _Solutions(tokens, neurons // 2, True)]


def check_memory(setup: Experiment, model: Model, largest: _Solutions) -> None:
    """Raises `InputError` where the tables of one solution do not fit the device.

    A residual network needs particles for the directions of all its levels together.
    """
    needed = 8 * (5 + weight_copies(model.optimizer)) * largest.pairs(model.depth)
    present = free_memory()
    if model.depth and needed > present:
        raise InputError(
            "depth",
            model.depth,
            f"with {setup.output_count} outputs and {setup.steps} steps takes {largest.neurons} "
            f"neuron particles and {needed / 2**30:.3g} GiB, must fit the {present / 2**30:.3g} "
            "GiB of this device that are free; take fewer layers, `outputs` or `steps`",
        )


def _needs_rotation(setup: Setup) -> bool:
    """Whether outputs are too many for the solver, and a rotation leaves fewer."""
    if 4 * setup.output_count * setup.steps <= MAX_PARTICLES:
        return False
    from ._rotation import can_rotate

    return can_rotate(setup)


def enough_particles(setup: Experiment, at_least: int) -> int:
    """`at_least`, or the power of two that is enough for the setup's outputs and steps.

    Raises `InputError` where that is more than the solver keeps.
    """
    directions = setup.output_count * setup.steps
    if 4 * directions > MAX_PARTICLES:
        raise InputError(
            "steps",
            setup.steps,
            f"times `outputs` must be at most {MAX_PARTICLES // 4} for the mean-field solver, "
            "which keeps a direction for every output and step; `output_sample` is without this "
            "limit where outputs are exchangeable, and the first step of a language model's head "
            "is derived at any size (derive, `layer` head)",
        )
    return max(at_least, 2 ** math.ceil(math.log2(4 * directions)))


def checked_particles(setup: Experiment, particles: int | None) -> int:
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
        replicas = DEFAULT_REPLICAS * min(max(reduction, 1), MOST_EXTRA_REPLICAS)
    check_integer("replicas", replicas, 2, MAX_REPLICAS)
    return replicas


def paired_rates(
    setup: Setup | NetworkSetup,
    depth: int,
    embedding_lrs: ArrayLike | None,
    hidden_lrs: ArrayLike | None,
    projection_lrs: ArrayLike | None,
) -> Rates:
    """Learning rates of all layers, the setup's own where none are given."""
    if isinstance(setup, Setup):
        if hidden_lrs is not None:
            raise InputError("hidden_lrs", "given", "must be left out where no layer is hidden")
        own_projection: ArrayLike = setup.projection_lr
        hidden = np.empty((1, 0))
    else:
        hidden = _by_layer(setup.hidden_lr if hidden_lrs is None else hidden_lrs, depth)
        own_projection = setup.readout_rate(hidden[:, 0])
    one_each = (
        np.atleast_1d(np.asarray(own if given is None else given, dtype=np.float64))
        for given, own in ((embedding_lrs, setup.embedding_lr), (projection_lrs, own_projection))
    )
    embedding, projection, first = np.broadcast_arrays(*one_each, np.zeros(len(hidden)))
    return Rates(
        np.asarray(embedding),
        np.broadcast_to(hidden, (len(first), depth)),
        np.asarray(projection),
    )


def _by_layer(rates: ArrayLike, depth: int) -> Floats:
    """Learning rates of hidden layers, shape (L, depth), from (L,) or (L, depth)."""
    given = np.atleast_1d(np.asarray(rates, dtype=np.float64))
    if given.ndim == 1:
        given = np.repeat(given[:, None], depth, axis=1)
    if given.ndim != 2 or given.shape[1] != depth:
        shape = f"of shape {given.shape}"
        raise InputError("hidden_lrs", shape, f"must have one column for each of {depth} layers")
    return given
