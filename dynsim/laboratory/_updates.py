"""What one step of an mlp has changed so far, layer by layer: sizes over the whole token law."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from dynsim._layers import LayerValues
from dynsim._network_setup import NetworkSetup

from ._head import Pairs, mean_square_outputs
from ._networks import Network, ResidualMLP, Tree
from ._tasks import Batch

UPDATES = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")


def records_updates(setup: NetworkSetup) -> bool:
    """Whether the updates of this network are defined: an mlp with a readout of its own."""
    return setup.network == "mlp" and not setup.tied


class UpdateRecord:
    """Update RMS of R runs at every one of T steps, filled while they train."""

    def __init__(self, setup: NetworkSetup, runs: int):
        self.rms = np.full((3, runs, setup.steps), np.nan)
        self.hidden = np.full((runs, setup.steps, setup.depth), np.nan)

    def fill(self, runs: slice, step: int, sizes: tuple[NDArray, NDArray]) -> None:
        """With `update_sizes` of these runs at a step."""
        self.rms[:, runs, step] = np.moveaxis(sizes[0], 1, 0)
        self.hidden[runs, step] = sizes[1]


@jax.jit
def update_sizes(
    batch: Batch, multiplier: LayerValues, initial: Tree, before: Tree, after: Tree
) -> tuple[Array, Array]:
    """The RMS of `UPDATES`, shape (runs, 3), and of every hidden layer, shape (runs, depth).

    Of networks `before` a step, and what the step that leads to those `after` it does: means over
    tokens by weight, and over outputs or neurons. With z the input of a matrix, projection and
    hidden layers are (W_t - W_0) z_t, the projection's step is (W_{t+1} - W_t) z_t. The embedding's
    is the change of the output if it alone had moved.
    """

    def of_run(networks: tuple[Network, Network, Network]) -> tuple[Array, Array]:
        with jax.default_matmul_precision("highest"):
            return _sizes(batch, multiplier, *networks)

    return jax.lax.map(of_run, (initial, before, after))


def _sizes(
    batch: Batch, multiplier: LayerValues, first: Network, now: Network, then: Network
) -> tuple[Array, Array]:
    assert isinstance(first, ResidualMLP)
    assert isinstance(now, ResidualMLP)
    assert isinstance(then, ResidualMLP)
    assert first.readout is not None
    assert now.readout is not None
    assert then.readout is not None

    def rms(update: Array) -> Array:
        return jnp.sqrt(jnp.sum(batch.weights * jnp.mean(jnp.square(update), axis=-1)))

    def rms_by(features: Array, matrix: Array) -> Array:
        """Of `features` times the matrix transposed; many outputs are not held."""
        if not isinstance(batch.targets, Pairs):
            return rms(features @ matrix.T)
        rows = features.reshape(-1, features.shape[-1])
        return jnp.sqrt(batch.weights.ravel() @ mean_square_outputs(rows, matrix))

    def by_embedding() -> Array:
        was, then_is = first(batch.tokens, multiplier), moved(batch.tokens, multiplier)
        if not isinstance(batch.targets, Pairs):
            return rms(then_is.outputs - was.outputs)
        change = multiplier.readout * (then_is.inputs["readout"] - was.inputs["readout"])
        assert first.readout is not None
        return rms_by(change, first.readout)

    inputs = now(batch.tokens, multiplier).inputs
    moved = eqx.tree_at(lambda network: network.embedding, first, now.embedding)
    features = multiplier.readout * inputs["readout"]
    sizes = (
        rms_by(features, now.readout - first.readout),
        by_embedding(),
        rms_by(features, then.readout - now.readout),
    )
    hidden = [
        rms(multiplier.hidden * inputs[f"hidden.{layer}"] @ (weight - start).T)
        for layer, (weight, start) in enumerate(zip(now.hidden, first.hidden, strict=True))
    ]
    return jnp.stack(sizes), jnp.stack(hidden)
