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

Weight decay multiplies what is left of Z: e_i(t) = a_t z_i + (moved part), a_t = prod (1 - eta
lambda), so that the outputs contain a_t u^t and the projection's gradient a_t v^t.

Inner products are weighted sums over particles: a neuron particle stands for d/N neurons, a token
particle for nu tokens (`token_particles`). Neuron particles that are evenly spread in value leave
the mean-field limit. Neuron particles that are drawn independently are, for N = d and nu = 1, the
exact dynamics of a finite network; for any N their empirical measure fluctuates as that of N
neurons, so to first order in 1/d a network of width d differs from the limit by N/d times what N
such particles do. That is the finite-width correction.
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

from dynsim._errors import InputError, check_integer
from dynsim._losses import DIVERGENCE_FACTOR, diverged, loss_and_residual
from dynsim._optimizers import Constants, constants, direction, schedule, weight_copies
from dynsim._precision import require_x64
from dynsim._runs import memory_budget
from dynsim._setup import Setup

from ._particles import TokenParticles, batch_shares, token_particles

NEW_DIRECTION = 1e-10  # smallest new part of a vector, relative to its length
NEW_AMONG_NEW = 1e-6  # and relative to the largest new part beside it
MAX_DEFECT = 1e-6
MAX_PARTICLES, MAX_REPLICAS = 2**15, 10_000
DEFAULT_PARTICLES = 2048
TOKENS_PER_NEURON = 4  # a sampled tail needs more particles than the neurons do
NOTABLE_ERROR = 0.01  # of the initial loss
DEFAULT_REPLICAS, MOST_EXTRA_REPLICAS = 16, 8
FEWER_TOKENS = (64, 8)  # so many times fewer token particles, where these are all tokens
MOST_STRATA = 16  # replicas that share a stratified sample of what is not evenly spread
MOST_AT_ONCE = 32  # solutions of one call on a CPU

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What mean-field theory predicts, at every step before its update.

    With L learning-rate pairs and T steps:

    **Fields:**

    - `setup`; `embedding_lrs`, `projection_lrs`: shape (L,).
    - `loss`: sum_i p_i l(f_i, y_i), shape (L, T), the mean of the replicas.
    - `finite_width_correction`: the part of `loss` that is of order 1/width, shape (L, T); the
      infinite-width limit is `loss` without it.
    - `projection_update_rms`, `embedding_update_rms`, `projection_step_rms`: shape (L, T), defined
      as in `Training`; roots of the mean square over replicas.
    - `loss_error` and the like: the numerical error of each, shape (L, T): the replicas' standard
      error and, in quadrature, the bias that fewer particles show beyond chance (two standard
      errors). What is of order 1/width^2 is not part of it.
    - `particles`, `neurons`, `replicas`: how it was computed.
    - `status`: shape L; `ok`, or what is wrong and what to do.

    Source: theory notes, sections 1 and 8.
    """

    setup: Setup
    embedding_lrs: Floats
    projection_lrs: Floats
    loss: Floats
    loss_error: Floats
    finite_width_correction: Floats
    projection_update_rms: Floats
    projection_update_rms_error: Floats
    embedding_update_rms: Floats
    embedding_update_rms_error: Floats
    projection_step_rms: Floats
    projection_step_rms_error: Floats
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
    responses: bool


class _Sizes(NamedTuple):
    width: Array
    projection_std: Array
    neurons: Array  # neuron particles in use; the others weigh nothing
    even: Array  # whether these are evenly spread in value, or drawn independently


class _Descent(NamedTuple):
    constants: Constants
    factors: Array  # of the learning rates, (T,)


class _Tokens(NamedTuple):
    frequencies: Array  # (M,)
    multiplicities: Array  # (M,)
    targets: Array  # (M, n)
    is_tail: Array  # (M,)


class _Case(NamedTuple):
    """What solutions that are computed side by side do not share; one more step than T in places.

    Places 0 to T - 1 of the random numbers are for the steps' fresh Gaussians, the last token place
    for Z w^T and the last neuron place for the initial projection.
    """

    embedding_lr: Array
    projection_lr: Array
    side: Array  # +1 or -1, the sign of the head tokens' fresh Gaussians
    shares: Array  # (T, M)
    token_points: Array  # (T + 1, M, n), uniform in (0, 1)
    token_shifts: Array  # (T + 1, n), of the evenly spread ones
    neuron_points: Array  # (T + 1, N, n)
    neuron_shifts: Array  # (T + 1, n)


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
    replicas: int | None = None,
    embedding_lrs: ArrayLike | None = None,
    projection_lrs: ArrayLike | None = None,
    error_estimate: bool = True,
    finite_width: bool = True,
    responses: bool = True,
    memory_gb: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> Prediction:
    """Solves the mean-field equations forward in time at each pair of learning rates.

    Time and memory depend on particles, outputs and steps alone, not on width or vocabulary; a
    sweep is one compiled computation, with the same random numbers at every learning rate. Fresh
    Gaussians are even in value and in the particles' state (array-randomised quasi Monte Carlo),
    except those of the head tokens, which are as random as in a network and stratified over
    replicas.

    **Arguments:**

    - `particles`: number of token particles; by default 2048, or the power of two that is enough
      for the setup's outputs and steps. Neuron particles: a quarter of it, or what is enough.
    - `replicas`: number of independent replicas that are averaged, at least 2; by default 16, and
      128 where the vocabulary is so small that these take no longer.
    - `embedding_lrs`, `projection_lrs`: shape (L,) each, paired; default the setup's one pair.
    - `error_estimate`: also solve with about half the particles, so that the errors contain the
      bias; without it they are the replicas' standard errors.
    - `finite_width`: add the correction of order 1/width; without it, the infinite-width limit.
    - `responses`: False leaves out what tokens and neurons hear of their own past through each
      other (R_w and R_r), which no valid theory may: a negative control.
    - `memory_gb`: how much memory solutions computed side by side may take (at least one is
      computed); default 32 MiB on a CPU, which is its cache, and 2 GiB elsewhere.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for too few particles (fewer than 4 outputs * steps), too many (the
    solver keeps tokens x neurons numbers) or too few replicas, and
    `RuntimeError` if JAX's 64-bit types are off. Source: theory notes, section 8.
    """
    require_x64()
    particles = _particles(setup, particles)
    tokens = next(
        (particles // fewer for fewer in FEWER_TOKENS if setup.vocab_size * fewer <= particles),
        particles,
    )
    if replicas is None:
        replicas = DEFAULT_REPLICAS * min(particles // tokens, MOST_EXTRA_REPLICAS)
    check_integer("replicas", replicas, 2, MAX_REPLICAS)
    embedding_rates, projection_rates = np.broadcast_arrays(
        *(
            np.atleast_1d(np.asarray(own if given is None else given, dtype=np.float64))
            for given, own in (
                (embedding_lrs, setup.embedding_lr),
                (projection_lrs, setup.projection_lr),
            )
        )
    )
    directions = setup.output_count * setup.steps
    neurons = max(particles // TOKENS_PER_NEURON, 4 * directions)
    fewer = (
        max(particles // 2, 3 * directions) if tokens == particles else tokens,
        max(neurons // 2, 3 * directions),
    )
    kinds = [(tokens, neurons, True)]
    if error_estimate or finite_width:
        kinds.append((*fewer, True))
    if finite_width:
        kinds.append((*fewer, False))
    work = sum(count * number for count, number, _ in kinds)
    strata = min(max(1, replicas // 8), MOST_STRATA)  # so that at least 8 blocks are independent
    crowds = {count: token_particles(setup, count) for count, _, _ in kinds}
    rates = np.asarray(embedding_rates), np.asarray(projection_rates)
    results = []
    for count, number, even in kinds:
        share = count * number / work

        def report(part: float, share: float = share) -> None:
            if progress is not None:
                progress(part * share)

        fields = (setup.output_count, setup.loss_name, setup.optimizer, setup.steps, responses)
        plan = _Plan(count, number, *fields)
        run = _Run(replicas, strata, *rates, even, memory_gb)
        results.append(_solutions(setup, plan, crowds[count], run, report))
    with np.errstate(invalid="ignore", over="ignore"):
        mean, spread, bias, correction = _combined(
            [records for records, _ in results],
            min(setup.width, fewer[1]) / setup.width,
            strata,
            neurons / fewer[1] - 1 if error_estimate else math.inf,
        )
        error = np.hypot(spread, bias)
        rms = np.sqrt(np.where(mean < 0, 0, mean))
        rms_error = error / np.maximum(2 * rms, np.sqrt(np.maximum(error, 1e-300)))
    return Prediction(
        setup,
        embedding_lrs=rates[0],
        projection_lrs=rates[1],
        loss=mean[..., 0],
        loss_error=error[..., 0],
        finite_width_correction=correction[..., 0],
        projection_update_rms=rms[..., 1],
        projection_update_rms_error=rms_error[..., 1],
        embedding_update_rms=rms[..., 2],
        embedding_update_rms_error=rms_error[..., 2],
        projection_step_rms=rms[..., 3],
        projection_step_rms_error=rms_error[..., 3],
        particles=particles,
        neurons=neurons,
        replicas=replicas,
        status=tuple(
            _status(*row)
            for row in zip(mean[..., 0], spread[..., 0], bias[..., 0], results[0][1], strict=True)
        ),
    )


class _Run(NamedTuple):
    """How a kind of solution is sampled."""

    replicas: int
    strata: int
    embedding_lrs: Floats
    projection_lrs: Floats
    even: bool
    memory_gb: float | None


def _particles(setup: Setup, particles: int | None) -> int:
    """The number of particles asked for, checked, or the default."""
    directions = setup.output_count * setup.steps
    if particles is None:
        particles = max(DEFAULT_PARTICLES, 2 ** math.ceil(math.log2(4 * directions)))
    if 4 * directions > MAX_PARTICLES:
        raise InputError(
            "steps",
            setup.steps,
            f"times `outputs` must be at most {MAX_PARTICLES // 4} for the mean-field solver",
        )
    check_integer("particles", particles, 2, MAX_PARTICLES)
    if particles < 4 * directions:
        raise InputError(
            "particles",
            particles,
            f"must be at least {4 * directions} for {setup.output_count} outputs and {setup.steps} "
            "steps (every step uses up directions in the particles' space)",
        )
    return particles


def _combined(
    records: list[Floats], width_ratio: float, block: int, extrapolation: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, standard error, bias and finite-width correction, each (L, T, 4).

    `records` are (L, R, T, 4): of the limit, of the limit with fewer particles, and of as few
    independent neurons. The bias is of order 1/particles. Where a correction is not
    finite it is left out, and the standard error is infinite.
    """
    total, correction = records[0], np.zeros_like(records[0])
    lost: NDArray[np.bool_] = np.zeros(total[:, 0].shape, dtype=bool)
    if len(records) == 3:
        correction = width_ratio * (records[2] - records[1])
        lost = np.any(~np.isfinite(correction), axis=1)
        correction = np.where(lost[:, None], 0, correction)
        total = total + correction
    bias = np.zeros_like(total[:, 0])
    if math.isfinite(extrapolation):
        chance = np.hypot(_standard_error(records[0], block), _standard_error(records[1], block))
        change = records[0].mean(axis=1) - records[1].mean(axis=1)
        bias = np.sqrt(np.maximum(change**2 - (2 * chance) ** 2, 0)) / extrapolation
    spread = np.where(lost, np.inf, _standard_error(total, block))
    return total.mean(axis=1), spread, bias, correction.mean(axis=1)


def _solutions(
    setup: Setup,
    plan: _Plan,
    crowd: TokenParticles,
    run: _Run,
    report: Callable[[float], None],
) -> tuple[Floats, Floats]:
    """Records (L, R, T, 4) of independent replicas at every pair of rates, largest defects (L,).

    A replica is the mean of two solutions whose head tokens have opposite fresh Gaussians.
    """
    width, std, used, even = (
        jnp.asarray(value)
        for value in (
            float(setup.width),
            setup.projection_std,
            float(plan.neurons if run.even else min(setup.width, plan.neurons)),
            run.even,
        )
    )
    sizes = _Sizes(width, std, used, even)
    descent = _Descent(constants(setup), jnp.asarray(schedule(setup)))
    tokens = _Tokens(
        jnp.asarray(crowd.frequencies),
        jnp.asarray(crowd.multiplicities),
        jnp.asarray(crowd.targets),
        jnp.arange(plan.tokens) >= crowd.head,
    )
    rates = run.embedding_lrs, run.projection_lrs
    shape = (run.replicas, len(rates[0]), 2)
    replica, rate, side = (axis.ravel() for axis in np.indices(shape))
    copies = 5 + weight_copies(plan.optimizer)
    most = memory_budget(run.memory_gb) / (8 * copies * plan.tokens * plan.neurons)
    if jax.default_backend() == "cpu":
        most = min(most, MOST_AT_ONCE)
    chunk = 2 ** int(math.log2(max(1, min(most, 2 * run.replicas))))  # one shape for any sweep
    strata, records, defects = run.strata, [], []
    random: dict[int, list[tuple[Floats, ...]]] = {}  # of the blocks in use, by replica and side
    for start in range(0, len(replica), chunk):
        chosen = np.minimum(np.arange(start, start + chunk), len(replica) - 1)
        blocks = dict.fromkeys((replica[chosen] // strata).tolist())
        random = {
            b: random[b] if b in random else _random_numbers(setup, plan, crowd, strata, b)
            for b in blocks
        }
        numbers = [
            random[r // strata][2 * (r % strata) + k]
            for r, k in zip(replica[chosen].tolist(), side[chosen].tolist(), strict=True)
        ]
        cases = _Case(
            *(
                jnp.asarray(values)
                for values in (
                    rates[0][rate[chosen]],
                    rates[1][rate[chosen]],
                    1.0 - 2.0 * side[chosen],
                    *map(np.stack, zip(*numbers, strict=True)),
                )
            )
        )
        record, defect = _solve(plan, tokens, sizes, descent, cases)
        fresh = min(chunk, len(replica) - start)
        records.append(np.asarray(record)[:fresh])
        defects.append(np.asarray(defect)[:fresh])
        report(fresh / len(replica))
    record = np.concatenate(records).reshape(*shape, plan.steps, 4).mean(axis=2)
    return np.moveaxis(record, 0, 1), np.concatenate(defects).reshape(shape).max(axis=(0, 2))


def _random_numbers(
    setup: Setup, plan: _Plan, crowd: TokenParticles, strata: int, block: int
) -> list[tuple[Floats, ...]]:
    """What `_Case` has in random numbers, for every replica of a block and both its sides.

    The sides of a replica share all that concerns the tokens.
    """
    random = np.random.default_rng([setup.seed, 0x3F1E, block])
    steps, n = setup.steps + 1, setup.output_count
    shares = [batch_shares(setup, crowd, random) for _ in range(strata)]
    tokens = _stratified_points(random, strata, (steps, plan.tokens, n))
    token_shifts = random.random((strata, steps, n))
    neurons = _stratified_points(random, 2 * strata, (steps, plan.neurons, n))
    neuron_shifts = random.random((2 * strata, steps, n))
    return [
        (shares[k // 2], tokens[k // 2], token_shifts[k // 2], neurons[k], neuron_shifts[k])
        for k in range(2 * strata)
    ]


def _stratified_points(random: np.random.Generator, draws: int, shape: tuple[int, ...]) -> Floats:
    """Uniform points (draws, *shape), whose distances from 1/2 are a Latin hypercube over draws.

    Normals made of them have stratified sizes; a single draw is as random as any.
    """
    stratum = np.broadcast_to(np.arange(draws).reshape(-1, *(1 for _ in shape)), (draws, *shape))
    distance = (random.permuted(stratum, axis=0) + random.random((draws, *shape))) / (2 * draws)
    return 0.5 + np.where(random.random(shape) < 0.5, -distance, distance)


@partial(jax.jit, static_argnames="plan")
def _solve(
    plan: _Plan, tokens: _Tokens, sizes: _Sizes, descent: _Descent, cases: _Case
) -> tuple[Array, Array]:
    """Of every case: records (T, 4), as in `_solve_one`, and the defect."""
    return jax.vmap(partial(_solve_one, plan, tokens, sizes, descent))(cases)


def _solve_one(
    plan: _Plan, tokens: _Tokens, sizes: _Sizes, descent: _Descent, case: _Case
) -> tuple[Array, Array]:
    """Loss and the three mean-square updates at every step, (T, 4), and the solution's defect."""
    n, columns, width = plan.outputs, plan.outputs * plan.steps, sizes.width
    used = (jnp.arange(plan.neurons) < sizes.neurons)[:, None]
    neurons = jnp.where(used[:, 0], width / sizes.neurons, 0)  # the metric of neuron sums
    nu, mass = tokens.multiplicities, tokens.multiplicities * tokens.frequencies
    heard = jnp.any(case.shares > 0, axis=0)
    optimizer = direction(plan.optimizer, descent.constants)
    decay = descent.constants.weight_decay

    def neuron_normals(place, order, frame):
        """Standard normals (N, n): evenly spread and orthogonal to the frame, or independent."""
        even = _even_points(case.neuron_shifts[place], order)
        normals = _normals(jnp.where(sizes.even, even, case.neuron_points[place]))
        _, even, _ = _split(normals, frame, neurons)
        return even, jnp.where(sizes.even, even * jnp.sqrt(width), used * normals)

    no_frame = jnp.zeros((plan.neurons, 2 * columns))
    _, start = neuron_normals(plan.steps, jnp.arange(plan.neurons), no_frame)
    start = start * sizes.projection_std  # (N, n)
    weights = {"embedding": jnp.zeros((plan.tokens, plan.neurons)), "projection": start}
    by_token, by_neuron = (jnp.zeros((rows, columns)) for rows in (plan.tokens, plan.neurons))
    seen = _Seen(by_neuron, by_token, by_token, by_neuron, no_frame)

    def token_field(seen, index, scale, moved, projection):
        """u = Z w and (e_i - a z_i) . w, with the new direction of w and its image."""
        old, fresh, root = _split(projection, seen.neuron_basis, neurons)
        shift = moved @ (neurons[:, None] * projection)
        expected = seen.token_image @ old
        outputs = scale * expected + shift
        _, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        order = jnp.lexsort((residual[:, index % n], heard, tokens.is_tail))
        even = _even_points(case.token_shifts[index], order)
        points = jnp.where(tokens.is_tail[:, None], even, case.token_points[index])
        noise = _normals(points) * jnp.where(tokens.is_tail, 1, case.side)[:, None]
        noise = noise - seen.token_basis @ (seen.token_basis.T @ (nu[:, None] * noise))
        image = noise
        if plan.responses:
            image = noise + _response(seen.token_basis, seen.neuron_image, neurons, fresh)
        image = _where_new(fresh, image)
        return expected + image @ root, shift, fresh, image

    def mean_square(update):
        return mass @ jnp.mean(update**2, axis=-1)

    def step(carry, inputs):
        weights, memory, seen, scale, first_field, earlier = carry
        index, share, factor = inputs
        moved, projection = weights["embedding"], weights["projection"]  # moved: e_i(t) - a z_i
        field, shift, fresh, image = token_field(seen, index, scale, moved, projection)
        _, framed, _ = _split(fresh, seen.frame, neurons)
        seen = seen._replace(
            neuron_basis=_write(seen.neuron_basis, fresh, index),
            token_image=_write(seen.token_image, image, index),
            frame=_write(seen.frame, framed, 2 * index),
        )
        first_field = jnp.where(index == 0, field, first_field)

        outputs = scale * field + shift
        losses, residual = loss_and_residual(plan.loss, outputs, tokens.targets)
        on_start = moved @ (neurons[:, None] * start)
        # The step before moved W on the embeddings of its own time: only now is Z w^{t+1} known.
        updates = (
            outputs - scale * first_field - on_start,
            (scale - 1) * first_field + on_start,
            earlier[0] * field + earlier[1],
        )
        record = jnp.stack([mass @ losses, *map(mean_square, updates)])

        weighted = share[:, None] * residual  # b
        old, fresh, root = _split(weighted, seen.token_basis, nu)
        by_moved = moved.T @ (nu[:, None] * weighted)
        expected = seen.neuron_image @ old
        response = jnp.zeros((plan.neurons, n))
        if plan.responses:
            response = _response(seen.neuron_basis, seen.token_image, nu, fresh)
        guess = scale * (expected + response @ root) + by_moved
        framed, noise = neuron_normals(index, jnp.argsort(guess[:, index % n]), seen.frame)
        noise = noise - seen.neuron_basis @ (seen.neuron_basis.T @ (neurons[:, None] * noise))
        image = _where_new(fresh, response + noise)
        seen = seen._replace(
            token_basis=_write(seen.token_basis, fresh, index),
            neuron_image=_write(seen.neuron_image, image, index),
            frame=_write(seen.frame, framed, 2 * index + 1),
        )
        gradients = {
            "embedding": weighted @ projection.T,
            "projection": scale * (expected + image @ root) + by_moved,  # h
        }
        directions, memory = cast(Any, optimizer.update(gradients, memory))
        embedding_lr, projection_lr = factor * case.embedding_lr, factor * case.projection_lr
        shrink = 1 - embedding_lr * decay
        weights = {
            "embedding": shrink * moved - embedding_lr * directions["embedding"],
            "projection": (1 - projection_lr * decay) * projection
            - projection_lr * directions["projection"],
        }
        change = weights["projection"] - projection
        earlier = scale, moved @ (neurons[:, None] * change) - scale * field
        return (weights, memory, seen, shrink * scale, first_field, earlier), record

    one, no_field = jnp.ones(()), jnp.zeros((plan.tokens, n))
    carry = (weights, optimizer.init(weights), seen, one, no_field, (one, no_field))
    (weights, _, seen, scale, _, earlier), record = jax.lax.scan(
        step, carry, (jnp.arange(plan.steps), case.shares, descent.factors)
    )
    last, *_ = token_field(seen, plan.steps, scale, weights["embedding"], weights["projection"])
    of_steps = jnp.append(record[1:, 3], mean_square(earlier[0] * last + earlier[1]))
    return record.at[:, 3].set(of_steps), _defect(seen, nu, neurons)


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


def _even_points(shift: Array, order: Array) -> Array:
    """Uniform points (P, n) that fill the space of (place in the order, values) evenly.

    A Kronecker sequence (powers of the root of x^(n+1) = x + 1) along the order, shifted.
    """
    outputs, count = len(shift), len(order)
    base = 2.0
    for _ in range(64):
        base = (1 + base) ** (1 / (outputs + 1))
    slopes = np.asarray([base ** -(axis + 1) for axis in range(outputs)])
    place = jnp.zeros(count).at[order].set(jnp.arange(1.0, count + 1))
    return (place[:, None] * slopes + shift) % 1.0


def _normals(points: Array) -> Array:
    return math.sqrt(2) * jax.scipy.special.erfinv(jnp.clip(2 * points - 1, -1 + 1e-12, 1 - 1e-12))


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


def _standard_error(samples: Floats, block: int) -> Floats:
    """Of the mean over axis 1, of which blocks of neighbours are independent."""
    count = samples.shape[1]
    edges = np.arange(0, count, block)
    shares = np.diff(np.append(edges, count)) / count
    sums = np.add.reduceat(samples, edges, axis=1) / count
    deviations = sums - shares[:, None, None] * samples.mean(axis=1, keepdims=True)
    return np.sqrt(len(edges) / (len(edges) - 1) * np.sum(deviations**2, axis=1))


def _status(loss: Floats, spread: Floats, bias: Floats, defect: float) -> str:
    """`ok`, or what is wrong with one solution and what to do about it."""
    if diverged(loss):
        limit = DIVERGENCE_FACTOR * max(loss[0], 1)
        step = int(np.argmin(np.isfinite(loss) & (loss <= limit)))
        return f"diverged at step {step}: lower the learning rates"
    if not defect <= MAX_DEFECT:
        return (
            f"the conditioning lost accuracy (defect {defect:.1g}, must be below {MAX_DEFECT:g}): "
            "raise `particles` or lower the learning rates"
        )
    noise, drift = (float(np.max(error)) / max(float(loss[0]), 1e-300) for error in (spread, bias))
    if not math.isfinite(noise):
        return "the finite-width correction diverged: lower the learning rates"
    if math.hypot(noise, drift) > NOTABLE_ERROR:
        remedy = "replicas" if noise > drift else "particles"
        worst = 100 * math.hypot(noise, drift)
        return f"numerical error up to {worst:.2g} % of the initial loss: raise {remedy}"
    return "ok"
