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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError, check_integer
from dynsim._layers import LABELS, LayerValues
from dynsim._losses import diverged
from dynsim._optimizers import Constants, constants, direction, schedule, weight_copies
from dynsim._precision import require_x64
from dynsim._runs import (
    check_fits,
    chunks,
    device_memory,
    even,
    memory_budget,
    seed_labels,
    sized_key,
)
from dynsim._summary import summary

from ._networks import (
    MLP_RATIO,
    Network,
    NetworkShape,
    Tree,
    initial_network,
    network_shape,
    parameter_labels,
)
from ._scales import scales
from ._setup import NetworkSetup
from ._tasks import EVALUATION_PIECE, Batch, Task, task, tokens_at_once

DEVICE_SHARE = 0.5  # of a GPU's memory, for networks side by side
STEPS_PER_CALL = 256


@dataclass(frozen=True, eq=False)
class NetworkTraining:
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
    """

    setup: NetworkSetup
    embedding_lr: NDArray[np.float64]
    hidden_lr: NDArray[np.float64]
    seed: NDArray[np.int64]
    weight_decay: NDArray[np.float64]
    horizons: NDArray[np.int64]
    loss: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    initial_loss: NDArray[np.float64]

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Runs whose loss became non-finite or 1e6 times its start, shape (R,)."""
        trained = self.train_loss[:, : self.horizons[-1]]
        return diverged(np.hstack([self.initial_loss[:, None], trained, self.loss]))

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


class _Shared(NamedTuple):
    """Traced arguments that all runs share."""

    task: Task
    multiplier: LayerValues
    init_factor: LayerValues
    constants: Constants
    factors: Array  # schedule, (T,)


class _Run(NamedTuple):
    """Traced arguments of one run: its key, a learning rate by label, its weight decay."""

    key: Array
    rates: LayerValues
    decay: Array


class _State(NamedTuple):
    network: Tree
    memory: Any
    train_loss: Array  # (T,), filled so far


class Columns(NamedTuple):
    """What runs differ in, shape (R,) each, learning rates at the base width."""

    embedding_lr: NDArray[np.float64]
    hidden_lr: NDArray[np.float64]
    weight_decay: NDArray[np.float64]
    seed: NDArray[np.int64]


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
    memory_gb: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> NetworkTraining:
    """Trains one network for each run: a pair of learning rates and a seed.

    A step is w <- w - eta_t Phi(gradients) - decay_t w with eta_t = (base LR)(d/d_0)^x (schedule),
    x the layer's exponent, and decay_t = lambda eta_t (coupled) or lambda (schedule)
    (independent); norm gains do not decay. Runs of one seed share initial weights and batches.
    All runs of a shape, whatever their learning rates, seeds, weight decays or parametrization,
    share one compiled program; on several devices they are spread over them.

    **Arguments:**

    - `embedding_lrs`, `hidden_lrs`, `seeds`, `weight_decays`: broadcast to shape (R,), one entry a
      run; rates are the setup's own where none are given. A seed is the label of a network of this
      setup, below 2^32: its weights and batches. A count K means labels 0, ..., K - 1. Targets are
      those of `setup.seed` for all.
    - `horizons`: increasing numbers of steps after which to evaluate, default the last.
    - `memory_gb`: memory of each device that networks trained side by side may take (at least one
      is trained); default 32 MiB on a CPU, which is its cache, and half of a GPU's memory.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for a network that does not fit the device, a text too short for the batch,
    or wrong arguments, and `RuntimeError` if JAX's 64-bit types are off.
    """
    require_x64()
    columns = run_columns(setup, embedding_lrs, hidden_lrs, weight_decays, seeds)
    ends = _check_horizons(setup, horizons)
    plan, count = _plan(setup), len(columns.seed)
    loss, train_loss = np.empty((count, len(ends))), np.empty((count, setup.steps))
    initial_loss = np.empty(count)
    for reached in trained_networks(setup, columns, ends, memory_gb=memory_gb, progress=progress):
        evaluated = _evaluate(plan, reached.shared, reached.state.network)
        loss[reached.runs, ends.index(reached.step)] = reached.kept(evaluated)
        train_loss[reached.runs] = reached.kept(reached.state.train_loss)
        initial_loss[reached.runs] = reached.kept(reached.initial_loss)
        del reached  # else its weights would stay beside those of the next chunk
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
    )


def runs_side_by_side(setup: NetworkSetup, memory_gb: float | None = None) -> int:
    """How many networks are trained side by side within `memory_gb` (default as `train_networks`).

    Raises `InputError` for a network that does not fit the device at all.
    """
    if memory_gb is not None and not 0 < memory_gb <= 1e6:
        raise InputError("memory_gb", memory_gb, "must be a number above 0 and at most 1e6")
    needed = run_bytes(setup)
    check_fits(needed, setup, setup.network)
    budget = memory_budget(memory_gb, DEVICE_SHARE * device_memory())
    return max(1, int(budget / needed)) * len(jax.devices())


def parameter_count(setup: NetworkSetup) -> int:
    """Trained numbers of one network."""
    per_layer = {"linear": 0, "mlp": 1, "transformer": 4 + 2 * MLP_RATIO}[setup.network]
    readout = 0 if setup.tied else setup.output_count
    hidden = setup.depth * per_layer * setup.width
    gains = {
        "linear": 0,
        "mlp": setup.depth + 1 if setup.normalisation == "rms" else 0,
        "transformer": 2 * setup.depth + 1,
    }[setup.network]
    return (setup.vocab_size + readout + hidden + gains) * setup.width


def run_bytes(setup: NetworkSetup) -> int:
    """Memory of one network in training: weights, gradient, step, optimizer state, activations."""
    size = 8 if setup.precision == "float64" else 4
    copies = 3 + weight_copies(setup.entrywise_optimizer)
    tokens = tokens_at_once(setup)
    widths = {"linear": 2, "mlp": 4 * (1 + setup.depth), "transformer": 8 + 30 * setup.depth}
    heads = setup.width // setup.head_width
    scores = 3 * setup.depth * heads * setup.context if setup.network == "transformer" else 0
    activations = tokens * (widths[setup.network] * setup.width + 4 * setup.output_count + scores)
    return size * (copies * parameter_count(setup) + activations)


def batch_loss(network: Network, multiplier: LayerValues, batch: Batch, loss: str) -> Array:
    """Weighted mean over a batch: half the squared error summed over outputs, or cross-entropy."""
    outputs = network(batch.tokens, multiplier).outputs
    outputs = outputs.astype(batch.weights.dtype)
    if loss == "mse":
        each = 0.5 * jnp.sum(jnp.square(outputs - batch.targets), axis=-1)
    elif batch.targets.ndim == batch.tokens.ndim:
        each = optax.softmax_cross_entropy_with_integer_labels(outputs, batch.targets)
    else:
        each = optax.softmax_cross_entropy(outputs, batch.targets)
    return jnp.sum(batch.weights * each)


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
    labels: Tree, directions: Tree, network: Tree, run: _Run, factor: Array, decay: str
) -> Tree:
    """What one step adds to the weights."""

    def of(label, direction, weight):
        rate = factor * run.rates.of(label)
        shrink = 0.0 if label == "vector" else run.decay * (rate if decay == "coupled" else factor)
        return -(rate * direction + shrink * weight)

    return jax.tree.map(of, labels, directions, network)


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
    devices = jax.devices()
    count = even(len(columns.seed), runs_side_by_side(setup, memory_gb))
    count = math.ceil(count / len(devices)) * len(devices)
    spread = NamedSharding(Mesh(np.asarray(devices), ("runs",)), PartitionSpec("runs"))
    plan, shared = _plan(setup), _shared(setup)
    calls = _boundaries(ends)
    pieces = math.ceil(len(columns.seed) / count) * (len(calls) - 1)
    for chunk in chunks(len(columns.seed), count):
        # A last, smaller chunk is filled up with copies: one compiled shape.
        filled = np.resize(np.arange(chunk.start, chunk.stop), count)
        here: Columns = jax.tree.map(lambda column: column[filled], columns)  # noqa: B023
        runs = jax.device_put(_runs(setup, here), spread)
        state, initial_loss = _begin(plan, shared, runs)
        if 0 in ends:
            yield Reached(chunk, 0, shared, state, initial_loss)
        for first, last in itertools.pairwise(calls):
            state = _advance(plan, shared, runs, state, first, last)
            if last in ends:
                yield Reached(chunk, last, shared, state, initial_loss)
            if progress is not None:
                jax.block_until_ready(state.train_loss)
                progress(1 / pieces)


def run_columns(
    setup: NetworkSetup,
    embedding_lrs: ArrayLike | None = None,
    hidden_lrs: ArrayLike | None = None,
    weight_decays: ArrayLike | None = None,
    seeds: int | ArrayLike = 1,
) -> Columns:
    """The runs of `train_networks`, every column at full length. Raises `InputError`."""
    rates = {
        "embedding_lrs": setup.embedding_lr if embedding_lrs is None else embedding_lrs,
        "hidden_lrs": setup.hidden_lr if hidden_lrs is None else hidden_lrs,
        "weight_decay": setup.decay_rate if weight_decays is None else weight_decays,
    }
    columns = {option: _column(option, values, "float64") for option, values in rates.items()}
    for option, column in columns.items():
        wrong = column[~(np.isfinite(column) & (column >= 0) & (column <= 1e30))]
        if len(wrong):
            raise InputError(option, float(wrong[0]), "must be a finite number from 0 to 1e30")
    columns["seeds"] = seed_labels(seeds)
    runs = max(map(len, columns.values()))
    for option, column in columns.items():
        if len(column) not in (1, runs):
            allowed = f"must be one number or {runs}, as many as the longest list of runs"
            raise InputError(option, f"of length {len(column)}", allowed)
    return Columns(*np.broadcast_arrays(*columns.values()))


def _column(
    option: str, values: ArrayLike, dtype: str | None = None, *, least_axes: int = 0
) -> NDArray[Any]:
    allowed = "must be a list of numbers" if least_axes else "must be a number or a list of numbers"
    try:
        column = np.asarray(values, dtype)
    except (TypeError, ValueError):
        raise InputError(option, values, allowed) from None
    if not least_axes <= column.ndim <= 1 or not column.size:
        raise InputError(option, f"of shape {column.shape}", allowed)
    return np.atleast_1d(column)


def _check_horizons(setup: NetworkSetup, horizons: Sequence[int] | None) -> list[int]:
    if horizons is None:
        return [setup.steps]
    ends = _column("horizons", horizons, least_axes=1).tolist()
    for end in ends:
        check_integer("horizons", end, 1, setup.steps)
    if any(b <= a for a, b in itertools.pairwise(ends)):
        raise InputError("horizons", str(ends), "must be increasing numbers of steps")
    return ends


def _boundaries(ends: Sequence[int]) -> list[int]:
    """Steps between which one call trains: horizons, and no more than `STEPS_PER_CALL` apart."""
    return sorted({*ends, *range(0, ends[-1], STEPS_PER_CALL)})


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
    dtype = network_shape(setup).dtype
    factor = scales(setup).learning_rate
    rates = base_rates(setup, columns.embedding_lr, columns.hidden_lr)
    rates = jax.tree.map(lambda f, rate: jnp.asarray(f * rate, dtype), factor, rates)
    keys = jax.vmap(partial(run_key, setup))(jnp.asarray(columns.seed))
    return _Run(keys, rates, jnp.asarray(columns.weight_decay, dtype))


def base_rates(setup: NetworkSetup, embedding: Any, hidden: Any) -> LayerValues:
    """Learning rates at the base width by label, from the two that a grid has."""
    readout = hidden if setup.network == "linear" else setup.readout_ratio * hidden
    return LayerValues(embedding, hidden, readout, setup.vector_ratio * embedding)


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
    at_once = max(shared.task.batch_size or batch.tokens.size, EVALUATION_PIECE)

    def add(total: Array, piece: Batch) -> tuple[Array, None]:
        return total + _loss(plan, shared, network, piece), None

    return jax.lax.scan(add, jnp.zeros((), batch.weights.dtype), batch.in_pieces(at_once))[0]


def _one_begin(plan: _Plan, shared: _Shared, run: _Run) -> tuple[_State, Array]:
    network: Tree = initial_network(plan.shape, shared.init_factor, jax.random.fold_in(run.key, 0))
    rule = optimizer_direction(plan.optimizer, plan.entrywise, shared.constants)
    curve = jnp.full(shared.factors.shape, jnp.nan, shared.factors.dtype)
    return _State(network, rule.init(network), curve), _evaluation_loss(plan, shared, network)


def _one_advance(
    plan: _Plan, shared: _Shared, first: Array, last: Array, run: _Run, state: _State
) -> _State:
    rule = optimizer_direction(plan.optimizer, plan.entrywise, shared.constants)
    labels = parameter_labels(state.network)
    batches = jax.random.fold_in(run.key, 1)

    def step(index: Array, state: _State) -> _State:
        network, memory, curve = state
        batch = shared.task.batch(jax.random.fold_in(batches, index))
        loss, gradients = jax.value_and_grad(partial(_loss, plan, shared))(network, batch)
        directions, memory = rule.update(gradients, memory, network)
        factor = shared.factors[index]
        change = network_step(labels, directions, network, run, factor, plan.decay)
        curve = curve.at[index].set(loss.astype(curve.dtype))
        return _State(jax.tree.map(jnp.add, network, change), memory, curve)

    return jax.lax.fori_loop(first, last, step, state)


@partial(jax.jit, static_argnames="plan")
def _begin(plan: _Plan, shared: _Shared, runs: _Run) -> tuple[_State, Array]:
    """Initial state and loss of every run."""
    with jax.default_matmul_precision("highest"):
        return jax.vmap(partial(_one_begin, plan, shared))(runs)


@partial(jax.jit, static_argnames="plan", donate_argnames="state")
def _advance(plan, shared, runs, state, first, last):
    """Steps `first` to `last` of every run; bounds are traced, so one program serves all."""
    with jax.default_matmul_precision("highest"):
        return jax.vmap(partial(_one_advance, plan, shared, first, last))(runs, state)


@partial(jax.jit, static_argnames="plan")
def _evaluate(plan, shared, networks):
    """Evaluation loss of every run, shape (R,)."""
    with jax.default_matmul_precision("highest"):
        return jax.vmap(partial(_evaluation_loss, plan, shared))(networks)
