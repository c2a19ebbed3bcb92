"""The flow of a network linearised about its start: its tangent kernel stays what it is.

F(t) = F(0) - Theta Q, with Q the integral of the weighted residual R and Theta the tangent kernel
of all layers, Theta Q = sum over layers of eta K Q G: K the Gram matrix of what a layer reads, G
that of the readout at its output (`derivations.deep_output_flow`, with Q for R). What one layer has
moved is its own term. Source: docs/theory/linearized.md#deep-tangent-kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import derivations
from derivations import flow_symbols as x
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._setup import Experiment

from ._network import FlowNetwork
from ._starts import FlowStart

Numbers = Any


class KernelTask(NamedTuple):
    """What stays. M effective tokens, n outputs, levels 0 to depth."""

    frequencies: Numbers  # (M,)
    targets: Numbers  # (M, n)
    initial_output: Numbers  # (M, n)
    features: Numbers  # K_l, (depth + 1, M, M)
    readouts: Numbers  # G_l, (depth + 1, n, n)
    embedding_lr: Numbers
    projection_lr: Numbers
    hidden_lrs: Numbers  # (depth,)
    width: Numbers


class Impulse(NamedTuple):
    """The state."""

    received: Numbers  # Q, (M, n)


def kernel_size(tokens: int, outputs: int, depth: int) -> int:
    """How many numbers stay and flow."""
    return (depth + 1) * (tokens**2 + outputs**2) + tokens * outputs


def kernel_task(
    setup: Experiment, network: FlowNetwork, start: FlowStart
) -> tuple[KernelTask, Impulse]:
    """The kernel at the start. Without neurons its Gram matrices are those of infinite width."""
    depth, skip, d = network.depth, float(network.residual), float(setup.width)
    tokens, n = start.targets.shape
    if start.embedding is None or start.projection is None:
        growth = (skip + d * network.stds.hidden**2) ** np.arange(depth + 1)
        features = start.embedding_square * growth[:, None, None] * np.eye(tokens)
        readouts = start.projection_square * growth[::-1, None, None] * np.eye(n)
        output = np.zeros((tokens, n))
    else:
        carried, pulled = [start.embedding], [start.projection]
        matrices = () if start.hidden is None else start.hidden
        for matrix in matrices:
            carried.append(skip * carried[-1] + carried[-1] @ matrix.T)
        for matrix in matrices[::-1]:
            pulled.insert(0, skip * pulled[0] + pulled[0] @ matrix)
        features, readouts = (np.stack([a @ a.T for a in rows]) for rows in (carried, pulled))
        output = start.embedding @ pulled[0].T
    rates = network.rates
    parts = start.frequencies, start.targets, output, features, readouts
    numbers = map(np.asarray, (rates.embedding, rates.projection, rates.hidden, d))
    return KernelTask(*parts, *numbers), Impulse(np.zeros((tokens, n)))


def moved_output(task: KernelTask, received: Float[Array, "M n"]) -> Float[Array, "M n"]:
    """F(t) - F(0) = -Theta Q."""
    depth = len(task.features) - 1
    values: dict[Any, Any] = {
        x.weighted_residual: received,
        s.embedding_lr: task.embedding_lr,
        s.projection_lr: task.projection_lr,
    }
    if depth == 0:
        values |= {x.embedding_gram: task.features[0], x.projection_gram: task.readouts[0]}
    for level in range(depth + 1 if depth else 0):
        values[derivations.feature_gram(level)] = task.features[level]
        values[derivations.readout_gram(level)] = task.readouts[level]
    for level in range(1, depth + 1):
        values[derivations.layer_rate(level)] = task.hidden_lrs[level - 1]
    return evaluate(derivations.deep_output_flow(depth), values)


def moved_by_layer(
    task: KernelTask, received: Float[Array, "M n"]
) -> tuple[list[Float[Array, "M n"]], Float[Array, " depth"]]:
    """What projection and embedding have added to the output, and the size of A_l - A_l(0).

    The last is sum_i p_i mean_a [(A_l - A_l(0)) h_{l-1,i}]_a^2, at h_{l-1} of the start.
    """
    ends = [
        -task.projection_lr * task.features[-1] @ received,
        -task.embedding_lr * received @ task.readouts[0],
    ]
    read = task.features[:-1] @ received  # (depth, M, n)
    squares = jnp.einsum("lik,lkj,lij->li", read, task.readouts[1:], read) @ task.frequencies
    return ends, task.hidden_lrs**2 * squares / task.width


def kernel_rates(task: KernelTask) -> tuple[float, ...]:
    """(projection's, embedding's, each hidden layer's) share of the bound on the flow's rates."""
    root = np.sqrt(np.asarray(task.frequencies))[:, None]
    features = [np.linalg.eigvalsh(root * one * root.T)[-1] for one in np.asarray(task.features)]
    readouts = [np.linalg.eigvalsh(one)[-1] for one in np.asarray(task.readouts)]
    return rate_bounds(
        features,
        readouts,
        float(np.max(task.frequencies)),
        (float(task.embedding_lr), float(task.projection_lr), np.asarray(task.hidden_lrs)),
    )


def rate_bounds(
    features: list[Any], readouts: list[Any], frequency: float, rates: tuple[Any, Any, Any]
) -> tuple[float, ...]:
    """The bounds from the largest eigenvalues of P^(1/2) K_l P^(1/2) and of G_l, level by level."""
    embedding_lr, projection_lr, hidden_lrs = rates
    sharpness = {
        x.embedding_sharpness: float(features[-1]),
        x.projection_sharpness: frequency * float(readouts[0]),
    }
    of_ends = (
        {s.embedding_lr: 0.0, s.projection_lr: projection_lr},
        {s.embedding_lr: embedding_lr, s.projection_lr: 0.0},
    )
    ends = [float(evaluate(derivations.fastest_rate(), sharpness | one)) for one in of_ends]
    layers = []
    for rate, below, above in zip(hidden_lrs, features[:-1], readouts[1:], strict=True):
        values = {x.hidden_lr: float(rate), x.embedding_sharpness: float(below)}
        values[x.readout_sharpness] = float(above)
        layers.append(float(evaluate(derivations.hidden_rate(), values)))
    return (*ends, *layers)
