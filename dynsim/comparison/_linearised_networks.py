"""The linearised dynamics of an mlp, with what each layer's update does."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from dynsim._errors import InputError, check_choice
from dynsim._layers import LayerValues
from dynsim._network_setup import NetworkSetup
from dynsim._optimizers import constants, schedule
from dynsim._scales import scales
from dynsim._setup import LINEAR_TARGETS
from dynsim._targets import targets
from dynsim.laboratory._networks import (
    ResidualMLP,
    initial_network,
    network_shape,
    parameter_labels,
)
from dynsim.laboratory._step import network_step, optimizer_direction
from dynsim.laboratory._training import base_rates, run_key
from dynsim.theory.linearized._predict import predict_linearized
from dynsim.theory.linearized._result import LinearizedTraining

Floats = NDArray[np.float64]

MAX_NUMBERS = 2**26  # outputs at all steps, of the model and of its updates


class Outputs(NamedTuple):
    """The function that is linearised: outputs of all tokens; hashable, so that it compiles once.

    Of a list that holds every token twice, what the update of each layer does, flat: the outputs
    with all but the embedding held fixed, those with all but the readout held fixed, and of every
    hidden layer what it makes of its input at the start.
    """

    multiplier: LayerValues
    vocab_size: int

    def __call__(self, network: ResidualMLP, tokens: Array) -> Array:
        if len(tokens) <= self.vocab_size:
            return network(tokens, self.multiplier).outputs
        own = tokens[: len(tokens) // 2]
        held = jax.lax.stop_gradient(network)
        parts = [
            eqx.tree_at(lambda one: one.embedding, held, network.embedding),
            eqx.tree_at(lambda one: one.readout, held, network.readout),
        ]
        read = [part(own, self.multiplier).outputs.ravel() for part in parts]
        inputs = held(own, self.multiplier).inputs
        for layer, weight in enumerate(network.hidden):
            z = self.multiplier.hidden * inputs[f"hidden.{layer}"]
            read.append((z @ weight.T).ravel())
        return jnp.concatenate(read)


def linearised_network_curves(setup: NetworkSetup, seed: int) -> tuple[Floats, LinearizedTraining]:
    """Loss and the update RMS of projection, embedding and every hidden layer before every step.

    Shape (3 + depth, T), of the network of one seed, in float64. Raises `InputError` for what is
    not covered: mini-batches, sizes that are too large.
    Source: docs/theory/linearized.md#linearised-model.
    """
    _check(setup)
    law = setup.law().frequencies
    count = int(np.count_nonzero(law))
    prescribed = scales(setup)
    shape = network_shape(replace(setup, precision="float64"))
    key = jax.random.fold_in(run_key(setup, seed), 0)
    network = initial_network(shape, prescribed.init_factor, key)
    found = predict_linearized(
        Outputs(prescribed.multiplier, setup.vocab_size),
        network,
        jnp.arange(count),
        targets(setup, count),
        np.arange(setup.steps),
        loss=setup.loss_name,
        optimizer=_steps_of(setup, shape),
        weights=law[:count],
        x_test=jnp.tile(jnp.arange(setup.vocab_size), 2),
    )
    assert found.test_outputs is not None
    n, m, d = setup.output_count, setup.vocab_size, setup.width
    moved = found.test_outputs - found.test_outputs[0]
    ends, hidden = np.split(moved, [2 * m * n], axis=1)
    with np.errstate(all="ignore"):
        by_end = np.einsum("m,tpmn->pt", law, ends.reshape(setup.steps, 2, m, n) ** 2) / n
        by_layer = np.einsum("m,tlmd->lt", law, hidden.reshape(setup.steps, -1, m, d) ** 2) / d
        return np.stack([found.loss, *np.sqrt(by_end[::-1]), *np.sqrt(by_layer)]), found


def _check(setup: NetworkSetup) -> None:
    if setup.batch_size:
        allowed = "must be 0: the linearised dynamics are in full batch"
        raise InputError("batch_size", setup.batch_size, allowed)
    check_choice("targets", setup.targets, LINEAR_TARGETS)
    each = 3 * setup.output_count + setup.depth * setup.width
    if each * setup.steps * setup.vocab_size > MAX_NUMBERS:
        allowed = (
            f"times `steps` times `depth` and `width` must be at most {MAX_NUMBERS} when linearised"
        )
        raise InputError("vocab_size", setup.vocab_size, allowed)


@lru_cache(maxsize=8)
def _steps_of(setup: NetworkSetup, shape: Any) -> optax.GradientTransformation:
    """The setup's optimizer, decay, learning rates and schedule as one optax transformation."""
    factors = jnp.asarray(schedule(setup))
    factor = scales(setup).learning_rate
    base = base_rates(setup, setup.embedding_lr, setup.hidden_lr)
    rates = jax.tree.map(lambda a, b: a * b, factor, base)
    decay = jnp.asarray(setup.decay_rate)

    def init(params: Any) -> Any:
        return jnp.zeros([], jnp.int32)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        labels = parameter_labels(params)
        at = factors[state]
        return network_step(labels, updates, params, rates, decay, at, setup.decay), state + 1

    rule = optimizer_direction(setup.optimizer, setup.entrywise_optimizer, constants(setup))
    return optax.chain(rule, optax.GradientTransformation(init, update))
