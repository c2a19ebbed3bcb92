"""Mean-field dynamics: what large networks do, at any ratio of vocabulary to width, untrained.

Model and notation are those of `Setup`; b_i = p_hat_i r_i is a token's weighted residual. The
initial embedding Z (tokens x width, entries N(0, 1)) enters the dynamics only through the two
fields u^t = Z w^t (per token) and v^t = Z^T b^t (per neuron). Theory notes, section 8, writes them
as Gaussians plus responses. This module solves the same equations in the form in which they arise:
Z is conditioned on the fields already seen. With Q_w an orthonormal basis of the past w, Q_b one of
the past b, and w = Q_w a + q root, b = Q_b c + q' root' split into old and new directions,

    Z q    = Q_b (Z^T Q_b)^T q  + (1 - Q_b Q_b^T) g,      g ~ N(0, 1) per token
    Z^T q' = Q_w (Z Q_w)^T q'   + (1 - Q_w Q_w^T) g',     g' ~ N(0, 1) per neuron.

The first terms are the responses R_w and R_r (Stein's lemma turns one form into the other), the
second the fresh part of the fields chi and zeta. No response is estimated as a derivative or by
inverting a covariance, so there is no cutoff and nothing that could fail to be positive definite;
sum_i b_i u_i = sum_l v_l w_l holds to rounding.

Inner products are weighted sums over particles: a neuron particle stands for d/N neurons, a token
particle for nu tokens (`token_particles`). With N = d and nu = 1 these are the exact dynamics of a
finite network; many particles per neuron remove its fluctuations and leave the mean-field limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from ._errors import InputError, check_integer
from ._network import DIVERGENCE_FACTOR, _direction, _loss_and_residual, diverged
from ._precision import require_x64
from ._setup import Setup
from ._token_particles import TokenParticles, batch_shares, token_particles

NEW_DIRECTION = 1e-10  # smallest new part of a vector, relative to its length
NEW_AMONG_NEW = 1e-6  # and relative to the largest new part beside it
MAX_DEFECT = 1e-6
MAX_PARTICLES, MAX_REPLICAS = 2**15, 10_000
DEFAULT_PARTICLES = 2048
TOKENS_PER_NEURON = 4  # a sampled tail needs more particles than the neurons do
NOTABLE_ERROR = 0.01  # of the initial loss

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What mean-field theory predicts, at every step before its update.

    With L learning-rate pairs and T steps:

    **Fields:**

    - `setup`; `embedding_lrs`, `projection_lrs`: shape (L,).
    - `loss`: sum_i p_i l(f_i, y_i), shape (L, T), the mean of the replicas.
    - `loss_error`: its numerical error, shape (L, T): the replicas' standard error and, in
      quadrature, the bias that fewer particles show beyond chance (two standard errors). The
      distance of a finite network from the limit is not part of it.
    - `projection_update_rms`, `embedding_update_rms`: shape (L, T), defined as in `Training`.
    - `particles`, `neurons`, `replicas`: how it was computed.
    - `status`: shape L; `ok`, or what is wrong and what to do.

    Source: theory notes, sections 1 and 8.
    """

    setup: Setup
    embedding_lrs: Floats
    projection_lrs: Floats
    loss: Floats
    loss_error: Floats
    projection_update_rms: Floats
    embedding_update_rms: Floats
    particles: int
    neurons: int
    replicas: int
    status: tuple[str, ...]

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Shape (L,): the loss became non-finite or 1e6 times its start (and at least 1)."""
        return diverged(self.loss)


class _Plan(NamedTuple):
    """What is compiled in: never a width, vocabulary, token law, learning rate or seed."""

    tokens: int
    neurons: int
    outputs: int
    loss: str
    optimizer: str
    steps: int


class _Sizes(NamedTuple):
    neurons_each: Array  # neurons that one neuron particle stands for, d/N
    projection_std: Array
    embedding_lr: Array
    projection_lr: Array


class _Tokens(NamedTuple):
    frequencies: Array  # (M,)
    multiplicities: Array  # (M,)
    targets: Array  # (M, n)
    is_tail: Array  # (M,)


class _Seen(NamedTuple):
    """What has been seen of Z: K = steps * outputs columns each, zero until written."""

    neuron_basis: Array  # (N, K), Q_w
    token_basis: Array  # (M, K), Q_b
    token_image: Array  # (M, K), Z Q_w
    neuron_image: Array  # (N, K), Z^T Q_b
    frame: Array  # (N, 2K), orthonormal basis of Q_w and all fresh parts g'


def predict(
    setup: Setup,
    *,
    particles: int | None = None,
    replicas: int = 16,
    embedding_lrs: ArrayLike | None = None,
    projection_lrs: ArrayLike | None = None,
    error_estimate: bool = True,
    progress: Callable[[float], object] | None = None,
) -> Prediction:
    """Solves the mean-field equations forward in time at each pair of learning rates.

    Time and memory depend on particles, outputs and steps alone, not on width or vocabulary.
    Fresh Gaussians are even in value and in the particles' state (array-randomised quasi Monte
    Carlo), except those of the head tokens, which are as random as in a network.

    **Arguments:**

    - `particles`: number of token particles; by default 2048, or the power of two that is enough
      for the setup's outputs and steps. Neuron particles: a quarter of it, or what is enough.
    - `replicas`: number of independent replicas that are averaged, at least 2.
    - `embedding_lrs`, `projection_lrs`: shape (L,) each, paired; default the setup's one pair.
    - `error_estimate`: also solve with about half the particles, so that `loss_error` contains
      the bias; without it `loss_error` is the replicas' standard error.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for too few particles (fewer than 4 outputs * steps), too many (the
    solver keeps tokens x neurons numbers) or too few replicas, and
    `RuntimeError` if JAX's 64-bit types are off. Source: theory notes, section 8.
    """
    require_x64()
    directions = setup.outputs * setup.steps
    if particles is None:
        particles = max(DEFAULT_PARTICLES, 2 ** math.ceil(math.log2(4 * directions)))
    if 4 * directions > MAX_PARTICLES:
        raise InputError(
            "--steps",
            setup.steps,
            f"times --outputs must be at most {MAX_PARTICLES // 4} for the mean-field solver",
        )
    check_integer("--particles", particles, 2, MAX_PARTICLES)
    if particles < 4 * directions:
        raise InputError(
            "--particles",
            particles,
            f"must be at least {4 * directions} for {setup.outputs} outputs and {setup.steps} "
            "steps (every step uses up directions in the particles' space)",
        )
    check_integer("--replicas", replicas, 2, MAX_REPLICAS)
    embedding_rates, projection_rates = np.broadcast_arrays(
        *(
            np.atleast_1d(np.asarray(own if given is None else given, dtype=np.float64))
            for given, own in (
                (embedding_lrs, setup.embedding_lr),
                (projection_lrs, setup.projection_lr),
            )
        )
    )
    neurons = max(particles // TOKENS_PER_NEURON, 4 * directions)
    counts = [(particles, neurons)]
    if error_estimate:
        counts.append((max(particles // 2, 3 * directions), max(neurons // 2, 3 * directions)))
    work = sum(math.prod(pair) for pair in counts) * replicas * len(embedding_rates)
    records, defects = [], []
    for count in counts:
        crowd = token_particles(setup, count[0])
        share = math.prod(count) / work

        def report(share: float = share) -> None:
            if progress is not None:
                progress(share)

        runs = [
            _replicas(setup, crowd, count[1], replicas, rates, report)
            for rates in zip(embedding_rates, projection_rates, strict=True)
        ]
        records.append(np.stack([record for record, _ in runs]))  # (L, R, T, 3)
        defects.append(np.stack([defect for _, defect in runs]))  # (L, R)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = records[0].mean(axis=1)
        spread = _standard_error(records[0][..., 0])
        bias = np.zeros_like(spread)
        if error_estimate:
            chance = np.hypot(spread, _standard_error(records[1][..., 0]))
            change = mean[..., 0] - records[1][..., 0].mean(axis=1)
            # the bias is of order 1/particles
            bias = np.sqrt(np.maximum(change**2 - (2 * chance) ** 2, 0)) / (
                particles / counts[1][0] - 1
            )
    return Prediction(
        setup,
        np.asarray(embedding_rates),
        np.asarray(projection_rates),
        mean[..., 0],
        np.hypot(spread, bias),
        mean[..., 1],
        mean[..., 2],
        particles,
        neurons,
        replicas,
        tuple(
            _status(*row)
            for row in zip(mean[..., 0], spread, bias, defects[0].max(axis=1), strict=True)
        ),
    )


def _replicas(
    setup: Setup,
    crowd: TokenParticles,
    neurons: int,
    replicas: int,
    rates: tuple[float, float],
    report: Callable[[], None],
) -> tuple[Floats, Floats]:
    """Records (R, T, 3) and defects (R,) of independent solutions at one pair of rates.

    A replica is the mean of two solutions whose head tokens have opposite fresh Gaussians.
    """
    count = len(crowd.frequencies)
    plan = _Plan(count, neurons, setup.outputs, setup.loss, setup.optimizer, setup.steps)
    values = (setup.width / neurons, setup.projection_std, *rates)
    sizes = _Sizes(*(jnp.asarray(value, dtype=jnp.float64) for value in values))
    tokens = _Tokens(
        jnp.asarray(crowd.frequencies),
        jnp.asarray(crowd.multiplicities),
        jnp.asarray(crowd.targets),
        jnp.arange(count) >= crowd.head,
    )
    key = jax.random.fold_in(jax.random.key(setup.seed), count)
    records, defects = [], []
    for replica in range(replicas):
        random = np.random.default_rng([setup.seed, 0x3F1E, replica])
        shares = jnp.asarray(batch_shares(setup, crowd, random))
        own_key = jax.random.fold_in(key, replica)
        pair = [_solve(plan, tokens, shares, sizes, own_key, side) for side in (1.0, -1.0)]
        records.append(np.mean([record for record, _ in pair], axis=0))
        defects.append(max(float(defect) for _, defect in pair))
        report()
    return np.stack(records), np.asarray(defects)


@partial(jax.jit, static_argnames="plan")
def _solve(
    plan: _Plan, tokens: _Tokens, shares: Array, sizes: _Sizes, key: Array, side: Array
) -> tuple[Array, Array]:
    """Loss and both update RMS at every step, shape (T, 3), and the solution's defect."""
    n, columns = plan.outputs, plan.outputs * plan.steps
    neurons = jnp.full(plan.neurons, sizes.neurons_each)  # the metric of neuron sums
    nu, mass = tokens.multiplicities, tokens.multiplicities * tokens.frequencies
    heard = jnp.any(shares > 0, axis=0)
    width = plan.neurons * sizes.neurons_each
    direction = _direction(plan.optimizer)

    start = _even_normals(jax.random.fold_in(key, plan.steps), jnp.arange(plan.neurons), n)
    _, start, _ = _split(start, jnp.zeros((plan.neurons, 1)), neurons)
    start = start * (sizes.projection_std * jnp.sqrt(width))  # (N, n)
    weights = {"embedding": jnp.zeros((plan.tokens, plan.neurons)), "projection": start}
    by_token, by_neuron = (jnp.zeros((rows, columns)) for rows in (plan.tokens, plan.neurons))
    frame = jnp.zeros((plan.neurons, 2 * columns))
    seen = _Seen(by_neuron, by_token, by_token, by_neuron, frame)

    def step(carry, inputs):
        weights, memory, seen, first_field = carry
        index, share = inputs
        head_key, tail_key, neuron_key = jax.random.split(jax.random.fold_in(key, index), 3)
        moved, projection = weights["embedding"], weights["projection"]  # moved: e_i(t) - z_i
        output = index % n

        old, fresh, root = _split(projection, seen.neuron_basis, neurons)
        shift = moved @ (neurons[:, None] * projection)
        expected = seen.token_image @ old
        guess = _residual(plan, expected + shift, tokens.targets)[:, output]
        noise = jnp.where(
            tokens.is_tail[:, None],
            _even_normals(tail_key, jnp.lexsort((guess, heard, tokens.is_tail)), n),
            side * jax.random.normal(head_key, (plan.tokens, n)),
        )
        noise = noise - seen.token_basis @ (seen.token_basis.T @ (nu[:, None] * noise))
        response = _response(seen.token_basis, seen.neuron_image, neurons, fresh)
        image = _where_new(fresh, response + noise)
        field = expected + image @ root  # u
        _, framed, _ = _split(fresh, seen.frame, neurons)
        seen = seen._replace(
            neuron_basis=_write(seen.neuron_basis, fresh, index),
            token_image=_write(seen.token_image, image, index),
            frame=_write(seen.frame, framed, 2 * index),
        )
        first_field = jnp.where(index == 0, field, first_field)

        by_embedding = moved @ (neurons[:, None] * start)
        by_projection = field + shift - first_field - by_embedding
        losses, residual = _loss_and_residual(cast(Any, plan), field + shift, tokens.targets)
        updates_rms = [
            jnp.sqrt(mass @ jnp.mean(update**2, axis=-1))
            for update in (by_projection, by_embedding)
        ]
        record = jnp.stack([mass @ losses, *updates_rms])

        weighted = share[:, None] * residual  # b
        old, fresh, root = _split(weighted, seen.token_basis, nu)
        response = _response(seen.neuron_basis, seen.token_image, nu, fresh)
        expected = seen.neuron_image @ old + moved.T @ (nu[:, None] * weighted)
        order = jnp.argsort((expected + response @ root)[:, output])
        noise = _even_normals(neuron_key, order, n)
        _, noise, _ = _split(noise, seen.frame, neurons)
        image = _where_new(fresh, response + noise * jnp.sqrt(width))
        seen = seen._replace(
            token_basis=_write(seen.token_basis, fresh, index),
            neuron_image=_write(seen.neuron_image, image, index),
            frame=_write(seen.frame, noise, 2 * index + 1),
        )
        gradients = {
            "embedding": weighted @ projection.T,
            "projection": expected + image @ root,  # h
        }
        directions, memory = cast(Any, direction.update(gradients, memory))
        weights = {
            "embedding": moved - sizes.embedding_lr * directions["embedding"],
            "projection": projection - sizes.projection_lr * directions["projection"],
        }
        return (weights, memory, seen, first_field), record

    carry = (weights, direction.init(weights), seen, jnp.zeros((plan.tokens, n)))
    (_, _, seen, _), record = jax.lax.scan(step, carry, (jnp.arange(plan.steps), shares))
    return record, _defect(seen, nu, neurons)


def _split(vectors: Array, basis: Array, metric: Array) -> tuple[Array, Array, Array]:
    """vectors = basis @ old + fresh @ root, shapes (P, n), (P, K): old (K, n), root (n, n).

    `fresh` (P, n) is orthonormal in the metric and to the basis; a direction that is new only by
    rounding is a column of zeros.
    """
    size = jnp.sum(metric[:, None] * vectors**2)
    old = basis.T @ (metric[:, None] * vectors)
    rest = vectors - basis @ old
    again = basis.T @ (metric[:, None] * rest)
    old, rest = old + again, rest - basis @ again
    squares, axes = jnp.linalg.eigh(rest.T @ (metric[:, None] * rest))
    kept = (squares > NEW_DIRECTION**2 * size) & (squares > NEW_AMONG_NEW**2 * squares[-1])
    lengths = jnp.sqrt(jnp.where(kept, squares, 1))
    fresh = jnp.where(kept, rest @ axes / lengths, 0)
    root = jnp.where(kept, lengths, 0)[:, None] * axes.T
    gram, one = fresh.T @ (metric[:, None] * fresh), jnp.eye(len(squares))
    return old, fresh @ (1.5 * one - 0.5 * gram), 0.5 * (one + gram) @ root  # one Newton step


def _response(basis: Array, other_image: Array, metric: Array, fresh: Array) -> Array:
    """Q_b (Z^T Q_b)^T q, or Q_w (Z Q_w)^T q': what the fields already seen say of a new one."""
    return basis @ (other_image.T @ (metric[:, None] * fresh))


def _where_new(fresh: Array, image: Array) -> Array:
    """The image of each direction, zero for a column that `_split` left empty."""
    return jnp.where(jnp.any(fresh != 0, axis=0), image, 0)


def _write(columns: Array, block: Array, place: Array) -> Array:
    return jax.lax.dynamic_update_slice(columns, block, (0, place * block.shape[1]))


def _even_normals(key: Array, order: Array, outputs: int) -> Array:
    """Standard normals (P, n) that fill the space of (place in the order, values) evenly.

    A Kronecker sequence (powers of the root of x^(n+1) = x + 1) along the order, shifted at random.
    """
    count = order.shape[0]
    base = 2.0
    for _ in range(64):
        base = (1 + base) ** (1 / (outputs + 1))
    slopes = np.asarray([base ** -(axis + 1) for axis in range(outputs)])
    place = jnp.zeros(count).at[order].set(jnp.arange(1.0, count + 1))
    points = (place[:, None] * slopes + jax.random.uniform(key, (1, outputs))) % 1.0
    return math.sqrt(2) * jax.scipy.special.erfinv(jnp.clip(2 * points - 1, -1 + 1e-12, 1 - 1e-12))


def _residual(plan: _Plan, outputs: Array, targets: Array) -> Array:
    return _loss_and_residual(cast(Any, plan), outputs, targets)[1]


def _defect(seen: _Seen, nu: Array, neurons: Array) -> Array:
    """Largest violation of Q_b^T (Z Q_w) = (Z^T Q_b)^T Q_w and of both bases' orthogonality."""
    by_token = seen.token_basis.T @ (nu[:, None] * seen.token_image)
    by_neuron = seen.neuron_image.T @ (neurons[:, None] * seen.neuron_basis)
    size = jnp.sqrt(jnp.mean(jnp.sum(neurons[:, None] * seen.neuron_image**2, axis=0)) + 1e-300)
    gaps = [jnp.max(jnp.abs(by_token - by_neuron)) / size]
    for basis, metric in ((seen.token_basis, nu), (seen.neuron_basis, neurons)):
        gram = basis.T @ (metric[:, None] * basis)
        gaps.append(jnp.max(jnp.abs(gram - jnp.diag(jnp.round(jnp.diag(gram))))))
    return jnp.max(jnp.stack(gaps))


def _standard_error(samples: Floats) -> Floats:
    """Of the mean over axis 1."""
    return samples.std(axis=1, ddof=1) / math.sqrt(samples.shape[1])


def _status(loss: Floats, spread: Floats, bias: Floats, defect: float) -> str:
    """`ok`, or what is wrong with one solution and what to do about it."""
    if diverged(loss):
        limit = DIVERGENCE_FACTOR * max(loss[0], 1)
        step = int(np.argmin(np.isfinite(loss) & (loss <= limit)))
        return f"diverged at step {step}: lower the learning rates"
    if not defect <= MAX_DEFECT:
        return (
            f"the conditioning lost accuracy (defect {defect:.1g}, must be below {MAX_DEFECT:g}): "
            "raise --particles or lower the learning rates"
        )
    noise, drift = (float(np.max(error)) / max(float(loss[0]), 1e-300) for error in (spread, bias))
    if math.hypot(noise, drift) > NOTABLE_ERROR:
        remedy = "--replicas" if noise > drift else "--particles"
        worst = 100 * math.hypot(noise, drift)
        return f"numerical error up to {worst:.2g} % of the initial loss: raise {remedy}"
    return "ok"
