"""Independent replicas of a solution at every pair of learning rates, computed in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dynsim._optimizers import constants, schedule, weight_copies
from dynsim._runs import memory_budget
from dynsim._setup import Experiment

from ._averages import Records
from ._limit import check_time
from ._model import Model
from ._particles import Floats, TokenParticles, batch_shares
from ._random import Points, random_numbers
from ._sampling import stratified_points
from ._solver import Case, Descent, Multipliers, Plan, Sizes, Tokens, solve

Solver = Callable[[Plan, Tokens, Sizes, Descent, Case], tuple[jax.Array, jax.Array]]
MOST_AT_ONCE = 32  # solutions of one call on a CPU


class Rates(NamedTuple):
    """Learning rates of the description: of L solutions, hidden layers one by one."""

    embedding: Floats  # (L,)
    hidden: Floats  # (L, depth)
    projection: Floats  # (L,)


class Sampling(NamedTuple):
    """How solutions are sampled, and at which L learning rates of every layer.

    `strata` neighbouring replicas share a stratified sample. Neurons are spread evenly in value,
    which is the limit, or drawn independently, as those of a finite network are.
    """

    replicas: int
    strata: int
    rates: Rates
    evenly_spread: bool
    memory_gb: float | None


def solutions(
    setup: Experiment,
    model: Model,
    plan: Plan,
    particles: TokenParticles,
    sampling: Sampling,
    report: Callable[[float], None],
    solver: Solver = solve,
) -> tuple[Records, Float[np.ndarray, " L"]]:
    """Records of independent replicas at every pair of rates, and the largest defect of each pair.

    A replica is the mean of two solutions whose head tokens have opposite fresh Gaussians.
    `solver` is `solve` or the same function compiled otherwise.
    """
    used = plan.neurons if sampling.evenly_spread else min(setup.width, plan.neurons)
    sizes = Sizes(
        jnp.asarray(float(setup.width)),
        jnp.asarray(model.stds.embedding),
        jnp.asarray(model.stds.hidden),
        jnp.asarray(model.stds.projection),
        Multipliers(*map(jnp.asarray, model.multipliers)),
        jnp.asarray(float(used)),
        jnp.asarray(sampling.evenly_spread),
    )
    descent = _descent(setup, model)
    tokens = Tokens(
        jnp.asarray(particles.frequencies),
        jnp.asarray(particles.multiplicities),
        jnp.asarray(particles.targets),
        jnp.arange(plan.tokens) >= particles.head,
    )
    rates = [
        factor * given for factor, given in zip(model.rate_factors, sampling.rates, strict=True)
    ]
    shape = (sampling.replicas, len(rates[0]), 2)
    replica, rate, side = (axis.ravel() for axis in np.indices(shape))
    chunk = _chunk_size(plan, sampling)
    strata, records, defects = sampling.strata, [], []
    random: dict[int, list[tuple[Any, ...]]] = {}  # of the blocks in use, by replica and side
    for start in range(0, len(replica), chunk):
        check_time()
        chosen = np.minimum(np.arange(start, start + chunk), len(replica) - 1)
        blocks = dict.fromkeys((replica[chosen] // strata).tolist())
        random = {
            b: random[b] if b in random else _random_numbers(setup, plan, particles, strata, b)
            for b in blocks
        }
        numbers = [
            random[r // strata][2 * (r % strata) + k]
            for r, k in zip(replica[chosen].tolist(), side[chosen].tolist(), strict=True)
        ]
        shares, *others = zip(*numbers, strict=True)
        points = Points(*(jnp.asarray(np.stack(values)) for values in others))
        cases = Case(
            *(
                jnp.asarray(values)
                for values in (
                    *(given[rate[chosen]] for given in rates),
                    1.0 - 2.0 * side[chosen],
                    np.stack(shares),
                )
            ),
            random_numbers(plan.depth, points, tokens.is_tail, sizes.even),
        )
        record, defect = solver(plan, tokens, sizes, descent, cases)
        fresh = min(chunk, len(replica) - start)
        records.append(np.asarray(record)[:fresh])
        defects.append(np.asarray(defect)[:fresh])
        report(fresh / len(replica))
    record = np.concatenate(records).reshape(*shape, plan.steps, -1).mean(axis=2)
    return np.moveaxis(record, 0, 1), np.concatenate(defects).reshape(shape).max(axis=(0, 2))


def _descent(setup: Experiment, model: Model) -> Descent:
    """The optimizer's numbers; weight decay is in one of the two places."""
    numbers, independent = constants(setup), 0.0
    if model.independent:
        numbers, independent = numbers._replace(weight_decay=0.0), numbers.weight_decay
    return Descent(numbers, jnp.asarray(independent), jnp.asarray(schedule(setup)))


def _chunk_size(plan: Plan, sampling: Sampling) -> int:
    """How many solutions one call computes: a power of two, so that any sweep has one shape."""
    copies = 5 + weight_copies(plan.optimizer)
    pairs = (plan.tokens + plan.depth * plan.neurons) * plan.neurons
    most = memory_budget(sampling.memory_gb) / (8 * copies * pairs)
    if jax.default_backend() == "cpu":
        most = min(most, MOST_AT_ONCE)
    return 2 ** int(math.log2(max(1, min(most, 2 * sampling.replicas))))


def _random_numbers(
    setup: Experiment, plan: Plan, particles: TokenParticles, strata: int, block: int
) -> list[tuple[Any, ...]]:
    """Shares and the fields of `Points`, for every replica of a block and both its sides.

    The sides of a replica share all that concerns the tokens.
    """
    random = np.random.default_rng([setup.seed, 0x3F1E, block])
    steps, n = setup.steps + 1, setup.output_count
    shares = [batch_shares(setup, particles, random) for _ in range(strata)]
    tokens = stratified_points(random, strata, (steps, plan.tokens, n))
    token_shifts = random.random((strata, steps, n))
    neurons = stratified_points(random, 2 * strata, (steps, plan.neurons, n))
    neuron_shifts = random.random((2 * strata, steps, n))
    seeds = random.integers(2**31, size=2 * strata)
    return [
        (
            shares[k // 2],
            seeds[k],
            tokens[k // 2],
            token_shifts[k // 2],
            neurons[k],
            neuron_shifts[k],
        )
        for k in range(2 * strata)
    ]
