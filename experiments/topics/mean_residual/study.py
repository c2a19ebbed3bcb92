"""The first update of a readout above one hidden layer, by activation, normalisation, residuals.

The network is f_i = W z_i with z_i = N(phi(A e_i)) or, where the normalisation stands before the
activation, phi(N(A e_i)); A and the embedding are random, W starts at zero, so that residuals are
minus the targets. Its first sign step is that of the gradient by automatic differentiation. Nothing
in a cell uses a theory formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dynsim._draws import normal
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=False),
}
NORMALISATIONS = ("none", "rms", "layer", "layer before")
RESIDUALS = ("raw", "centred")


def _rms(x: Array) -> Array:
    return x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True))


def _layer(x: Array) -> Array:
    return _rms(x - jnp.mean(x, axis=-1, keepdims=True))


def features(activation: str, normalisation: str, fields: Array) -> Array:
    """What the readout reads, from the hidden layer's fields A e_i of shape (m, d)."""
    phi = ACTIVATIONS[activation]
    match normalisation:
        case "rms":
            return _rms(phi(fields))
        case "layer":
            return _layer(phi(fields))
        case "layer before":
            return phi(_layer(fields))
    return phi(fields)


@partial(jax.jit, static_argnames=("activation", "normalisation"))
def relative_update(activation: str, normalisation: str, fields: Array, wanted: Array) -> Array:
    """Mean squares over tokens of what one sign step of the readout adds to each output, over that
    of its features; shape (n,). Targets `wanted` have shape (m, n)."""
    z = features(activation, normalisation, fields)

    def loss(readout: Array) -> Array:
        return 0.5 * jnp.mean(jnp.sum(jnp.square(z @ readout.T - wanted), axis=-1))

    start = jnp.zeros((wanted.shape[-1], z.shape[-1]), z.dtype)
    step = -jnp.sign(jax.grad(loss)(start))
    return jnp.mean(jnp.square(z @ step.T), axis=0) / jnp.mean(jnp.square(z))


def _cell(width: int, vocab_size: int, outputs: int, seeds: int, seed: int = 0) -> Any:
    """Mean squares by activation, normalisation and residuals. A seed has its own network and
    targets; its value is a mean over outputs. The targets are the same at every width."""
    found = np.empty((len(ACTIVATIONS), len(NORMALISATIONS), len(RESIDUALS), seeds))
    for number in range(seeds):
        key = jax.random.key(run_seed(seed, number))
        for_embedding, for_hidden = jax.random.split(jax.random.fold_in(key, width))
        embedding = normal(for_embedding, (vocab_size, width), jnp.float32)
        hidden = normal(for_hidden, (width, width), jnp.float32) * width**-0.5
        raw = normal(jax.random.fold_in(key, 0), (vocab_size, outputs), jnp.float32)
        fields = embedding @ hidden.T
        for place, wanted in enumerate((raw, raw - raw.mean(axis=0, keepdims=True))):
            for row, activation in enumerate(ACTIVATIONS):
                for column, normalisation in enumerate(NORMALISATIONS):
                    sizes = relative_update(activation, normalisation, fields, wanted)
                    found[row, column, place, number] = float(sizes.mean())
    return {"mean_square": (("activation", "normalisation", "residuals", "seed"), found)}


MEAN_RESIDUAL = Study(
    "mean_residual",
    cells=lambda full: grid(width=(64, 128, 256, 512)) if full else [],
    measure=_cell,
    config=lambda full: {"vocab_size": 16384, "outputs": 32, "seeds": 16},
    labels={
        "activation": list(ACTIVATIONS),
        "normalisation": list(NORMALISATIONS),
        "residuals": list(RESIDUALS),
    },
)

STUDIES = (MEAN_RESIDUAL,)
