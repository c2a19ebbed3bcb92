"""proto"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ._network import _direction, _loss_and_residual
from ._setup import Setup
from ._token_particles import batch_shares, token_particles


class _Plan(NamedTuple):
    tokens: int
    neurons: int
    outputs: int
    loss: str
    optimizer: str
    steps: int
    mode: str = "plain"
    qmc: str = ""
    groups: int = 8


class _Sizes(NamedTuple):
    neuron_weight: Array  # width per neuron particle
    projection_std: Array
    embedding_lr: Array
    projection_lr: Array


class _Tokens(NamedTuple):
    frequencies: Array
    multiplicities: Array
    targets: Array
    tail: Array
    group: Array


class _Basis(NamedTuple):
    neurons: Array  # (N, K) orthonormal basis of past projections
    tokens: Array  # (M, K) orthonormal basis of past weighted residuals
    token_image: Array  # (M, K) Z q for each neuron vector q
    neuron_image: Array  # (N, K) Z^T q for each token vector q
    frame: Array  # (N, 2K) orthonormal basis of `neurons` and of the innovations


def _orthonormal(vectors, metric):
    """vectors = q root with q^T metric q = 1 (or 0 for lost directions)."""
    gram = vectors.T @ (metric[:, None] * vectors)
    values, axes = jnp.linalg.eigh(gram)
    return values, axes


def _new_directions(vectors, basis, metric):
    """coefficients (K, n), q (P, n), root (n, n) with vectors = basis coefficients + q root."""
    size = jnp.sum(metric[:, None] * vectors**2)
    coefficients = basis.T @ (metric[:, None] * vectors)
    rest = vectors - basis @ coefficients
    again = basis.T @ (metric[:, None] * rest)
    rest, coefficients = rest - basis @ again, coefficients + again
    values, axes = jnp.linalg.eigh(rest.T @ (metric[:, None] * rest))
    kept = (values > 1e-20 * size) & (values > 1e-12 * values[-1])
    scale = jnp.where(kept, jnp.sqrt(jnp.where(kept, values, 1)), 0)
    q = (rest @ axes) * jnp.where(kept, 1 / jnp.where(kept, scale, 1), 0)
    return coefficients, q, scale[:, None] * axes.T


def _put(array, block, step):
    return jax.lax.dynamic_update_slice(array, block, (0, step * block.shape[1]))


def _lattice(key, order, outputs):
    """Normals that are even in (place in order, value): array-RQMC."""
    count = order.shape[0]
    base = 2.0
    for _ in range(40):
        base = (1 + base) ** (1 / (outputs + 1))
    steps = base ** -jnp.arange(1.0, outputs + 1)
    place = jnp.zeros(count).at[order].set(jnp.arange(count) + 0.5)
    points = (place[:, None] * steps + jax.random.uniform(key, (1, outputs))) % 1.0
    ranks = jnp.argsort(jnp.argsort(points, axis=0), axis=0)
    return jax.scipy.special.ndtri((ranks + 0.5) / count)


def _normals(key, particles, outputs):
    return jax.random.normal(key, (particles, outputs))


@partial(jax.jit, static_argnames="plan")
def _solve(plan: _Plan, tokens: _Tokens, shares: Array, sizes: _Sizes, key: Array):
    n, k = plan.outputs, plan.outputs * plan.steps
    omega = jnp.full(plan.neurons, sizes.neuron_weight)
    nu = tokens.multiplicities
    direction = _direction(plan.optimizer)
    start = sizes.projection_std * _normals(jax.random.fold_in(key, 10**6), plan.neurons, n)
    if plan.mode != "plain":
        c, q, root = _new_directions(start, jnp.zeros((plan.neurons, 1)), omega)
        start = q * (sizes.projection_std * jnp.sqrt(plan.neurons * sizes.neuron_weight))
    weights = {"embedding": jnp.zeros((plan.tokens, plan.neurons)), "projection": start}
    zeros = lambda rows, cols: jnp.zeros((rows, cols))
    basis = _Basis(
        zeros(plan.neurons, k),
        zeros(plan.tokens, k),
        zeros(plan.tokens, k),
        zeros(plan.neurons, k),
        zeros(plan.neurons, 2 * k),
    )
    output_start = jnp.zeros((plan.tokens, n))

    def step(carry, inputs):
        weights, memory, basis, output_start = carry
        index, share = inputs
        token_key, neuron_key = jax.random.split(jax.random.fold_in(key, index))
        delta, w = weights["embedding"], weights["projection"]
        # u = Z w
        a, q, root = _new_directions(w, basis.neurons, omega)
        noise = _normals(token_key, plan.tokens, n)
        known = basis.token_image @ a + delta @ (omega[:, None] * w)
        if "t" in plan.qmc:
            key_r = (
                (known - tokens.targets)[:, index % n]
                if plan.loss == "mse"
                else _loss_and_residual(plan, known, tokens.targets)[1][:, index % n]
            )
            noise = jnp.where(
                tokens.tail[:, None],
                _lattice(token_key, jnp.lexsort((key_r, tokens.group)), n),
                noise,
            )
        noise = noise - basis.tokens @ (basis.tokens.T @ (nu[:, None] * noise))
        image = basis.tokens @ (basis.neuron_image.T @ (omega[:, None] * q)) + noise
        image = image * (jnp.sum(q**2, 0) > 0)
        u = basis.token_image @ a + image @ root
        frame = basis.frame
        if plan.mode != "plain":
            _, qf, _ = _new_directions(q, frame, omega)
            frame = _put(frame, qf, 2 * index)
        basis = basis._replace(
            neurons=_put(basis.neurons, q, index), token_image=_put(basis.token_image, image, index)
        )
        output_start = jnp.where(index == 0, u, output_start)
        by_embedding = delta @ (omega[:, None] * start)
        outputs = u + delta @ (omega[:, None] * w)
        loss, residual = _loss_and_residual(plan, outputs, tokens.targets)
        mass = nu * tokens.frequencies
        by_projection = outputs - output_start - by_embedding
        record = jnp.stack(
            [mass @ loss]
            + [jnp.sqrt(mass @ jnp.mean(v**2, axis=-1)) for v in (by_projection, by_embedding)]
        )
        b = share[:, None] * residual
        # v = Z^T b
        c, qb, rootb = _new_directions(b, basis.tokens, nu)
        noise = _normals(neuron_key, plan.neurons, n)
        if "n" in plan.qmc:
            known = (
                basis.neuron_image @ c
                + delta.T @ (nu[:, None] * b)
                + basis.neurons @ (basis.token_image.T @ (nu[:, None] * qb)) @ rootb
            )
            noise = _lattice(neuron_key, jnp.argsort(known[:, index % n]), n)
        if plan.mode == "plain":
            noise = noise - basis.neurons @ (basis.neurons.T @ (omega[:, None] * noise))
        else:
            _, qn, _ = _new_directions(noise, frame, omega)
            frame = jax.lax.dynamic_update_slice(frame, qn, (0, (2 * index + 1) * n))
            width = plan.neurons * sizes.neuron_weight
            used = 0.0 if plan.mode == "matched" else jnp.sum(jnp.any(basis.neurons != 0, 0))
            noise = qn * jnp.sqrt(width - used)
        image = basis.neurons @ (basis.token_image.T @ (nu[:, None] * qb)) + noise
        image = image * (jnp.sum(qb**2, 0) > 0)
        v = basis.neuron_image @ c + image @ rootb
        basis = basis._replace(
            tokens=_put(basis.tokens, qb, index),
            neuron_image=_put(basis.neuron_image, image, index),
            frame=frame,
        )
        h = v + delta.T @ (nu[:, None] * b)
        updates, memory = direction.update({"embedding": b @ w.T, "projection": h}, memory)
        weights = {
            "embedding": delta - sizes.embedding_lr * updates["embedding"],
            "projection": w - sizes.projection_lr * updates["projection"],
        }
        return (weights, memory, basis, output_start), record

    carry = (weights, direction.init(weights), basis, output_start)
    _, record = jax.lax.scan(step, carry, (jnp.arange(plan.steps), shares))
    return record


def proto(setup: Setup, particles=2048, replicas=4, neurons=None, mode="plain", qmc="", groups=8):
    tp = token_particles(setup, particles)
    N = neurons or particles
    plan = _Plan(
        particles, N, setup.outputs, setup.loss, setup.optimizer, setup.steps, mode, qmc, groups
    )
    sizes = _Sizes(
        *(
            jnp.asarray(v, float)
            for v in (
                setup.width / N,
                setup.projection_std,
                setup.embedding_lr,
                setup.projection_lr,
            )
        )
    )
    tokens = _Tokens(
        jnp.asarray(tp.frequencies),
        jnp.asarray(tp.multiplicities),
        jnp.asarray(tp.targets),
        jnp.arange(particles) >= tp.head,
        jnp.where(
            jnp.arange(particles) >= tp.head,
            (jnp.arange(particles) - tp.head) * groups // max(1, particles - tp.head),
            -1,
        ),
    )
    out = []
    for r in range(replicas):
        rng = np.random.default_rng([setup.seed, 0x3F1E, r])
        shares = jnp.asarray(batch_shares(setup, tp, rng))
        out.append(
            np.asarray(_solve(plan, tokens, shares, sizes, jax.random.key(setup.seed * 1000 + r)))
        )
    return np.array(out)  # R,T,3
