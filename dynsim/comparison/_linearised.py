"""The linearised dynamics of the linear model, with what each layer's update does to the output."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._initial import initial_weights, seed_keys
from dynsim._optimizers import constants, direction, schedule
from dynsim._setup import Setup
from dynsim._targets import targets
from dynsim.theory.linearized._predict import predict_linearized
from dynsim.theory.linearized._result import LinearizedTraining

Floats = NDArray[np.float64]

MAX_NUMBERS = 2**26  # outputs at all steps, of the model and of its two updates


def linearised_curves(setup: Setup, seed: int) -> tuple[Floats, LinearizedTraining]:
    """Loss and both update RMS before every step, shape (3, T), of the network of one seed.

    In f_lin = W_0 e_0 + dW e_0 + W_0 de the update of the projection is dW e_0 and that of the
    embedding W_0 de. Raises `InputError` for mini-batches and for a size that is too large.
    Source: docs/theory/linearized.md#linearised-lv.
    """
    check_linearised(setup)
    law = setup.law().frequencies
    count = int(np.count_nonzero(law))
    sizes = (setup.vocab_size, setup.output_count, setup.width)
    std = jnp.asarray(setup.projection_std, "float64")
    weights = initial_weights(sizes, std, seed_keys(setup, [seed])[0], "float64")
    params = {"embedding": weights.embedding[:count], "projection": weights.projection}
    found = predict_linearized(
        _outputs,
        params,
        jnp.arange(count),
        targets(setup, count),
        np.arange(setup.steps),
        loss=setup.loss_name,
        optimizer=_steps_of(setup),
        weights=law[:count],
        x_test=jnp.tile(jnp.arange(count), 2),
    )
    assert found.test_outputs is not None
    start = np.asarray(found.outputs[0])
    moved = found.test_outputs.reshape(setup.steps, 2, count, -1) - start.reshape(1, 1, count, -1)
    with np.errstate(all="ignore"):
        squares = np.einsum("m,tpmn->pt", law[:count], moved**2) / setup.output_count
        return np.stack([found.loss, *np.sqrt(squares)]), found


def check_linearised(setup: Setup) -> None:
    """Raises `InputError` for what the linearised route does not cover."""
    if setup.batch_size:
        allowed = "must be 0: the linearised dynamics are in full batch"
        raise InputError("batch_size", setup.batch_size, allowed)
    if 3 * setup.steps * setup.vocab_size * setup.output_count > MAX_NUMBERS:
        allowed = f"times `outputs` and `steps` must be at most {MAX_NUMBERS // 3} when linearised"
        raise InputError("vocab_size", setup.vocab_size, allowed)


def _outputs(params: dict[str, Array], tokens: Array) -> Array:
    """Outputs of all tokens; of a list that holds every token twice, the outputs with the
    embedding held fixed and, behind them, with the projection held fixed."""
    embedding, projection = params["embedding"], params["projection"]
    if len(tokens) == len(embedding):
        return embedding @ projection.T
    held = jax.lax.stop_gradient((embedding, projection))
    return jnp.concatenate([held[0] @ projection.T, embedding @ held[1].T])


@lru_cache(maxsize=8)
def _steps_of(setup: Setup) -> optax.GradientTransformation:
    """The setup's optimizer, decay, learning rates and schedule as one optax transformation."""
    factors = jnp.asarray(schedule(setup))
    rates = {"embedding": setup.embedding_lr, "projection": setup.projection_lr}

    def init(params: Any) -> Any:
        return jnp.zeros([], jnp.int32)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        steps = {name: -rates[name] * factors[state] * one for name, one in updates.items()}
        return steps, state + 1

    return optax.chain(
        direction(setup.optimizer, constants(setup)),
        optax.add_decayed_weights(setup.decay_rate),
        optax.GradientTransformation(init, update),
    )
