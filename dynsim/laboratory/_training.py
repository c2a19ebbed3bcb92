"""Training many toy networks: one compiled program per shape, over learning rates and seeds."""

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
from dynsim._network import diverged
from dynsim._optimizers import Constants, constants, direction, schedule, weight_copies
from dynsim._precision import require_x64
from dynsim._recommend import LABELS, LayerValues

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

CACHE_BYTES = 32 * 2**20  # a CPU's last cache: more networks side by side than fit are slower
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


jax.tree_util.register_dataclass(LayerValues, data_fields=list(LABELS), meta_fields=[])


def train_networks(
    setup: NetworkSetup,
    embedding_lrs: ArrayLike | None = None,
    hidden_lrs: ArrayLike | None = None,
    seeds: ArrayLike | None = None,
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
      run; default the setup's own. A seed is the number of a network of this setup, below 2^32:
      its weights and batches. Targets are those of `setup.seed` for all.
    - `horizons`: increasing numbers of steps after which to evaluate, default the last.
    - `memory_gb`: memory of each device that networks trained side by side may take (at least one
      is trained); default 32 MiB on a CPU, which is its cache, and half of a GPU's memory.
    - `progress`: called with the fraction of work finished since the last call.

    Raises `InputError` for a network that does not fit the device, a text too short for the batch,
    or wrong arguments, and `RuntimeError` if JAX's 64-bit types are off.
    """
    require_x64()
    given = (
        setup.embedding_lr if embedding_lrs is None else embedding_lrs,
        setup.hidden_lr if hidden_lrs is None else hidden_lrs,
        setup.decay_rate if weight_decays is None else weight_decays,
    )
    embedding, hidden, decay, seed = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(values, np.float64)) for values in given),
        np.atleast_1d(np.asarray(0 if seeds is None else seeds)),
    )
    _check_runs(embedding, hidden, decay, seed)
    ends = _check_horizons(setup, horizons)
    devices = jax.devices()
    count = _even(len(seed), runs_side_by_side(setup, memory_gb))
    count = math.ceil(count / len(devices)) * len(devices)
    shared = _shared(setup)
    plan = _plan(setup)
    spread = NamedSharding(Mesh(np.asarray(devices), ("runs",)), PartitionSpec("runs"))
    calls = _boundaries(ends)
    pieces = math.ceil(len(seed) / count) * (len(calls) - 1)
    rows = []
    for chunk in _chunks(len(seed), count):
        # A last, smaller chunk is filled up with copies: one compiled shape.
        filled = np.resize(np.arange(chunk.start, chunk.stop), count)
        runs = _runs(setup, embedding[filled], hidden[filled], decay[filled], seed[filled])
        runs = jax.device_put(runs, spread)
        state, initial_loss = _begin(plan, shared, runs)
        losses = []
        for first, last in itertools.pairwise(calls):
            state = _advance(plan, shared, runs, state, first, last)
            if last in ends:
                losses.append(np.asarray(_evaluate(plan, shared, state.network), np.float64))
            if progress is not None:
                jax.block_until_ready(state.train_loss)
                progress(1 / pieces)
        kept = slice(chunk.stop - chunk.start)
        rows.append(
            (
                np.stack(losses, axis=1)[kept],
                np.asarray(state.train_loss, np.float64)[kept],
                np.asarray(initial_loss, np.float64)[kept],
            )
        )
    loss, train_loss, initial_loss = (np.concatenate(column) for column in zip(*rows, strict=True))
    return NetworkTraining(
        setup, embedding, hidden, seed, decay, np.array(ends), loss, train_loss, initial_loss
    )


def runs_side_by_side(setup: NetworkSetup, memory_gb: float | None = None) -> int:
    """How many networks are trained side by side within `memory_gb` (default as `train_networks`).

    Raises `InputError` for a network that does not fit the device at all.
    """
    import psutil

    if memory_gb is not None and not 0 < memory_gb <= 1e6:
        raise InputError("--memory-gb", memory_gb, "must be a number above 0 and at most 1e6")
    needed = run_bytes(setup)
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    present = int((stats or {}).get("bytes_limit", psutil.virtual_memory().total))
    if needed > present:
        raise InputError(
            "--width",
            setup.width,
            f"one {setup.network} of vocabulary {setup.vocab_size}, {setup.output_count} outputs "
            f"and batch {setup.batch_size} needs {needed / 2**30:.3g} GiB, must fit the "
            f"{present / 2**30:.3g} GiB of this device",
        )
    if memory_gb is not None:
        budget = memory_gb * 2**30
    else:
        budget = CACHE_BYTES if jax.default_backend() == "cpu" else DEVICE_SHARE * present
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
    setup: NetworkSetup, seeds: Sequence[int], ends: Sequence[int]
) -> Iterator[tuple[_Shared, Tree]]:
    """The networks of these seeds, side by side, after each of the increasing `ends` steps.

    Yields what they share and the networks' weights with a leading axis, one entry a seed: the
    very weights that `train_networks` has at its horizons.
    """
    seed = np.asarray(seeds)
    rates = (setup.embedding_lr, setup.hidden_lr, setup.decay_rate)
    embedding, hidden, decay = (np.full(len(seed), rate) for rate in rates)
    plan, shared = _plan(setup), _shared(setup)
    runs = _runs(setup, embedding, hidden, decay, seed)
    state, _ = _begin(plan, shared, runs)
    for first, last in itertools.pairwise([0, *ends]):
        state = _advance(plan, shared, runs, state, first, last)
        yield shared, jax.tree.map(jnp.copy, state.network)  # the next step takes the state over


def _check_runs(*columns: NDArray[Any]) -> None:
    for name, column in zip(
        ("--embedding-lrs", "--hidden-lrs", "--weight-decay"), columns, strict=False
    ):
        if column.ndim != 1 or not len(column):
            raise InputError(name, column.shape, "must be a number or a list of numbers")
        wrong = column[~(np.isfinite(column) & (column >= 0) & (column <= 1e30))]
        if len(wrong):
            raise InputError(name, float(wrong[0]), "must be a finite number from 0 to 1e30")
    seeds = columns[-1]
    if seeds.dtype.kind not in "iu" or (seeds < 0).any() or (seeds >= 2**32).any():
        raise InputError("--seeds", str(seeds.tolist())[:40], "must be integers from 0 to 2^32 - 1")


def _check_horizons(setup: NetworkSetup, horizons: Sequence[int] | None) -> list[int]:
    ends = [setup.steps] if horizons is None else np.asarray(horizons).tolist()
    for end in ends:
        check_integer("--horizons", end, 1, setup.steps)
    if not ends or any(b <= a for a, b in itertools.pairwise(ends)):
        raise InputError("--horizons", str(ends), "must be increasing numbers of steps")
    return ends


def _boundaries(ends: Sequence[int]) -> list[int]:
    """Steps between which one call trains: horizons, and no more than `STEPS_PER_CALL` apart."""
    return sorted({*ends, *range(0, ends[-1], STEPS_PER_CALL)})


def _even(total: int, most: int) -> int:
    return math.ceil(total / math.ceil(total / most))


def _chunks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _plan(setup: NetworkSetup) -> _Plan:
    return _Plan(
        network_shape(setup),
        setup.task_setup.loss,
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
        constants(setup.task_setup),
        jnp.asarray(schedule(setup.task_setup), dtype),
    )


def _as_arrays(values: LayerValues, dtype: str) -> LayerValues:
    return jax.tree.map(lambda value: jnp.asarray(value, dtype), values)


def run_key(setup: NetworkSetup, seed: int | Array) -> Array:
    """Key of weights and batches. Sizes are folded in: normals of two shapes drawn with one key
    share their beginning, which would correlate the cells of a sweep."""
    key = jax.random.key(setup.seed)
    for size in (setup.width, setup.vocab_size, setup.output_count):
        key = jax.random.fold_in(key, size)
    return jax.random.fold_in(key, seed)


def _runs(
    setup: NetworkSetup,
    embedding: NDArray[np.float64],
    hidden: NDArray[np.float64],
    decay: NDArray[np.float64],
    seed: NDArray[np.int64],
) -> _Run:
    dtype = network_shape(setup).dtype
    factor = scales(setup).learning_rate
    rates = base_rates(setup, embedding, hidden)
    rates = jax.tree.map(lambda f, rate: jnp.asarray(f * rate, dtype), factor, rates)
    keys = jax.vmap(partial(run_key, setup))(jnp.asarray(seed))
    return _Run(keys, rates, jnp.asarray(decay, dtype))


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
