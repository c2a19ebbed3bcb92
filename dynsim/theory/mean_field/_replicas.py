"""Independent replicas of a solution at every pair of learning rates, computed in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynsim._draws import uniform
from dynsim._optimizers import constants, schedule, weight_copies
from dynsim._runs import memory_budget
from dynsim._setup import Experiment

from ._averages import Records
from ._limit import check_time
from ._model import Model
from ._particles import Floats, Integers, TokenParticles, batch_shares
from ._sampling import (
    even_normals,
    few_even_normals,
    normals_at,
    normals_of_few,
    stratified_points,
)
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
    which is the limit, or drawn independently, as those of a finite network are. The first of the
    replicas is number `first`. Where not all neuron particles of the plan are `in_use`, the others
    weigh nothing. `at_once` solutions share a call, or as many as the memory is good for. A replica
    is the mean of two solutions whose head tokens have opposite fresh Gaussians, or, with one of
    the `sides`, one solution. Normals come from a compiled program, or, where only a `few` are
    asked for, without one.
    """

    replicas: int
    strata: int
    rates: Rates
    evenly_spread: bool
    memory_gb: float | None
    first: int = 0
    in_use: int | None = None
    at_once: int | None = None
    sides: int = 2
    few: bool = False


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

    `solver` is `solve` or the same function compiled otherwise.
    """
    used = plan.neurons if sampling.in_use is None else sampling.in_use
    if not sampling.evenly_spread:
        used = min(setup.width, used)
    # Arguments are of numpy: an operation of JAX outside a program is compiled as one of its own.
    sizes = Sizes(
        _number(setup.width),
        _number(model.stds.embedding),
        _number(model.stds.hidden),
        _number(model.stds.projection),
        Multipliers(*map(_number, model.multipliers)),
        _number(model.gain_rate),
        _number(used),
        _array(sampling.evenly_spread),
    )
    descent = descent_of(setup, model)
    tokens = Tokens(
        _array(particles.frequencies),
        _array(particles.multiplicities),
        _array(particles.targets),
        _array(np.arange(plan.tokens) >= particles.head),
    )
    rates = [
        factor * given for factor, given in zip(model.rate_factors, sampling.rates, strict=True)
    ]
    shape = (sampling.replicas, len(rates[0]), sampling.sides)
    replica, rate, side = (axis.ravel() for axis in np.indices(shape))
    number = sampling.first + replica
    chunk = sampling.at_once or chunk_size(
        plan, sampling.sides * sampling.replicas, sampling.memory_gb
    )
    strata, records, defects = sampling.strata, [], []
    random: dict[int, list[tuple[Any, ...]]] = {}  # of the blocks in use, by replica and side
    for start in range(0, len(replica), chunk):
        check_time()
        chosen = np.minimum(np.arange(start, start + chunk), len(replica) - 1)
        blocks = dict.fromkeys((number[chosen] // strata).tolist())
        random = {
            b: random[b] if b in random else _random_numbers(setup, plan, particles, sampling, b)
            for b in blocks
        }
        numbers = [
            random[r // strata][sampling.sides * (r % strata) + k]
            for r, k in zip(number[chosen].tolist(), side[chosen].tolist(), strict=True)
        ]
        cases = Case(
            *(
                _array(values)
                for values in (
                    *(given[rate[chosen]] for given in rates),
                    [seed for seed, *_ in numbers],
                    1.0 - 2.0 * side[chosen],
                    *map(np.stack, zip(*(rest for _, *rest in numbers), strict=True)),
                )
            )
        )
        record, defect = solver(plan, tokens, sizes, descent, cases)
        fresh = min(chunk, len(replica) - start)
        records.append(np.asarray(record)[:fresh])
        defects.append(np.asarray(defect)[:fresh])
        report(fresh / len(replica))
    record = np.concatenate(records).reshape(*shape, plan.steps, -1).mean(axis=2)
    return np.moveaxis(record, 0, 1), np.concatenate(defects).reshape(shape).max(axis=(0, 2))


def descent_of(setup: Experiment, model: Model) -> Descent:
    """The optimizer's numbers; weight decay is in one of the two places."""
    numbers, independent = constants(setup), 0.0
    if model.independent:
        numbers, independent = numbers._replace(weight_decay=0.0), numbers.weight_decay
    return Descent(numbers, _number(independent), _array(schedule(setup)))


def _number(value: float) -> Any:
    return np.asarray(value, np.float64)


def _array(values: Any) -> Any:
    """An argument of a program: of numpy, which programs take as arrays of JAX."""
    return np.asarray(values)


def chunk_size(plan: Plan, most: int, memory_gb: float | None) -> int:
    """How many solutions one call computes, up to `most`: a power of two, so that any sweep has one
    shape."""
    copies = 5 + weight_copies(plan.optimizer)
    pairs = (plan.tokens + plan.depth * plan.neurons) * plan.neurons
    fitting = min(most, memory_budget(memory_gb) / (8 * copies * pairs))
    if jax.default_backend() == "cpu":
        fitting = min(fitting, MOST_AT_ONCE)
    return 2 ** int(math.log2(max(1, fitting)))


def _random_numbers(
    setup: Experiment, plan: Plan, particles: TokenParticles, sampling: Sampling, block: int
) -> list[tuple[Any, ...]]:
    """What `Case` has in random numbers, for every replica of a block and its sides.

    The sides of a replica share all that concerns the tokens.
    """
    random, strata = np.random.default_rng([setup.seed, 0x3F1E, block]), sampling.strata
    steps, n, sides = setup.steps + 1, setup.output_count, sampling.sides
    shares = [batch_shares(setup, particles, random) for _ in range(strata)]
    tokens = stratified_points(random, strata, (steps, plan.tokens, n))
    token_shifts = random.random((strata, steps, n))
    neurons = stratified_points(random, sides * strata, (steps, plan.neurons, n))
    neuron_shifts = random.random((sides * strata, steps, n))
    seeds = random.integers(2**31, size=sides * strata)
    at, evenly = (normals_of_few, few_even_normals) if sampling.few else (normals_at, even_normals)
    tail = even_sequences(token_shifts, plan.tokens, evenly)
    tokens = np.asarray(at(tokens))
    if sampling.evenly_spread:
        neurons = even_sequences(neuron_shifts, plan.neurons, evenly)
    else:
        neurons = np.asarray(at(neurons))
    hidden = _hidden_normals(plan, sampling.evenly_spread, seeds)
    return [
        (seeds[k], shares[k // sides], tokens[k // sides], tail[k // sides], neurons[k], hidden[k])
        for k in range(sides * strata)
    ]


def _hidden_normals(
    plan: Plan, evenly_spread: bool, seeds: Integers
) -> Float[np.ndarray, "seeds steps passes N n"]:
    """Of every passage through a hidden matrix."""
    linear = plan.activation == "identity" and plan.normalisation == "none"
    passes = 2 * plan.depth if linear else 0  # others draw their own
    shape = (plan.neurons, plan.outputs)
    if not passes:
        return np.empty((len(seeds), plan.steps, 0, *shape))
    points = np.asarray(_uniform_points(plan.steps, passes, *shape, jnp.asarray(seeds)))
    shift, points = points[..., 0, :], points[..., 1:, :]
    if evenly_spread:
        return even_sequences(shift, plan.neurons)
    return np.asarray(normals_at(points))


def even_sequences(
    shifts: Float[np.ndarray, "*axes n"], count: int, evenly: Callable[..., Any] = even_normals
) -> Float[np.ndarray, "*axes count n"]:
    """Evenly spread normals, a sequence for each shift."""
    flat = shifts.reshape(-1, shifts.shape[-1])
    return np.asarray(evenly(flat, count)).reshape(*shifts.shape[:-1], count, -1)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _uniform_points(
    steps: int, passes: int, neurons: int, outputs: int, seeds: Int[Array, " seeds"]
) -> Float[Array, "seeds steps passes _ n"]:
    """A shift and as many points as there are neurons."""

    def of(seed, step, place):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), place)
        return uniform(key, (neurons + 1, outputs))

    by_place = jax.vmap(of, in_axes=(None, None, 0))
    by_step = jax.vmap(by_place, in_axes=(None, 0, None))
    by_seed = jax.vmap(by_step, in_axes=(0, None, None))
    return by_seed(seeds, jnp.arange(steps), jnp.arange(passes))
