"""Training many toy networks: one compiled program per shape, over learning rates and seeds.

With `network="linear"` this trainer is a route of its own to what `train_linear` does for a
`Setup`, kept as a check of each other: `_linear_training` says what they share.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError
from dynsim._initial import matrix_keys
from dynsim._layers import LABELS, LayerValues
from dynsim._losses import diverged, overflowed
from dynsim._network_setup import NetworkSetup
from dynsim._optimizers import Constants, constants, schedule
from dynsim._precision import require_x64
from dynsim._results import Declared, Result
from dynsim._runs import (
    CACHE_BYTES,
    check_curves_fit,
    chunks,
    even,
    sized_key,
)
from dynsim._scales import scales
from dynsim._summary import summary

from ._columns import Columns, check_horizons, run_columns
from ._head import Pairs
from ._memory import CORE_CACHE, runs_within, workers_that_fit
from ._networks import (
    Network,
    NetworkShape,
    Tree,
    network_of_keys,
    network_shape,
    parameter_labels,
)
from ._step import batch_loss, network_step, optimizer_direction
from ._tasks import EVALUATION_PIECE, Batch, Task, distinct, merged, room_for_types, task
from ._updates import UpdateRecord, records_updates, update_sizes
from ._workers import PIECES, Crew

STEPS_PER_CALL = 256
DRAWN_AT_ONCE = 16  # batches; one by one they take a tenth of a narrow network's step
COUNTED_PER_CALL = 4096  # batches whose types are counted beforehand
DRAWN_TOKENS = 2**16  # of these batches, or one batch
CURVE_BYTES = 32  # of a run and a step: its losses, while they are gathered and printed


@dataclass(frozen=True, eq=False)
class NetworkTraining(Result):
    """What R training runs did.

    **Fields:**

    - `setup`: the experiment; its own learning rates and seed are not used.
    - `embedding_lr`, `hidden_lr`, `seed`, `weight_decay`: shape (R,), learning rates at the base
      width.
    - `horizons`: steps after which the loss was evaluated, shape (H,).
    - `loss`: evaluation loss, shape (R, H): over the token law, or on text not trained on.
    - `train_loss`: loss of the batch of every step, before the step, shape (R, T); NaN after the
      last horizon, where training ends.
    - `initial_loss`: evaluation loss before the first step, shape (R,).
    - `projection_update_rms`, `embedding_update_rms`, `projection_step_rms`: before every step,
      shape (R, T), and `hidden_update_rms`, shape (R, T, depth); None unless they were recorded.
      With z a matrix's input, sqrt(sum_i p_i mean_k [(W_t - W_0) z_t]_k^2) of the readout and of
      each hidden matrix; the same of (W_{t+1} - W_t) z_t for the step of the readout, and of the
      change of the outputs had the embedding alone moved.
    """

    arrays: ClassVar[Declared] = {
        "loss": "run horizon",
        "initial_loss": "run",
        "diverged": "run",
        "train_loss": "run step",
        "projection_update_rms": "run step",
        "embedding_update_rms": "run step",
        "projection_step_rms": "run step",
        "hidden_update_rms": "run step layer",
        "horizon": ("horizon", "horizons"),
        "embedding_lr": "run",
        "hidden_lr": "run",
        "weight_decay": "run",
        "seed": "run",
    }

    setup: NetworkSetup
    embedding_lr: NDArray[np.float64]
    hidden_lr: NDArray[np.float64]
    seed: NDArray[np.int64]
    weight_decay: NDArray[np.float64]
    horizons: NDArray[np.int64]
    loss: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    initial_loss: NDArray[np.float64]
    projection_update_rms: NDArray[np.float64] | None = None
    embedding_update_rms: NDArray[np.float64] | None = None
    projection_step_rms: NDArray[np.float64] | None = None
    hidden_update_rms: NDArray[np.float64] | None = None

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Runs whose loss became non-finite or 1e6 times its start, or a recorded update
        non-finite, shape (R,)."""
        trained = self.train_loss[:, : self.horizons[-1]]
        found = diverged(np.hstack([self.initial_loss[:, None], trained, self.loss]))
        # A norm makes a finite loss of activations whose squares are not.
        for updates in (self.projection_update_rms, self.embedding_update_rms):
            if updates is not None:
                found = found | overflowed(updates)
        first = self.projection_update_rms
        for updates in (self.projection_step_rms, self.hidden_update_rms):
            if first is not None and updates is not None:
                lost = ~np.isfinite(updates.reshape(len(updates), -1)).all(axis=1)
                found = found | (np.isfinite(first[:, 0]) & lost)
        return found

    def __repr__(self) -> str:
        return summary(
            "Training of toy networks (runs x horizons)",
            setup=self.setup,
            embedding_lr=self.embedding_lr,
            hidden_lr=self.hidden_lr,
            seed=self.seed,
            weight_decay=self.weight_decay,
            horizons=self.horizons,
            initial_loss=self.initial_loss,
            loss=self.loss,
            train_loss=self.train_loss,
            diverged=f"{int(self.diverged.sum())} of {self.diverged.size} runs",
        )


class _Plan(NamedTuple):
    """What is compiled in: shapes and rules, never a learning rate, seed or parametrization."""

    shape: NetworkShape
    loss: str
    optimizer: str
    entrywise: str
    decay: str


class _Drawing(NamedTuple):
    """How many batches are drawn together, and how many types a batch has room for, each of which
    is evaluated once (0: every token is evaluated)."""

    at_once: int
    room: int = 0


class _Shared(NamedTuple):
    """Traced arguments that all runs share."""

    task: Task
    multiplier: LayerValues
    init_factor: LayerValues
    constants: Constants
    factors: Array  # schedule, (T,)


class _Run(NamedTuple):
    """Traced arguments of one run: keys (their data) of its initial matrices and of its batches, a
    learning rate by label, its weight decay."""

    matrices: Array
    batches: Array
    rates: LayerValues
    decay: Array


class _State(NamedTuple):
    network: Tree
    memory: Any
    train_loss: Array  # (T,), filled so far


class Reached(NamedTuple):
    """Runs side by side after `step` steps: arrays with a leading axis, one entry a run.

    `runs` is their place among all runs; entries beyond it are copies that fill up a chunk.
    """

    runs: slice
    step: int
    shared: _Shared
    state: _State
    initial_loss: Array

    def kept(self, values: Array) -> NDArray[Any]:
        """`values` without the copies."""
        return np.asarray(values)[: self.runs.stop - self.runs.start]


jax.tree_util.register_dataclass(LayerValues, data_fields=list(LABELS), meta_fields=[])


def train_networks(
    setup: NetworkSetup,
    embedding_lrs: ArrayLike | None = None,
    hidden_lrs: ArrayLike | None = None,
    seeds: int | ArrayLike = 1,
    *,
    horizons: Sequence[int] | None = None,
    weight_decays: ArrayLike | None = None,
    record_updates: bool = False,
    memory_gb: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> NetworkTraining:
    """Trains one network for each run: a pair of learning rates and a seed.

    A step is w <- w - eta_t Phi(gradients) - decay_t w with eta_t = (base LR)(d/d_0)^x (schedule),
    x the layer's exponent, and decay_t = lambda eta_t (coupled) or lambda (schedule)
    (independent); norm gains do not decay. Runs of one seed share initial weights and batches.
    All runs of a shape, whatever their learning rates, seeds, weight decays or parametrization,
    share one compiled program; on several devices they are spread over them. Of tables, networks
    that see no sequences evaluate equal tokens of a batch once, where that saves enough.

    **Arguments:**

    - `embedding_lrs`, `hidden_lrs`, `seeds`, `weight_decays`: broadcast to shape (R,), one entry a
      run; rates are the setup's own where none are given. A seed is the label of a network of this
      setup, below 2^32: its weights and batches. A count K means labels 0, ..., K - 1. Targets are
      those of `setup.seed` for all.
    - `horizons`: increasing numbers of steps after which to evaluate, default the last.
    - `record_updates`: measure the updates of an mlp at every step, which then trains to the last.
    - `memory_gb`: memory of each device that networks trained side by side may take (at least one
      is trained); default 2 MiB on a CPU, about a core's cache (32 MiB where every step is looked
      at), and half of a GPU's memory.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for a network that does not fit the device, a text too short for the batch,
    or wrong arguments, and `RuntimeError` if JAX's 64-bit types are off.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import train_networks
    >>> setup = NetworkSetup(network="mlp", depth=1, width=16, vocab_size=32, batch_size=8, steps=2)
    >>> runs = train_networks(setup, embedding_lrs=[0.01, 0.1], hidden_lrs=0.01, horizons=[1, 2])
    >>> runs.loss.shape  # runs, horizons
    (2, 2)
    """
    require_x64()
    columns = run_columns(setup, embedding_lrs, hidden_lrs, weight_decays, seeds)
    check_curves_fit(setup, CURVE_BYTES * len(columns.seed))
    ends = check_horizons(setup, horizons)
    if record_updates and not records_updates(setup):
        allowed = "must be mlp with a readout of its own where updates are recorded"
        raise InputError("network", setup.network, allowed)
    plan, count = _plan(setup), len(columns.seed)
    record = UpdateRecord(setup, count) if record_updates else None
    loss, train_loss = np.empty((count, len(ends))), np.empty((count, setup.steps))
    initial_loss = np.empty(count)
    reached_at = range(setup.steps + 1) if record_updates else ends
    grid = _Grid(setup, columns, reached_at, memory_gb, progress, pieces=PIECES)

    def train_chunk(chunk: slice) -> None:
        before: Tree = None
        initial: Tree = None
        for reached in grid.trained(chunk):
            if record is not None:
                now = jax.tree.map(jnp.copy, reached.state.network)
                if reached.step == 0:
                    initial = now
                else:
                    batch, multiplier = reached.shared.task.evaluation(), reached.shared.multiplier
                    sizes = grid.crew.call(update_sizes, batch, multiplier, initial, before, now)
                    kept = reached.kept(sizes[0]), reached.kept(sizes[1])
                    record.fill(reached.runs, reached.step - 1, kept)
                before = now
            if reached.step not in ends:
                continue
            evaluated = grid.crew.call(_evaluate, plan, reached.shared, reached.state.network)
            loss[reached.runs, ends.index(reached.step)] = reached.kept(evaluated)
            train_loss[reached.runs] = reached.kept(reached.state.train_loss)
            initial_loss[reached.runs] = reached.kept(reached.initial_loss)

    grid.crew.map(train_chunk, grid.chunks)
    return NetworkTraining(
        setup,
        columns.embedding_lr,
        columns.hidden_lr,
        columns.seed,
        columns.weight_decay,
        np.array(ends),
        loss,
        train_loss,
        initial_loss,
        *(() if record is None else (*record.rms, record.hidden)),
    )


def trained_networks(
    setup: NetworkSetup,
    columns: Columns,
    ends: Sequence[int],
    *,
    memory_gb: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> Iterator[Reached]:
    """All runs, as many side by side as `runs_side_by_side`, after each of the increasing `ends`.

    The next step takes the yielded `state` over: copy what is to be kept.
    """
    check_curves_fit(setup, CURVE_BYTES)
    grid = _Grid(setup, columns, ends, memory_gb, progress)
    for chunk in grid.chunks:
        yield from grid.trained(chunk)


class _Grid:
    """All runs in chunks of those that are trained side by side, and the threads that train them.

    On a CPU the runs are cut into `pieces` at least, if there are as many, for as many cores.
    """

    def __init__(
        self,
        setup: NetworkSetup,
        columns: Columns,
        ends: Sequence[int],
        memory_gb: float | None,
        progress: Callable[[float], object] | None,
        pieces: int = 1,
    ):
        devices = jax.devices()
        self._columns, self._ends = columns, ends
        runs = len(columns.seed)
        self._calls = _boundaries(ends)
        # Where each step is a call, more networks share it.
        most = runs_within(
            setup, memory_gb, CACHE_BYTES if _step_by_step(self._calls) else CORE_CACHE
        )
        if jax.default_backend() == "cpu" and len(devices) == 1:
            most = min(most, math.ceil(runs / pieces))
        count = even(runs, most)
        self._count = math.ceil(count / len(devices)) * len(devices)
        self.crew = Crew(workers_that_fit(setup, self._count, memory_gb))
        mesh = Mesh(np.asarray(devices), ("runs",))
        self._device = NamedSharding(mesh, PartitionSpec("runs")) if len(devices) > 1 else None
        self._plan, self._shared = _plan(setup), _shared(setup)
        self._runs = _runs(setup, columns)
        at_once = _drawn_at_once(setup, self._calls)
        room = _room(setup, self._shared.task, self._runs, ends[-1], at_once)
        self._drawing = _Drawing(at_once, room)
        self.chunks = list(chunks(runs, self._count))
        self._share = 1 / (len(self.chunks) * (len(self._calls) - 1))
        self._progress = None if progress is None else self.crew.reporting(progress)

    def trained(self, chunk: slice) -> Iterator[Reached]:
        """The runs of a chunk after each of the `ends`."""
        plan, shared, call = self._plan, self._shared, self.crew.call
        # A last, smaller chunk is filled up with copies: one compiled shape.
        filled = np.resize(np.arange(chunk.start, chunk.stop), self._count)
        runs = jax.device_put(jax.tree.map(lambda x: x[filled], self._runs), self._device)
        state = call(_begin, plan, shared, runs)
        initial_loss = call(_evaluate, plan, shared, state.network)
        if 0 in self._ends:
            yield Reached(chunk, 0, shared, state, initial_loss)
        drawing = self._drawing
        # Compiles before any step is due.
        state = call(_advance, plan, drawing, shared, runs, state, 0, 0)
        for first, last in itertools.pairwise(self._calls):
            self.crew.check()
            state = _advance(plan, drawing, shared, runs, state, first, last)
            if last in self._ends:
                yield Reached(chunk, last, shared, state, initial_loss)
            if self._progress is not None:
                jax.block_until_ready(state.train_loss)
                self._progress(self._share)


def _boundaries(ends: Sequence[int]) -> list[int]:
    """Steps between which one call trains: horizons, and no more than `STEPS_PER_CALL` apart."""
    return sorted({*ends, *range(0, ends[-1], STEPS_PER_CALL)})


def _step_by_step(calls: Sequence[int]) -> bool:
    return len(calls) == calls[-1] + 1


def _drawn_at_once(setup: NetworkSetup, calls: Sequence[int]) -> int:
    """Batches that are drawn together: one where each step is a call of its own."""
    if _step_by_step(calls):
        return 1
    most = DRAWN_TOKENS // max(setup.batch_size, 1)
    return max(1, min(DRAWN_AT_ONCE, setup.steps, most))


def _room(setup: NetworkSetup, task: Task, runs: _Run, steps: int, at_once: int) -> int:
    """Room for the types of every batch of these runs."""
    room = room_for_types(setup)
    if not room or room == setup.vocab_size:
        return room
    most = 0
    for key in np.unique(runs.batches, axis=0):
        for first in range(0, steps, COUNTED_PER_CALL):
            last = min(steps, first + COUNTED_PER_CALL)
            most = max(most, int(_most_types(at_once, task, key, first, last)))
    return room if most <= room else room_for_types(setup, most)


@partial(jax.jit, static_argnames="at_once")
def _most_types(at_once: int, task: Task, key: Array, first: Array, last: Array) -> Array:
    """The largest number of distinct tokens of a batch from step `first` to `last`."""

    def types(index: Array) -> Array:
        return distinct(task.drawn(jax.random.fold_in(jax.random.wrap_key_data(key), index)))

    def more(block: Array, most: Array) -> Array:
        indices = first + at_once * block + jnp.arange(at_once)
        return jnp.maximum(most, jnp.max(jax.vmap(types)(jnp.minimum(indices, last - 1))))

    blocks = (last - first + at_once - 1) // at_once
    return jax.lax.fori_loop(0, blocks, more, jnp.zeros((), int))


def _plan(setup: NetworkSetup) -> _Plan:
    return _Plan(
        network_shape(setup),
        setup.loss_name,
        setup.optimizer,
        setup.entrywise_optimizer,
        setup.decay,
    )


def _shared(setup: NetworkSetup) -> _Shared:
    prescribed = scales(setup)
    dtype = network_shape(setup).dtype
    return _Shared(
        task(setup),
        _as_arrays(prescribed.multiplier, dtype),
        _as_arrays(prescribed.init_factor, dtype),
        constants(setup),
        jnp.asarray(schedule(setup), dtype),
    )


def _as_arrays(values: LayerValues, dtype: str) -> LayerValues:
    return jax.tree.map(lambda value: jnp.asarray(value, dtype), values)


def run_key(setup: NetworkSetup, seed: int | Array) -> Array:
    """Key of weights and batches."""
    return jax.random.fold_in(sized_key(setup), seed)


def _runs(setup: NetworkSetup, columns: Columns) -> _Run:
    """Of all runs, in arrays of numpy: an operation of JAX on each chunk would take longer than
    its first steps."""
    dtype = network_shape(setup).dtype
    factor = scales(setup).learning_rate
    rates = base_rates(setup, columns.embedding_lr, columns.hidden_lr)
    rates = jax.tree.map(lambda f, rate: np.asarray(f * rate, dtype), factor, rates)
    # Keys are made here, by programs that serve networks of any size.
    keys = jax.vmap(partial(run_key, setup))(jnp.asarray(columns.seed))
    weights, batches = (
        jax.vmap(partial(jax.random.fold_in, data=number))(keys) for number in (0, 1)
    )
    matrices = jax.vmap(partial(matrix_keys, setup.depth))(weights)
    of_matrices, of_batches = (jax.random.key_data(one) for one in (matrices, batches))
    on_host: Any = np.asarray
    decay = on_host(columns.weight_decay, dtype)
    return _Run(on_host(of_matrices), on_host(of_batches), rates, decay)


def base_rates(setup: NetworkSetup, embedding: Any, hidden: Any) -> LayerValues:
    """Learning rates at the base width by label, from the two that a grid has."""
    return LayerValues(
        embedding, hidden, setup.readout_rate(hidden), setup.vector_ratio * embedding
    )


def _loss(plan: _Plan, shared: _Shared, network: Network, batch: Batch) -> Array:
    if plan.shape.precision == "bfloat16":
        network, multiplier = jax.tree.map(
            lambda x: x.astype(jnp.bfloat16), (network, shared.multiplier)
        )
        return batch_loss(network, multiplier, batch, plan.loss)
    return batch_loss(network, shared.multiplier, batch, plan.loss)


def _evaluation_loss(plan: _Plan, shared: _Shared, network: Network) -> Array:
    """In pieces of about a batch, so that it takes no more memory than a step."""
    batch = shared.task.evaluation()
    if isinstance(batch.targets, Pairs):
        return _loss(plan, shared, network, batch)
    at_once = max(shared.task.batch_size or batch.tokens.size, EVALUATION_PIECE)

    def add(total: Array, piece: Batch) -> tuple[Array, None]:
        return total + _loss(plan, shared, network, piece), None

    return jax.lax.scan(add, jnp.zeros((), batch.weights.dtype), batch.in_pieces(at_once))[0]


def _one_begin(plan: _Plan, shared: _Shared, run: _Run) -> _State:
    keys = jax.random.wrap_key_data(run.matrices)
    network: Tree = network_of_keys(plan.shape, shared.init_factor, keys)
    rule = optimizer_direction(plan.optimizer, plan.entrywise, shared.constants)
    curve = jnp.full(shared.factors.shape, jnp.nan, shared.factors.dtype)
    return _State(network, rule.init(network), curve)


def _one_advance(
    plan: _Plan,
    drawing: _Drawing,
    shared: _Shared,
    first: Array,
    last: Array,
    run: _Run,
    state: _State,
) -> _State:
    rule = optimizer_direction(plan.optimizer, plan.entrywise, shared.constants)
    labels = parameter_labels(state.network)
    key = jax.random.wrap_key_data(run.batches)
    at_once = drawing.at_once

    def step(index: Array, batch: Batch, state: _State) -> _State:
        network, memory, curve = state
        loss, gradients = jax.value_and_grad(partial(_loss, plan, shared))(network, batch)
        directions, memory = rule.update(gradients, memory, network)
        factor = shared.factors[index]
        change = network_step(labels, directions, network, run.rates, run.decay, factor, plan.decay)
        curve = curve.at[index].set(loss.astype(curve.dtype))
        return _State(jax.tree.map(jnp.add, network, change), memory, curve)

    def steps(block: Array, state: _State) -> _State:
        start = at_once * block
        indices = start + jnp.arange(at_once)

        def draw(index: Array) -> tuple[Array, ...]:
            tokens = shared.task.drawn(jax.random.fold_in(key, index))
            return merged(tokens, drawing.room) if drawing.room else (tokens,)

        drawn = jax.vmap(draw)(indices)

        def batch(index: Array) -> Batch:
            return shared.task.at(*(x[index - start] for x in drawn))

        return jax.lax.fori_loop(
            jnp.maximum(first, start),
            jnp.minimum(last, start + at_once),
            lambda index, state: step(index, batch(index), state),
            state,
        )

    return jax.lax.fori_loop(first // at_once, (last + at_once - 1) // at_once, steps, state)


@partial(jax.jit, static_argnames="plan")
def _begin(plan: _Plan, shared: _Shared, runs: _Run) -> _State:
    """Initial state of every run."""
    return _of_every_run(partial(_one_begin, plan, shared), runs)


@partial(jax.jit, static_argnames=("plan", "drawing"), donate_argnames="state")
def _advance(plan, drawing, shared, runs, state, first, last):
    """Steps `first` to `last` of every run; bounds are traced, so one program serves all."""
    with jax.default_matmul_precision("highest"):
        advance = partial(_one_advance, plan, drawing, shared, first, last)
        return _of_every_run(advance, runs, state)


@partial(jax.jit, static_argnames="plan")
def _evaluate(plan, shared, networks):
    """Evaluation loss of every run, shape (R,)."""
    with jax.default_matmul_precision("highest"):
        return _of_every_run(partial(_evaluation_loss, plan, shared), networks)


def _of_every_run(function: Callable[..., Tree], *of_runs: Tree) -> Tree:
    """`function` of each, with a leading axis of runs.

    Within there is none of one run alone: XLA takes a transposed weight into a matrix product, but
    copies it first where there is an axis of length one.
    """
    if len(jax.tree.leaves(of_runs)[0]) > 1:
        return jax.vmap(function)(*of_runs)
    found = function(*jax.tree.map(lambda values: values[0], of_runs))
    return jax.tree.map(lambda values: values[None], found)
