"""Solutions that are as accurate as asked for, with as few particles and replicas as that takes.

A first solve of few particles and replicas shows how much replicas differ, and what fewer particles
change beyond chance. From both follow the replicas and the particles that the accuracy needs. The
limit and its two companions, with fewer particles and with as few independent neurons, are solved
by one compiled program: particles that a solution leaves out weigh nothing. The companions have
fewer replicas, as many as the error that they contribute asks for. A replica is one solution: that
the opposite fresh Gaussians of the head tokens have the opposite effect was not found to save any.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dynsim._losses import diverged
from dynsim._optimizers import weight_copies
from dynsim._runs import memory_budget
from dynsim._setup import Experiment
from dynsim.tokens._pieces import law_in_pieces

from ._averages import Averages, Records, standard_error
from ._compiling import compiling, solve_compiled
from ._model import Model
from ._parallel import side_by_side
from ._particles import padded, token_particles
from ._replicas import Rates, Sampling, descent_of, solutions
from ._solver import Plan

DEFAULT_ACCURACY = 0.01  # of the initial loss
FIRST_TOKENS, FIRST_NEURONS = 2048, 512  # or what outputs and steps need
FIRST_REPLICAS, FIRST_COMPANIONS = 6, 3
AIM = 0.95  # of the accuracy, since replicas are counted from an estimate
SURE = 1.25  # standard errors for the accuracy, since the worst of many steps is off by more
BEYOND_CHANCE = 3  # standard errors, since a change is looked for at every step
MOST_BIAS = 0.7  # of the accuracy; with more of it particles are what is missing
OF_A_ROUND = 0.8  # of the progress that is left
SMALLEST_ENTRY = 1e-15  # of a first gradient, whose square a float32 still holds

Report = Callable[[float], None]
Defects = Float[np.ndarray, " L"]


class Task(NamedTuple):
    """What is solved, and with which companions."""

    setup: Experiment
    model: Model
    rates: Rates
    responses: bool
    error_estimate: bool
    finite_width: bool
    memory_gb: float | None


class Particles(NamedTuple):
    """How many, and how many of them the companions have in use."""

    tokens: int
    neurons: int
    fewer_tokens: int
    fewer_neurons: int


class Accurate(NamedTuple):
    """Mean, standard error, bias and finite-width correction; and how they were computed."""

    mean: Averages
    spread: Averages
    bias: Averages
    correction: Averages
    defects: Defects
    particles: Particles
    replicas: int


class Found(NamedTuple):
    """Records by place: 0 of the limit, 1 and 2 of its companions as far as they are needed."""

    records: dict[int, Records]
    defects: Defects


def accurate(
    task: Task,
    accuracy: float,
    most_particles: int,
    most_replicas: Callable[[Particles], int],
    progress: Callable[[float], object],
) -> Accurate:
    """The solution with an error of at most `accuracy` of the initial loss, if the limits allow.

    `most_replicas` says how many replicas of some particles are computed at the most. `progress`
    is called with the fraction of work finished since the last call.
    """
    scale, left = 1, 1.0
    places = range(3 if task.finite_width else 2 if task.error_estimate else 1)

    def next_round() -> Report:
        """Of what is left of the work, most: how many solutions a later one takes is not known
        before, and the time left is told from those at hand."""
        share = OF_A_ROUND * left

        def report(part: float) -> None:
            nonlocal left
            left -= share * part
            progress(share * part)

        return report

    while True:
        sizes = particles_for(task, scale)
        first = {place: (0, FIRST_COMPANIONS if place else FIRST_REPLICAS) for place in places}
        found = _found(task, sizes, first, next_round())
        result = _summary(task, sizes, found)
        needed = scale * max(1.0, _worst(result, result.bias) / (MOST_BIAS * accuracy))
        larger = _power_of_two(needed)
        while larger > scale and max(particles_for(task, larger)) > most_particles:
            larger //= 2
        if larger <= scale:
            break
        scale = larger
    # Few replicas may not show how much they scatter; then more are counted from those that do.
    for errors in (SURE, 1.0, 1.0):
        if _worst(result, np.hypot(errors * result.spread, result.bias)) <= accuracy:
            break
        solved = {place: record.shape[1] for place, record in found.records.items()}
        limit, companions = _replicas(task, result, found, accuracy)
        limit = min(limit, max(most_replicas(sizes), FIRST_REPLICAS))
        wanted = {place: min(companions, limit) if place else limit for place in places}
        more = {place: (solved[place], max(solved[place], wanted[place])) for place in places}
        if all(first == last for first, last in more.values()):
            break
        found = _joined(found, _found(task, sizes, more, next_round()))
        result = _summary(task, sizes, found)
    progress(left)
    return result


def particles_for(task: Task, scale: int) -> Particles:
    """So many times the first ones, or all tokens there are, or what all directions need."""
    setup, model = task.setup, task.model
    columns = setup.output_count * (setup.steps + 1)
    directions = columns * (model.depth + 1) if model.residual else columns
    neurons = max(FIRST_NEURONS * scale, math.ceil(2.5 * directions))
    fewer_neurons = max(neurons // 2, math.ceil(2.1 * directions))
    # Where neurons are many for the directions' sake, tokens need not be.
    tokens = min(FIRST_TOKENS * scale, FIRST_TOKENS * FIRST_NEURONS * scale**2 // neurons)
    tokens = max(_power_of_two(tokens) // (1 if tokens & (tokens - 1) == 0 else 2), 1)
    tokens = max(tokens, _power_of_two(2 * columns))
    fewer_tokens = max(tokens // 2, columns)
    if setup.vocab_size <= tokens:  # all of them are particles, without a bias
        tokens = fewer_tokens = max(_power_of_two(setup.vocab_size), 2)
    return Particles(tokens, neurons, fewer_tokens, fewer_neurons)


def _power_of_two(least: float) -> int:
    return 2 ** math.ceil(math.log2(max(least, 1)))


def _found(
    task: Task, sizes: Particles, wanted: dict[int, tuple[int, int]], progress: Report
) -> Found:
    """Replicas from the first to before the last of each set, two calls beside each other.

    `wanted` is by the place of a set: 0 the limit, 1 and 2 its companions.
    """
    fewer = sizes.fewer_tokens, sizes.fewer_neurons
    every = (sizes.tokens, sizes.neurons, True), (*fewer, True), (*fewer, False)
    plan = _plan(task, sizes)
    at_once = _at_once(plan, len(task.rates.embedding), task.memory_gb)
    compiling(plan, at_once, descent_of(task.setup, task.model))
    vocabularies = {
        count: padded(token_particles(task.setup, count), sizes.tokens)
        for count in {every[place][0] for place in wanted}
    }
    each = max(1, at_once // len(task.rates.embedding))  # replicas that share a call
    parts = [
        (place, begin, min(begin + each, last))
        for place, (first, last) in sorted(wanted.items())
        for begin in range(first, last, each)
    ]
    waiting, work = deque(parts), sum(end - begin for _, begin, end in parts)
    solved: dict[tuple[int, int, int], tuple[Records, Defects]] = {}

    def some(report: Report) -> None:
        while waiting:
            try:
                part = waiting.popleft()
            except IndexError:  # the other one has taken it
                return
            place, begin, end = part
            tokens, neurons, even = every[place]
            count = end - begin
            solved[part] = solutions(
                task.setup,
                task.model,
                plan,
                vocabularies[tokens],
                Sampling(
                    count, 1, task.rates, even, task.memory_gb, begin, neurons, at_once, sides=1
                ),
                lambda done, share=count / work: report(done * share),
                solve_compiled,
            )

    side_by_side([some, some] if len(parts) > 1 else [some], progress)
    records = {
        place: np.concatenate([solved[part][0] for part in parts if part[0] == place], axis=1)
        for place in {place for place, *_ in parts}
    }
    return Found(records, np.max([solved[part][1] for part in parts], axis=0))


def _joined(some: Found, more: Found) -> Found:
    records = dict(some.records)
    for place, one in more.records.items():
        before = [records[place]] if place in records else []
        records[place] = np.concatenate([*before, one], axis=1)
    return Found(records, np.maximum(some.defects, more.defects))


def _added(task: Task, sizes: Particles, found: Found) -> tuple[Records, Records]:
    """What more particles change, of order 1/particles, and what a finite width adds."""
    limit, nothing = found.records[0], np.zeros_like(found.records[0])
    if 1 not in found.records:
        return nothing, nothing
    fewer, width = found.records[1], task.setup.width
    change = limit[:, : fewer.shape[1]] - fewer
    by_more = change / (sizes.neurons / sizes.fewer_neurons - 1)
    if 2 not in found.records:
        return by_more, np.zeros_like(fewer)
    return by_more, min(width, sizes.fewer_neurons) / width * (found.records[2] - fewer)


def _summary(task: Task, sizes: Particles, found: Found) -> Accurate:
    limit = found.records[0]
    with np.errstate(invalid="ignore", over="ignore"):
        by_more, correction = _added(task, sizes, found)
        lost = np.any(~np.isfinite(correction), axis=1)
        correction = np.where(lost[:, None], 0, correction)
        bias = np.zeros_like(limit[:, 0])
        if task.error_estimate:
            change, chance = by_more.mean(axis=1), _chance(sizes, limit, by_more)
            bias = np.sqrt(np.maximum(change**2 - (BEYOND_CHANCE * chance) ** 2, 0))
        spread = np.where(lost, np.inf, np.hypot(_error(limit), _error(correction)))
        mean, added = limit.mean(axis=1), correction.mean(axis=1)
    return Accurate(mean + added, spread, bias, added, found.defects, sizes, limit.shape[1])


def _chance(
    sizes: Particles, limit: Records, by_more: Float[np.ndarray, "L r T quantities"]
) -> Averages:
    """Standard error of what more particles change, where few replicas estimate it.

    Two replicas that happen to agree at one of many steps would make any change look certain. So it
    is at least what follows from the scatter of the limit's replicas, with a variance in proportion
    to 1/particles, and at least its root mean square over steps.
    """
    ratio, share = sizes.neurons / sizes.fewer_neurons, limit.shape[1] / by_more.shape[1]
    by_limit = math.sqrt((1 + ratio) * share) / (ratio - 1) * _error(limit)
    chance = np.maximum(_error(by_more), by_limit)
    before_divergence = np.where(np.isfinite(chance), chance, 0)
    return np.maximum(chance, np.sqrt(np.mean(before_divergence**2, axis=1, keepdims=True)))


def _error(records: Records) -> Averages:
    """Standard error of the mean over replicas, larger where few replicas estimate it."""
    return standard_error(records, 1) * (1 + 0.6 / (records.shape[1] - 1))


def _worst(result: Accurate, error: Averages) -> float:
    """Largest error of the loss over the initial one, where the solution exists."""
    loss = result.mean[..., 0]
    exists = np.isfinite(result.spread[..., 0]).all(axis=1) & ~diverged(loss)
    share = error[exists, :, 0] / np.maximum(loss[exists, :1], 1e-300)
    return float(share.max(initial=0.0))


def _replicas(task: Task, result: Accurate, found: Found, accuracy: float) -> tuple[int, int]:
    """How many the limit needs and how many its companions, for the least work."""
    _, correction = _added(task, result.particles, found)
    with np.errstate(invalid="ignore", over="ignore"):
        by_limit, by_companions = (
            _worst(result, _error(one)) * math.sqrt(one.shape[1])
            for one in (found.records[0], correction)
        )
    square = max((AIM * accuracy) ** 2 - _worst(result, result.bias) ** 2, (0.3 * accuracy) ** 2)
    square /= SURE**2
    # The error by_limit^2 / R + by_companions^2 / R' at the least work R + 2 R'.
    both = by_limit + math.sqrt(2) * by_companions
    limit, companions = (
        math.ceil(min(one * both / square, 1e9)) for one in (by_limit, by_companions / math.sqrt(2))
    )
    return limit, companions


def _plan(task: Task, sizes: Particles) -> Plan:
    setup, model = task.setup, task.model
    rarest = law_in_pieces(setup.law_name, setup.vocab_size).frequencies[-1]
    entry = rarest * model.stds.projection * model.multipliers.embedding
    return Plan(
        sizes.tokens,
        sizes.neurons,
        setup.output_count,
        setup.loss_name,
        model.optimizer,
        setup.steps,
        task.responses,
        model.depth,
        model.residual,
        model.muon,
        single=bool(entry >= SMALLEST_ENTRY),
        transposed=False,
    )


def _at_once(plan: Plan, rates: int, memory_gb: float | None) -> int:
    """How many solutions share a call: a power of two, the same for all calls."""
    pairs = (plan.tokens + plan.depth * plan.neurons) * plan.neurons
    bytes_each = (4 if plan.single else 8) * (5 + weight_copies(plan.optimizer)) * pairs
    most = min(memory_budget(memory_gb) / bytes_each, FIRST_REPLICAS * rates)
    return 2 ** int(math.log2(max(1, most)))
