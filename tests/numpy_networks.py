"""Tiny networks in numpy with written-out backpropagation: the independent route of the tests.

Nothing here imports dynsim. Leading axis: independent seeds. Losses are mean squared errors,
L = sum_i p_i |f_i - y_i|^2 / 2. `centred` networks subtract their own initial output, so that
the first residual is exactly -y and does not depend on the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def zipf(vocab_size: int, alpha: float) -> Array:
    weights = np.arange(1, vocab_size + 1, dtype=float) ** -alpha
    return weights / weights.sum()


def first_direction(optimizer: str, gradient: Array) -> Array:
    """The first update of an optimizer per unit of learning rate (Adam by its own recursion)."""
    if optimizer == "sgd":
        return gradient
    if optimizer == "sign":
        return np.sign(gradient)
    first, second = 0.1 * gradient, 0.001 * gradient**2
    return (first / (1 - 0.9)) / (np.sqrt(second / (1 - 0.999)) + 1e-8)


def draw_shares(
    random: np.random.Generator, frequencies: Array, seeds: int, batch_size: int
) -> Array:
    """Each seed's batch shares, or the frequencies themselves in full batch: (seeds, m)."""
    if not batch_size:
        return np.broadcast_to(frequencies, (seeds, len(frequencies)))
    return random.multinomial(batch_size, frequencies, size=seeds) / batch_size


@dataclass(frozen=True)
class Updates:
    """What the first step changed in the output, per unit learning rate: (seeds, m, n)."""

    projection: Array
    embedding: Array
    cross: Array


def linear_first_step(
    random: np.random.Generator,
    *,
    width: int,
    targets: Array,
    frequencies: Array,
    seeds: int,
    optimizer: str = "sign",
    embedding_std: float = 1.0,
    projection_std: float = 1.0,
    batch_size: int = 0,
    shares: Array | None = None,
    centred: bool = True,
) -> Updates:
    """First step of f = W e from fresh weights, every seed; `targets` (m, n) or (seeds, m, n)."""
    m, n = targets.shape[-2:]
    embedding = embedding_std * random.standard_normal((seeds, m, width))
    projection = projection_std * random.standard_normal((seeds, n, width))
    if shares is None:
        shares = draw_shares(random, frequencies, seeds, batch_size)
    residual = np.broadcast_to(-targets, (seeds, m, n))
    if not centred:
        residual = embedding @ projection.swapaxes(1, 2) + residual
    weighted = shares[..., None] * residual  # (seeds, m, n)
    moved_projection = -first_direction(optimizer, weighted.swapaxes(1, 2) @ embedding)
    moved_embedding = -first_direction(optimizer, weighted @ projection)
    return Updates(
        embedding @ moved_projection.swapaxes(1, 2),
        moved_embedding @ projection.swapaxes(1, 2),
        moved_embedding @ moved_projection.swapaxes(1, 2),
    )


def hidden_first_step(
    random: np.random.Generator,
    *,
    width: int,
    targets: Array,
    frequencies: Array,
    seeds: int,
    optimizer: str,
    readout_std: float,
) -> tuple[Array, Array]:
    """First step of the hidden matrix of f = v U e, centred, one output.

    Returns one coordinate of (Delta U) e_i and the output's change v (Delta U) e_i: (seeds, m).
    """
    m = len(targets)
    embedding = random.standard_normal((seeds, m, width))
    readout = readout_std * random.standard_normal((seeds, width))
    backpropagated = (-targets[:, 0])[None, :, None] * readout[:, None, :]  # (seeds, m, d)
    gradient = (frequencies[None, :, None] * backpropagated).swapaxes(1, 2) @ embedding
    change = embedding @ -first_direction(optimizer, gradient).swapaxes(1, 2)  # (seeds, m, d)
    return change[..., 0], np.einsum("smd,sd->sm", change, readout)


@dataclass(frozen=True)
class Run:
    """What a training loop recorded before each step."""

    loss: Array
    projection_update_rms: Array
    embedding_update_rms: Array
    projection_step_rms: Array
    embedding: list[Array]
    projection: list[Array]


def train_linear(
    embedding: Array,
    projection: Array,
    targets: Array,
    frequencies: Array,
    *,
    loss: str,
    optimizer: str,
    embedding_lr: float,
    projection_lr: float,
    steps: int,
    shares: list[Array] | None = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    factors: list[float] | None = None,
) -> Run:
    """Plain loop of one network in float64 from the given weights (m, d) and (n, d).

    `factors` multiply both learning rates, step by step.
    """
    start = embedding.copy(), projection.copy()
    weights = [embedding.copy(), projection.copy()]
    first = [np.zeros_like(weight) for weight in weights]
    second = [np.zeros_like(weight) for weight in weights]
    losses, by_projection, by_embedding, by_step = [], [], [], []
    embeddings, projections = [], []
    for step in range(1, steps + 1):
        outputs = weights[0] @ weights[1].T
        if loss == "mse":
            residual = outputs - targets
            values = 0.5 * (residual**2).sum(axis=1)
        else:
            shifted = outputs - outputs.max(axis=1, keepdims=True)
            chance = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
            residual = chance - targets
            values = -(targets * np.log(chance)).sum(axis=1)
        losses.append(float(frequencies @ values))
        change = weights[0] @ (weights[1] - start[1]).T
        by_projection.append(float(np.sqrt(frequencies @ (change**2).mean(axis=1))))
        change = (weights[0] - start[0]) @ start[1].T
        by_embedding.append(float(np.sqrt(frequencies @ (change**2).mean(axis=1))))
        embeddings.append(weights[0].copy())
        projections.append(weights[1].copy())
        share = frequencies if shares is None else shares[step - 1]
        weighted = share[:, None] * residual
        gradients = [weighted @ weights[1], weighted.T @ weights[0]]
        factor = 1.0 if factors is None else factors[step - 1]
        for k, rate in enumerate((factor * embedding_lr, factor * projection_lr)):
            gradient = gradients[k]
            if optimizer == "sgd":
                direction = gradient
            elif optimizer == "sign":
                direction = np.sign(gradient)
            elif optimizer == "smoothed-sign":
                direction = gradient / np.hypot(gradient, epsilon)
            elif optimizer == "momentum":
                first[k] = beta1 * first[k] + gradient
                direction = first[k]
            else:
                first[k] = beta1 * first[k] + (1 - beta1) * gradient
                second[k] = beta2 * second[k] + (1 - beta2) * gradient**2
                corrected = first[k] / (1 - beta1**step), second[k] / (1 - beta2**step)
                direction = corrected[0] / (np.sqrt(corrected[1]) + epsilon)
            weights[k] = weights[k] - rate * (direction + weight_decay * weights[k])
        change = embeddings[-1] @ (weights[1] - projections[-1]).T
        by_step.append(float(np.sqrt(frequencies @ (change**2).mean(axis=1))))
    records = (np.array(record) for record in (losses, by_projection, by_embedding, by_step))
    return Run(*records, embeddings, projections)
