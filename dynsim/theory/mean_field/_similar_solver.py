"""The mean of small networks, stepped entry by entry, and from two sizes the curve of a large one.

Loss, gradients and optimizers are those of `Setup`. Below cross-entropy every class but a token's
own counts `others` times, so that few classes compete with it as many do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from dynsim._draws import normal
from dynsim._losses import loss_and_residual
from dynsim._optimizers import Constants, constants, direction, schedule, weight_copies
from dynsim._programs import program
from dynsim._runs import memory_budget
from dynsim._setup import Setup
from dynsim._targets import targets

from ._averages import Averages, Records, extrapolated
from ._limit import check_time
from ._replicas import Rates
from ._similar import Similar, similar

FIRST_REPLICAS, MOST_REPLICAS = 8, 1024
AIM = 0.85  # of the accuracy, since replicas are counted from an estimate
ALL_TARGETS = 2**24  # up to so many the size of the setup's own is measured
MOST_AT_ONCE = 32


class Shape(NamedTuple):
    """What is compiled in."""

    outputs: int
    width: int
    vocab_size: int
    batch_size: int
    loss: str
    targets: str
    optimizer: str
    steps: int


class Numbers(NamedTuple):
    """What all networks share."""

    constants: Constants
    factors: Float[Array, " T"]
    projection_std: Float[Array, ""]
    target_size: Float[Array, ""]
    others: Float[Array, ""]


class Rate(NamedTuple):
    """Of one network: its learning rates, and what weight decay leaves, per unit of schedule."""

    embedding: Float[Array, " cases"]
    projection: Float[Array, " cases"]
    embedding_decay: Float[Array, " cases"]
    projection_decay: Float[Array, " cases"]


class Sampled(NamedTuple):
    """Mean, standard error, bias and finite-size correction, and the replicas of them."""

    mean: Averages
    spread: Averages
    bias: Averages
    correction: Averages
    replicas: int
    small: Similar


def sampled(
    setup: Setup,
    sample: int,
    rates: Rates,
    *,
    accuracy: float,
    replicas: int | None,
    finite_width: bool,
    memory_gb: float | None,
    progress: Callable[[float], object],
) -> Sampled:
    """The curve of `setup` from networks with `sample` outputs and with half of them.

    `replicas` networks of each size, or as many as the accuracy takes.
    """
    sizes = [similar(setup, count) for count in (sample, sample // 2)]
    share = sample / setup.output_count if finite_width else 0.0
    target_size = _target_size(setup)

    def records(first: int, last: int, part: float) -> list[Records]:
        def report(done: float) -> None:
            progress(part * done / len(sizes))

        return [
            _records(setup, one, rates, target_size, (first, last), memory_gb, report)
            for one in sizes
        ]

    first = FIRST_REPLICAS if replicas is None else replicas
    found = records(0, first, 0.5 if replicas is None else 1.0)
    averages = extrapolated(found, share, 1)
    if replicas is None:
        mean, spread, bias, _ = averages
        start = np.maximum(mean[:, :1, 0], 1e-300)
        with np.errstate(invalid="ignore"):
            noise, drift = (
                float(np.nanmax(np.where(np.isfinite(mean[..., 0]), one[..., 0] / start, 0.0)))
                for one in (spread, bias)
            )
        left = max((AIM * accuracy) ** 2 - drift**2, (0.3 * accuracy) ** 2)
        wanted = math.ceil(min(first * noise**2 / left, MOST_REPLICAS))
        if wanted > first:
            more = records(first, wanted, 0.5)
            found = [np.concatenate(both, axis=1) for both in zip(found, more, strict=True)]
            averages = extrapolated(found, share, 1)
        else:
            progress(0.5)
    return Sampled(*averages, found[0].shape[1], sizes[0])


def _target_size(setup: Setup) -> float:
    """Root mean square of Gaussian targets: that of the setup's own, or 1 for very many."""
    if setup.targets != "gaussian" or setup.vocab_size * setup.output_count > ALL_TARGETS:
        return 1.0
    return float(np.sqrt(np.mean(targets(setup) ** 2)))


def _records(
    setup: Setup,
    small: Similar,
    rates: Rates,
    target_size: float,
    replicas: tuple[int, int],
    memory_gb: float | None,
    report: Callable[[float], None],
) -> Records:
    """Of networks from the first number to before the last, at every pair of rates, as those of
    the large network are."""
    shape = Shape(
        small.outputs,
        small.width,
        small.vocab_size,
        small.batch_size,
        setup.loss_name,
        setup.targets,
        setup.optimizer,
        setup.steps,
    )
    numbers = Numbers(
        constants(setup)._replace(weight_decay=0.0),
        jnp.asarray(schedule(setup)),
        jnp.asarray(small.projection_std),
        jnp.asarray(target_size),
        jnp.asarray(small.others),
    )
    count, pairs = replicas[1] - replicas[0], len(rates.embedding)
    replica, rate = (axis.ravel() for axis in np.indices((count, pairs)))
    key = jax.random.fold_in(jax.random.key(setup.seed), small.outputs)
    numbered = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, 0x51A1)))
    keys = numbered(jnp.asarray(replicas[0] + replica))
    decay = setup.decay_rate
    chunk, found = _at_once(shape, memory_gb), []
    for start in range(0, len(replica), chunk):
        check_time()
        chosen = np.minimum(np.arange(start, start + chunk), len(replica) - 1)
        embedding, projection = (one[rate[chosen]] for one in (rates.embedding, rates.projection))
        each = Rate(
            jnp.asarray(embedding * small.embedding_factor),
            jnp.asarray(projection * small.projection_factor),
            jnp.asarray(embedding * decay),
            jnp.asarray(projection * decay),
        )
        fresh = min(chunk, len(replica) - start)
        found.append(np.asarray(_curves(shape, numbers, each, keys[chosen]))[:fresh])
        report(fresh / len(replica))
    record = np.concatenate(found).reshape(count, pairs, setup.steps, -1)
    factors = np.array([small.loss_factor, *3 * (small.square_factor,)])
    return np.moveaxis(record, 0, 1) * factors


def _at_once(shape: Shape, memory_gb: float | None) -> int:
    """How many networks share a call: a power of two."""
    weights = (shape.vocab_size + shape.outputs) * shape.width
    needed = 8 * ((4 + weight_copies(shape.optimizer)) * weights)
    needed += 8 * 6 * shape.vocab_size * shape.outputs
    most = min(memory_budget(memory_gb) / needed, MOST_AT_ONCE)
    return 2 ** int(math.log2(max(1, most)))


@partial(program, static_argnames="shape")
def _curves(
    shape: Shape, numbers: Numbers, rates: Rate, keys: Key[Array, " cases"]
) -> Float[Array, "cases T columns"]:
    """Loss and the mean squares of the three updates of every network at every step."""
    return jax.vmap(partial(_curve, shape, numbers))(rates, keys)


def _curve(
    shape: Shape, numbers: Numbers, rate: Rate, key: Key[Array, ""]
) -> Float[Array, "T columns"]:
    m, n, d = shape.vocab_size, shape.outputs, shape.width
    for_embedding, for_projection, for_targets, for_batches = jax.random.split(key, 4)
    wanted = _targets(shape, numbers, for_targets)
    rule = direction(shape.optimizer, numbers.constants)
    start = (
        normal(for_embedding, (m, d)),
        numbers.projection_std * normal(for_projection, (n, d)),
    )
    competing = jnp.log(numbers.others) * (1 - wanted) if shape.loss == "ce" else 0.0

    def square(update: Array) -> Array:
        return jnp.mean(update**2)

    def step(state: Any, inputs: Any) -> Any:
        (embedding, projection), memory = state
        index, factor = inputs
        outputs = embedding @ projection.T
        losses, residual = loss_and_residual(shape.loss, outputs + competing, wanted)
        weighted = _shares(shape, for_batches, index)[:, None] * residual
        gradients = weighted @ projection, weighted.T @ embedding
        directions, memory = cast(Any, rule.update(gradients, memory))
        after = tuple(
            (1 - factor * decay) * weight - factor * eta * moved
            for weight, moved, eta, decay in zip(
                (embedding, projection),
                directions,
                (rate.embedding, rate.projection),
                (rate.embedding_decay, rate.projection_decay),
                strict=True,
            )
        )
        record = (
            jnp.mean(losses),
            square(embedding @ (projection - start[1]).T),
            square((embedding - start[0]) @ start[1].T),
            square(embedding @ (after[1] - projection).T),
        )
        return (after, memory), jnp.stack(record)

    inputs = jnp.arange(shape.steps), numbers.factors
    _, record = jax.lax.scan(step, (start, rule.init(start)), inputs)
    return record


def _targets(shape: Shape, numbers: Numbers, key: Key[Array, ""]) -> Float[Array, "m n"]:
    m, n = shape.vocab_size, shape.outputs
    match shape.targets:
        case "sign":
            return jax.random.rademacher(key, (m, n), float)
        case "onehot":
            return jax.nn.one_hot(jax.random.randint(key, (m,), 0, n), n, dtype=float)
    drawn = normal(key, (m, n))
    return numbers.target_size * drawn / jnp.sqrt(jnp.mean(drawn**2))


def _shares(shape: Shape, key: Key[Array, ""], step: Array) -> Float[Array, " m"]:
    """Of the tokens in a batch; all alike in full batch."""
    m, batch = shape.vocab_size, shape.batch_size
    if not batch:
        return jnp.full(m, 1 / m)
    drawn = jax.random.randint(jax.random.fold_in(key, step), (batch,), 0, m)
    return jnp.zeros(m).at[drawn].add(1 / batch)
