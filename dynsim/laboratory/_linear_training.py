"""Finite-width linear networks, trained: the measurement that theory is held against.

This trainer and `train_networks` with `network="linear"` are two independent routes to the same
training runs, kept as a check of each other. Here gradients are written out by hand and all pairs
of learning rates and seeds advance in one scan; there they are automatic, and each run is a column.
They share what defines the experiment: keys of the seeds, token law, targets, draws of tokens, the
optimizer's map and schedule, and the rule for divergence. Each draws initial weights and computes
losses and gradients by itself. A test holds that their losses agree within 1e-10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from numpy.typing import ArrayLike, NDArray

from dynsim._draws import separate
from dynsim._initial import (
    Weights,
    check_memory,
    initial_networks,
    initial_weights,
    network_bytes,
    seed_keys,
)
from dynsim._losses import diverged, loss_and_residual, overflowed
from dynsim._optimizers import Constants, constants, direction, schedule
from dynsim._precision import require_x64
from dynsim._programs import program
from dynsim._results import Declared, Result
from dynsim._runs import (
    check_curves_fit,
    chunks,
    drawn_tokens,
    even,
    memory_budget,
    running_sum,
    seed_labels,
)
from dynsim._setup import Setup
from dynsim._summary import summary
from dynsim._targets import has_sparse_targets, sparse_targets, targets

from ._head import Pairs, bigram_pairs, head_pass, mean_square_outputs

STEPS_PER_CALL = 100  # steps of one jitted call, between two reports of progress
RECORD_COPIES = 4  # of a step's numbers, while they are gathered and printed


@dataclass(frozen=True, eq=False)
class StepParts:
    """What a step's update is made of, at every step: arrays of shape (L, K, T).

    With the step's changes dW and de_i, and embeddings e_i before it:

    - `embedding_step_rms`: sqrt(sum_i p_i mean_k [W_t de_i]_k^2).
    - `incoherent_rms`: sqrt(sum_i p_i mean_k sum_l (dW_kl e_il)^2), the size of dW e_i if its d
      terms had random signs.
    - `aligned_rms`: sqrt(sum_i p_i mean_k |dW_k|^2 |e_i|^2), its size if dW_k were along e_i.

    Definitions: docs/theory/model.md#coherence.
    """

    embedding_step_rms: NDArray[np.float64]
    incoherent_rms: NDArray[np.float64]
    aligned_rms: NDArray[np.float64]

    def __repr__(self) -> str:
        return summary(
            "Parts of every step's update (learning-rate pairs x seeds x steps)",
            embedding_step_rms=self.embedding_step_rms,
            incoherent_rms=self.incoherent_rms,
            aligned_rms=self.aligned_rms,
        )


@dataclass(frozen=True, eq=False)
class Training(Result):
    """What training finite networks measured, at every step before its update.

    With L learning-rate pairs, K seeds and T steps:

    **Fields:**

    - `setup`: what was trained; `embedding_lrs`, `projection_lrs`: shape (L,); `seeds`: labels of
      the networks, shape (K,).
    - `loss`: sum_i p_i l(f_i, y_i), shape (L, K, T), over the whole token law also in mini-batch.
    - `projection_update_rms`: sqrt(sum_i p_i mean_k [(W_t - W_0) e_i(t)]_k^2), shape (L, K, T).
    - `embedding_update_rms`: the same of W_0 (e_i(t) - e_i(0)), shape (L, K, T).
    - `projection_step_rms`: the same of (W_{t+1} - W_t) e_i(t), what step t itself changes by
      moving the projection, shape (L, K, T).
    - `step_parts`: more about every step, None unless it was asked for.
    - `diverged`: shape (L, K); the loss became non-finite or 1e6 times its start (and at least 1),
      or a recorded update became non-finite.

    Definitions: docs/theory/model.md#quantities.
    """

    arrays: ClassVar[Declared] = {
        "loss": "rates seed step",
        "projection_update_rms": "rates seed step",
        "embedding_update_rms": "rates seed step",
        "projection_step_rms": "rates seed step",
        "diverged": "rates seed",
        "embedding_lr": ("rates", "embedding_lrs"),
        "projection_lr": ("rates", "projection_lrs"),
        "seed": ("seed", "seeds"),
    }

    setup: Setup
    embedding_lrs: NDArray[np.float64]
    projection_lrs: NDArray[np.float64]
    seeds: NDArray[np.int64]
    loss: NDArray[np.float64]
    projection_update_rms: NDArray[np.float64]
    embedding_update_rms: NDArray[np.float64]
    projection_step_rms: NDArray[np.float64]
    step_parts: StepParts | None = None

    @property
    def diverged(self) -> NDArray[np.bool_]:
        lost = overflowed(self.projection_update_rms) | overflowed(self.embedding_update_rms)
        return diverged(self.loss) | lost

    def __repr__(self) -> str:
        return summary(
            "Training of finite linear networks (learning-rate pairs x seeds x steps)",
            setup=self.setup,
            embedding_lrs=self.embedding_lrs,
            projection_lrs=self.projection_lrs,
            seeds=self.seeds,
            loss=self.loss,
            projection_update_rms=self.projection_update_rms,
            embedding_update_rms=self.embedding_update_rms,
            projection_step_rms=self.projection_step_rms,
            diverged=f"{int(self.diverged.sum())} of {self.diverged.size} networks",
        )


@dataclass(frozen=True, eq=False)
class TokenUpdates(Result):
    """Mean-square output update of every token after one step: arrays of shape (seeds, tokens).

    - `projection`: mean over outputs of [(W_1 - W_0) e_i(0)]_k^2.
    - `embedding`: mean over outputs of [W_0 (e_i(1) - e_i(0))]_k^2.
    - `cross`: mean over outputs of [(W_1 - W_0) (e_i(1) - e_i(0))]_k^2.
    - `batch_share`: the token's share of the batch (its frequency in full batch).
    """

    arrays: ClassVar[Declared] = {
        "projection_mean_square": ("seed token", "projection"),
        "embedding_mean_square": ("seed token", "embedding"),
        "cross_mean_square": ("seed token", "cross"),
        "batch_share": "seed token",
    }

    projection: NDArray[np.float64]
    embedding: NDArray[np.float64]
    cross: NDArray[np.float64]
    batch_share: NDArray[np.float64]

    def __repr__(self) -> str:
        return summary(
            "Output updates of the first step (seeds x tokens)",
            projection=self.projection,
            embedding=self.embedding,
            cross=self.cross,
            batch_share=self.batch_share,
        )


class _Plan(NamedTuple):
    """What is compiled in: shapes and rules, never a learning rate, seed or token law."""

    width: int
    vocab_size: int
    outputs: int
    loss: str
    optimizer: str
    batch_size: int
    steps: int
    dtype: str
    record_updates: bool
    record_parts: bool

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.vocab_size, self.outputs, self.width


class _Task(NamedTuple):
    """What the loss needs: frequencies (m,), their float64 running sum (m,), targets (m, n)."""

    frequencies: Array
    cumulative: Array
    targets: Array | Pairs
    projection_std: Array


class _Descent(NamedTuple):
    """The optimizer's numbers and the schedule: factors of the learning rates, shape (steps,)."""

    constants: Constants
    factors: Array


def train_linear(
    setup: Setup,
    seeds: int | ArrayLike = 4,
    *,
    embedding_lrs: ArrayLike | None = None,
    projection_lrs: ArrayLike | None = None,
    dtype: str = "float32",
    record_updates: bool = True,
    record_parts: bool = False,
    memory_gb: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> Training:
    """Trains a finite network for each seed at each pair of learning rates.

    Gradients are exact: dL/dW = sum_i p_i r_i e_i^T, dL/de_i = p_i W^T r_i, with p the law's
    frequencies or, in mini-batch, the shares of a batch of `setup.batch_size` tokens drawn from
    them. All runs of a sweep share one compiled scan.

    **Arguments:**

    - `seeds`: independent initialisations and batch streams, the same for every pair: a count K
      means those labelled 0, ..., K - 1, a sequence gives the labels. Targets are those of
      `setup.seed` for all.
    - `embedding_lrs`, `projection_lrs`: shape (L,) each, paired; default the setup's one pair.
    - `dtype`: `float32` or `float64`.
    - `record_updates`: without it the three update RMS are NaN and a step has three matrix
      products in place of six.
    - `record_parts`: also record `step_parts`, for one matrix product more.
    - `memory_gb`: how much memory the networks trained side by side may take (at least one is
      trained); default 32 MiB on a CPU, which is its cache, and 2 GiB elsewhere.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for a network that does not fit `memory_gb`-sized steps at all, and
    `RuntimeError` if JAX's 64-bit types are off.

    **Example:**

    >>> from dynsim import Setup
    >>> from dynsim.laboratory import train_linear
    >>> setup = Setup(width=16, vocab_size=32, optimizer="sign", steps=3)
    >>> runs = train_linear(setup, seeds=2, embedding_lrs=[0.0, 0.1], projection_lrs=[0.01, 0.01])
    >>> runs.loss.shape  # pairs of learning rates, seeds, steps and the start
    (2, 2, 3)
    """
    require_x64()
    labels = seed_labels(seeds)
    embedding_rates, projection_rates = np.broadcast_arrays(
        np.atleast_1d(np.asarray(setup.embedding_lr if embedding_lrs is None else embedding_lrs)),
        np.atleast_1d(
            np.asarray(setup.projection_lr if projection_lrs is None else projection_lrs)
        ),
    )
    check_memory(setup, dtype)
    columns = (7 if record_parts else 4) * len(labels) * len(embedding_rates)
    check_curves_fit(setup, RECORD_COPIES * 8 * columns)
    segments = math.ceil(setup.steps / STEPS_PER_CALL)
    length = math.ceil(setup.steps / segments)
    plan = _plan(setup, length, dtype, record_updates, record_parts)
    task = _task(setup, dtype)
    descent = _descent(setup, dtype, segments * plan.steps)
    runs = max(1, int(memory_budget(memory_gb) / network_bytes(setup, dtype)))
    rate_chunk = even(len(embedding_rates), runs)
    seed_chunk = even(len(labels), max(1, runs // rate_chunk))
    keys = seed_keys(setup, labels)

    blocks = []
    rows, columns = len(labels) / seed_chunk, len(embedding_rates) / rate_chunk
    pieces = math.ceil(rows) * math.ceil(columns) * segments
    for seed_slice in chunks(len(labels), seed_chunk):
        key = keys[seed_slice]
        start = _start(plan, task.projection_std, key)
        row = []
        for rate_slice in chunks(len(embedding_rates), rate_chunk):
            rates = Weights(
                jnp.asarray(embedding_rates[rate_slice], dtype),
                jnp.asarray(projection_rates[rate_slice], dtype),
            )
            state = _begin(plan, descent, start, rates) if segments > 1 else None
            records = []
            for segment in range(segments):
                state, record = _advance(
                    plan, task, descent, key, start, rates, state, segment * plan.steps
                )
                records.append(np.asarray(record, dtype=np.float64))
                if progress is not None:
                    progress(1 / pieces)
            row.append(np.concatenate(records, axis=-2)[..., : setup.steps, :])
        blocks.append(np.concatenate(row, axis=1))
    record = np.moveaxis(np.concatenate(blocks, axis=0), 0, 1)  # (L, K, T, 4 or 7)
    return Training(
        setup,
        np.asarray(embedding_rates, np.float64),
        np.asarray(projection_rates, np.float64),
        labels,
        record[..., 0],
        record[..., 1],
        record[..., 2],
        record[..., 3],
        StepParts(record[..., 4], record[..., 5], record[..., 6]) if record_parts else None,
    )


def token_updates(
    setup: Setup, seeds: int | ArrayLike = 4, *, dtype: str = "float32"
) -> TokenUpdates:
    """The first step's update of every token's output, seed by seed (a count or labels).

    Raises as `train` does.

    **Example:**

    >>> from dynsim import Setup
    >>> from dynsim.laboratory import token_updates
    >>> updates = token_updates(Setup(width=16, vocab_size=32, optimizer="sign"), seeds=2)
    >>> updates.projection.shape  # seeds, tokens
    (2, 32)
    """
    require_x64()
    check_memory(setup, dtype)
    plan, task = _plan(setup, 1, dtype), _task(setup, dtype)
    descent = _descent(setup, dtype, setup.steps)
    rates = Weights(jnp.asarray(setup.embedding_lr, dtype), jnp.asarray(setup.projection_lr, dtype))
    rows = []
    for key in separate(seed_keys(setup, seeds)):
        start = initial_weights(plan.sizes, task.projection_std, key, dtype)
        found = _first_token_updates(plan, task, descent, key, start, rates)
        rows.append(jax.tree.map(np.asarray, found))
    return TokenUpdates(*(np.asarray(column, np.float64) for column in zip(*rows, strict=True)))


def _plan(
    setup: Setup,
    steps: int,
    dtype: str,
    record_updates: bool = True,
    record_parts: bool = False,
) -> _Plan:
    return _Plan(
        setup.width,
        setup.vocab_size,
        setup.output_count,
        setup.loss_name,
        setup.optimizer,
        setup.batch_size,
        steps,
        dtype,
        record_updates,
        record_parts,
    )


def _task(setup: Setup, dtype: str) -> _Task:
    frequencies = setup.law().frequencies
    sparse = has_sparse_targets(setup)
    return _Task(
        jnp.asarray(frequencies, dtype),
        running_sum(frequencies),
        bigram_pairs(sparse_targets(setup), dtype)
        if sparse
        else jnp.asarray(targets(setup), dtype),
        jnp.asarray(setup.projection_std, dtype),
    )


def _descent(setup: Setup, dtype: str, steps: int) -> _Descent:
    factors = schedule(setup)
    return _Descent(
        constants(setup), jnp.asarray(np.pad(factors, (0, steps - len(factors))), dtype)
    )


def _batch_share(
    plan: _Plan, task: _Task, key: Key[Array, ""], step: Int[Array, ""]
) -> Float[Array, " m"]:
    """p_hat, shape (m,): counts of a batch over its size, or the frequencies in full batch."""
    if plan.batch_size == 0:
        return task.frequencies
    key = jax.random.fold_in(jax.random.fold_in(key, 1), step)
    token = drawn_tokens(key, task.cumulative, (plan.batch_size,))
    counts = jnp.zeros(plan.vocab_size, plan.dtype).at[token].add(1)
    return counts / plan.batch_size


def _loss_and_gradients(
    plan: _Plan, task: _Task, share: Float[Array, " m"], weights: Weights
) -> tuple[Float[Array, " m"], Weights]:
    """Losses of all tokens (m,); dL/dE = p r W (m, d) and dL/dW = (p r)^T E (n, d)."""
    if isinstance(task.targets, Pairs):
        found = head_pass(weights.embedding, weights.projection, share, task.targets)
        return found.loss, Weights(found.by_features, found.by_readout)
    outputs = weights.embedding @ weights.projection.T
    loss, residual = loss_and_residual(plan.loss, outputs, task.targets)
    weighted = share[:, None] * residual
    return loss, Weights(weighted @ weights.projection, weighted.T @ weights.embedding)


def _step(
    plan: _Plan,
    descent: _Descent,
    factor: Float[Array, ""],
    gradients: Weights,
    memory: Any,
    weights: Weights,
    rates: Weights,
) -> tuple[Weights, Any]:
    """What one step adds to the weights, and the optimizer's memory after it."""
    directions, memory = direction(plan.optimizer, descent.constants).update(gradients, memory)
    decay = descent.constants.weight_decay
    return jax.tree.map(
        lambda w, rate, u: -rate * factor * (u + decay * w), weights, rates, directions
    ), memory


def _output_updates(
    start: Weights, weights: Weights
) -> tuple[Float[Array, "m n"], Float[Array, "m n"]]:
    """(W_t - W_0) e_i(t) and W_0 (e_i(t) - e_i(0)), each of shape (m, n)."""
    by_projection = weights.embedding @ (weights.projection - start.projection).T
    by_embedding = (weights.embedding - start.embedding) @ start.projection.T
    return by_projection, by_embedding


def _update_rms(
    plan: _Plan,
    task: _Task,
    start: Weights,
    weights: Weights,
    projection_step: Float[Array, "n d"],
) -> list[Float[Array, ""]]:
    """Frequency-weighted RMS of both output updates and of this step's own, or NaN."""
    if not plan.record_updates:
        return [jnp.full((), jnp.nan, plan.dtype)] * 3
    if isinstance(task.targets, Pairs):
        squares = (
            mean_square_outputs(weights.embedding, weights.projection - start.projection),
            mean_square_outputs(weights.embedding - start.embedding, start.projection),
            mean_square_outputs(weights.embedding, projection_step),
        )
        return [jnp.sqrt(task.frequencies @ square) for square in squares]
    updates = (*_output_updates(start, weights), weights.embedding @ projection_step.T)
    return [jnp.sqrt(task.frequencies @ jnp.mean(u**2, axis=-1)) for u in updates]


def _step_parts(
    plan: _Plan, task: _Task, weights: Weights, change: Weights
) -> list[Float[Array, ""]]:
    """The columns of `StepParts`, or none."""
    if not plan.record_parts:
        return []
    by_embedding = change.embedding @ weights.projection.T
    entry_squares = task.frequencies @ weights.embedding**2  # sum_i p_i e_il^2, shape (d,)
    row_squares = jnp.mean(change.projection**2, axis=0)  # mean_k dW_kl^2, shape (d,)
    squares = (
        task.frequencies @ jnp.mean(by_embedding**2, axis=-1),
        row_squares @ entry_squares,
        jnp.sum(row_squares) * jnp.sum(entry_squares),
    )
    return [jnp.sqrt(square) for square in squares]


def _scan(
    plan: _Plan,
    task: _Task,
    descent: _Descent,
    first_step: Int[Array, ""],
    key: Key[Array, ""],
    start: Weights,
    rates: Weights,
    state: tuple[Weights, Any],
) -> tuple[tuple[Weights, Any], Float[Array, "steps columns"]]:
    """`plan.steps` steps of one network: its state and the records, 4 columns or, with parts, 7."""

    def step(carry, index):
        weights, memory = carry
        share = _batch_share(plan, task, key, index)
        loss, gradients = _loss_and_gradients(plan, task, share, weights)
        factor = descent.factors[index]
        change, memory = _step(plan, descent, factor, gradients, memory, weights, rates)
        updates_rms = _update_rms(plan, task, start, weights, change.projection)
        parts = _step_parts(plan, task, weights, change)
        moved = jax.tree.map(jnp.add, weights, change)
        return (moved, memory), jnp.stack([task.frequencies @ loss, *updates_rms, *parts])

    return jax.lax.scan(step, state, first_step + jnp.arange(plan.steps))


def _start(plan: _Plan, projection_std: Float[Array, ""], keys: Key[Array, " seeds"]) -> Weights:
    """Initial weights of every seed: (seeds, m, d) and (seeds, n, d)."""
    return initial_networks(plan.sizes, projection_std, keys, plan.dtype)


def _begun(plan: _Plan, descent: _Descent, start: Weights, rates: Weights) -> tuple[Weights, Any]:
    """Weights and optimizer state of every (seed, learning rate), before the first step."""

    def one(weights, _rate):
        return weights, direction(plan.optimizer, descent.constants).init(weights)

    over_rates = jax.vmap(one, in_axes=(None, 0), out_axes=0, axis_size=len(rates.embedding))
    return jax.vmap(over_rates, in_axes=(0, None))(start, rates.embedding)


_begin = program(_begun, without_sums=True, static_argnames="plan")


@partial(program, static_argnames="plan", donate_argnames="state")
def _advance(plan, task, descent, keys, start, rates, state, first_step):
    """`plan.steps` steps of every (seed, learning rate): state and record.

    A `state` of None is the first: to make it here spares a program.
    """
    if state is None:
        state = _begun(plan, descent, start, rates)
    with jax.default_matmul_precision("highest"):
        run = partial(_scan, plan, task, descent, first_step)
        over_rates = jax.vmap(run, in_axes=(None, None, 0, 0))
        return jax.vmap(over_rates, in_axes=(0, 0, None, 0))(keys, start, rates, state)


@partial(program, static_argnames="plan")
def _first_token_updates(
    plan: _Plan, task: _Task, descent: _Descent, key: Array, start: Weights, rates: Weights
):
    with jax.default_matmul_precision("highest"):
        share = _batch_share(plan, task, key, jnp.asarray(0))
        memory = direction(plan.optimizer, descent.constants).init(start)
        _, gradients = _loss_and_gradients(plan, task, share, start)
        change, _ = _step(plan, descent, descent.factors[0], gradients, memory, start, rates)
        updates = (
            start.embedding @ change.projection.T,
            change.embedding @ start.projection.T,
            change.embedding @ change.projection.T,
        )
        return *(jnp.mean(update**2, axis=-1) for update in updates), share
