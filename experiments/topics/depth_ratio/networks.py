"""Deep linear networks trained with a learning rate for each kind of layer, any of them frozen.

The networks, their optimizers and their initial weights are those of `dynsim.laboratory`. Only the
order of the products differs: the readout is pulled down through the hidden matrices once, f_i =
(A_1' ... A_L' w) . e_i, in place of passing every token up. That is the same function, and its
gradients cost m d instead of m d^2 numbers a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from dynsim import LayerValues, NetworkSetup, targets
from dynsim._optimizers import constants
from dynsim._scales import scales
from dynsim.laboratory._networks import (
    NetworkShape,
    ResidualMLP,
    initial_network,
    network_shape,
    parameter_labels,
)
from dynsim.laboratory._step import optimizer_direction

Floats = NDArray[np.float64]


class Plan(NamedTuple):
    """What is compiled in. Layers that are frozen in all runs have no gradients."""

    shape: NetworkShape
    optimizer: str
    entrywise: str
    steps: int
    trained: tuple[str, ...]


def network_losses(
    setup: NetworkSetup, key: int, embedding: Floats, hidden: Floats, readout: Floats
) -> Floats:
    """Losses (R, T) before every step of one linear network at R triples of learning rates.

    The setup has squared errors, a full batch and learning rates without factors. `key` is the
    seed of the initial weights; targets are those of the setup.
    """
    rates = {"embedding": embedding, "hidden": hidden, "readout": readout}
    trained = tuple(name for name, values in rates.items() if np.any(values))
    shape = network_shape(setup)
    plan = Plan(shape, setup.optimizer, setup.entrywise_optimizer, setup.steps, trained)
    factors = scales(setup)
    assert set(vars(factors.multiplier).values()) == {1.0}
    losses = _losses(
        plan,
        {name: float(value) for name, value in vars(factors.init_factor).items()},
        jax.random.key(key),
        jnp.asarray(targets(setup), shape.dtype),
        jnp.asarray(setup.law().frequencies, shape.dtype),
        constants(setup),
        {name: jnp.asarray(column, shape.dtype) for name, column in rates.items()},
    )
    return np.asarray(losses, dtype=np.float64)


def outputs(network: ResidualMLP) -> Array:
    """Outputs (m, n) of a linear network for every token type."""
    assert network.readout is not None
    pulled = network.readout
    for weight in reversed(network.hidden):
        pulled = pulled @ weight + (pulled if network.residual else 0.0)
    return network.embedding @ pulled.T


@partial(jax.jit, static_argnames="plan")
def _losses(
    plan: Plan,
    init_factor: Mapping[str, Any],
    key: Array,
    wanted: Array,
    frequencies: Array,
    numbers: Any,
    rates: Mapping[str, Array],
) -> Array:
    start: Any = initial_network(plan.shape, LayerValues(**init_factor), key)
    labels = parameter_labels(start)
    moving, still = eqx.partition(start, jax.tree.map(lambda name: name in plan.trained, labels))
    rule = optimizer_direction(plan.optimizer, plan.entrywise, numbers)

    def loss(moving: Any) -> Array:
        errors = outputs(eqx.combine(moving, still)) - wanted
        return 0.5 * jnp.sum(frequencies * jnp.sum(jnp.square(errors), axis=-1))

    def of_run(own: Mapping[str, Array]) -> Array:
        def step(state: Any, _: None) -> tuple[Any, Array]:
            network, memory = state
            value, gradients = jax.value_and_grad(loss)(network)
            directions, memory = rule.update(gradients, memory, network)
            moved = jax.tree.map(
                lambda label, weight, by: weight - own[label] * by,
                parameter_labels(network),
                network,
                directions,
            )
            return (moved, memory), value

        return jax.lax.scan(step, (moving, rule.init(moving)), None, plan.steps)[1]

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(of_run, rates)
