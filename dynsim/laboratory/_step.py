"""One step of a toy network: loss on a batch, the optimizer's map, the change of weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dynsim._layers import LABELS, LayerValues
from dynsim._optimizers import Constants, direction

from ._head import CLASSES_FROM, Pairs, class_pairs, head_loss
from ._networks import Network, Transformer, Tree, parameter_labels
from ._tasks import Batch


def batch_loss(
    network: Network, multiplier: LayerValues, batch: Batch, loss: str
) -> Float[Array, ""]:
    """Weighted mean over a batch: half the squared error summed over outputs, or cross-entropy."""
    if not isinstance(network, Transformer):
        batch = batch.without_sequences()
    if _in_blocks(network, batch, loss):
        return _blocked_loss(network, multiplier, batch)
    assert not isinstance(batch.targets, Pairs)
    outputs = network(batch.tokens, multiplier).outputs
    outputs = outputs.astype(batch.weights.dtype)
    if loss == "mse":
        each = 0.5 * jnp.sum(jnp.square(outputs - batch.targets), axis=-1)
    elif batch.targets.ndim == batch.tokens.ndim:
        each = optax.softmax_cross_entropy_with_integer_labels(outputs, batch.targets)
    else:
        each = cross_entropy(outputs, batch.targets)
    return jnp.sum(batch.weights * each)


def cross_entropy(
    outputs: Float[Array, "*batch n"], targets: Float[Array, "*batch n"]
) -> Float[Array, "*batch"]:
    """-sum_k y_k ln softmax(f)_k, summed as a matrix product.

    XLA takes a sum of products for one product of two vectors for each token on a CPU, which takes
    a fifth of the step of a narrow network.
    """
    terms = targets * jax.nn.log_softmax(outputs, axis=-1)
    ones = jnp.ones(targets.shape[-1], terms.dtype)
    return -jnp.matmul(terms, ones, precision="highest")


def _in_blocks(network: Network, batch: Batch, loss: str) -> bool:
    """Whether all logits at once would be slower, or too many to be held."""
    if isinstance(batch.targets, Pairs):
        return True
    classes = loss == "ce" and batch.targets.ndim == batch.tokens.ndim
    same_precision = network.embedding.dtype == batch.weights.dtype
    return classes and same_precision and len(_readout(network)) >= CLASSES_FROM


def _readout(network: Network) -> Array:
    return network.embedding if network.readout is None else network.readout


def _blocked_loss(network: Network, multiplier: LayerValues, batch: Batch) -> Float[Array, ""]:
    # The outputs of the forward pass are not used, and so not computed.
    features = multiplier.readout * network(batch.tokens, multiplier).inputs["readout"]
    pairs = batch.targets
    if not isinstance(pairs, Pairs):
        pairs = class_pairs(pairs.ravel(), str(batch.weights.dtype))
    rows = features.reshape(-1, features.shape[-1])
    return head_loss(rows, _readout(network), batch.weights.ravel(), pairs)


def optimizer_direction(
    optimizer: str, entrywise: str, constants: Constants
) -> optax.GradientTransformation:
    """Phi, the step per unit of learning rate: entrywise, or Muon's for hidden matrices."""
    rule = direction(entrywise, constants)
    if optimizer != "muon":
        return rule
    muon = optax.contrib.scale_by_muon(weight_dimension_numbers=_as_matrices)
    by_label = {label: muon if label == "hidden" else rule for label in LABELS}
    return optax.partition({**by_label}, parameter_labels)


def _as_matrices(updates: Any) -> Any:
    """Every weight is a matrix as it stands."""
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(), updates)


def network_step(
    labels: Tree,
    directions: Tree,
    network: Tree,
    rates: LayerValues,
    weight_decay: Array,
    factor: Array,
    decay: str,
) -> Tree:
    """What one step adds to the weights."""

    def of(label, direction, weight):
        rate = factor * rates.of(label)
        shrink = (
            0.0 if label == "vector" else weight_decay * (rate if decay == "coupled" else factor)
        )
        return -(rate * direction + shrink * weight)

    return jax.tree.map(of, labels, directions, network)
