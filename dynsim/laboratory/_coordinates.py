"""Coordinate checks: how large every matrix's input, output and update terms are while it trains.

With W the weight and z its input (multiplier included in W), the output at step t is

    W_t z_t = W_0 z_0 + (W_t - W_0) z_0 + W_0 (z_t - z_0) + (W_t - W_0)(z_t - z_0),

and a parametrization says by which power of the width each term grows. `network_coordinates`
measures the terms of one size, `slope_bands` states the powers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

import derivations
from dynsim._errors import InputError
from dynsim._layers import Label, LayerValues
from dynsim._network_setup import NetworkSetup
from dynsim._precision import require_x64
from dynsim._results import Declared, Result
from dynsim._scales import resolved_parametrization
from dynsim._summary import summary
from dynsim.statistics._exponents import log_slope
from dynsim.theory._first_step import first_step

from ._columns import run_columns
from ._head import Pairs
from ._networks import Network, Tree, label_of, parameter_names
from ._tasks import Batch
from ._training import trained_networks

Term = Literal["initial", "update_on_initial", "initial_on_learned", "update_on_learned"]
TERMS: tuple[Term, ...] = get_args(Term)
Quantity = Literal[
    "input",
    "learned_input",
    "output",
    "update",
    "initial",
    "update_on_initial",
    "initial_on_learned",
    "update_on_learned",
    "weight",
    "weight_update",
]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
PROBE_TOKENS = 1024  # of sequences: enough for a root mean square

# What each term multiplies: (weight, input). Their sizes turn a term's size into its alignment.
FACTORS: dict[Term, tuple[Quantity, Quantity]] = {
    "initial": ("weight", "input"),
    "update_on_initial": ("weight_update", "input"),
    "initial_on_learned": ("weight", "learned_input"),
    "update_on_learned": ("weight_update", "learned_input"),
}


@dataclass(frozen=True, eq=False)
class Coordinates(Result):
    """Sizes in networks of one shape, S seeds, at T recorded steps.

    **Fields:**

    - `setup`; `steps`: recorded steps, shape (T,); `matrices`: K names, such as `blocks.0.query`,
      the embedding first.
    - `mean_square`: shape (S, T, K, Q) in the order of `QUANTITIES`, each a mean over tokens of
      the probe (by weight) and coordinates: `input` z_t, `learned_input` z_t - z_0, `output`
      W_t z_t, `update` (W_t - W_0) z_t; the terms `initial` W_0 z_0, `update_on_initial`
      (W_t - W_0) z_0, `initial_on_learned` W_0 (z_t - z_0), `update_on_learned`
      (W_t - W_0)(z_t - z_0); the entries `weight` W_0 and `weight_update` W_t - W_0. The embedding
      reads one-hot tokens, so that its input never changes: NaN for what it does not have.
    """

    arrays: ClassVar[Declared] = {
        "mean_square": "seed step matrix quantity",
        "step": ("step", "steps"),
        "matrix": ("matrix", "matrices"),
        "quantity": ("quantity", lambda _: list(QUANTITIES)),
    }

    setup: NetworkSetup
    steps: NDArray[np.int64]
    matrices: tuple[str, ...]
    mean_square: NDArray[np.float64]

    def __repr__(self) -> str:
        return summary(
            "Mean squares in toy networks (seeds x steps x matrices x quantities)",
            setup=self.setup,
            steps=self.steps,
            matrices=self.matrices,
            mean_square=self.mean_square,
        )


def network_coordinates(
    setup: NetworkSetup,
    steps: Sequence[int],
    seeds: int | ArrayLike = 1,
) -> Coordinates:
    """Trains a network for each seed (a count, or labels), as `train_networks` does, and measures
    them at `steps`.

    The probe is the whole token law, or for sequences up to 1024 fixed tokens that are not a
    training batch.

    Raises `InputError` for steps that do not increase from 0 or exceed `setup.steps`, and
    `RuntimeError` if JAX's 64-bit types are off.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import network_coordinates
    >>> setup = NetworkSetup(network="mlp", depth=1, width=16, vocab_size=32, batch_size=8, steps=1)
    >>> network_coordinates(setup, [0, 1]).matrices
    ('embedding', 'hidden.0', 'readout')
    """
    require_x64()
    recorded = check_recorded_steps(setup, steps)
    rows: list[list[NDArray[np.float64]]] = [[] for _ in recorded]
    names: tuple[str, ...] = ()
    initial: Tree = None
    for reached in trained_networks(setup, run_columns(setup, seeds=seeds), recorded):
        shared, networks = reached.shared, reached.state.network
        if reached.step == 0:
            initial = jax.tree.map(jnp.copy, networks)
        probe = _probe(shared.task.evaluation(), setup.sequence_length)
        sizes = _mean_squares(probe, shared.multiplier, initial, networks)
        names = _matrix_names(networks, sizes)
        measured = np.stack([reached.kept(sizes[name]) for name in names], axis=1)
        rows[recorded.index(reached.step)].append(measured.astype(np.float64))
        del reached, networks  # else these weights would stay beside those of the next chunk
    mean_square = np.stack([np.concatenate(row) for row in rows], axis=1)
    return Coordinates(setup, np.array(recorded), names, mean_square)


def check_recorded_steps(setup: NetworkSetup, steps: Sequence[int]) -> list[int]:
    """The recorded steps, from 0 on. Raises `InputError`.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import check_recorded_steps
    >>> check_recorded_steps(NetworkSetup(steps=10), [0, 1, 10])
    [0, 1, 10]
    """
    recorded = sorted({0, *steps})
    if len(recorded) < 2 or recorded[0] < 0 or recorded[-1] > setup.steps:
        allowed = f"must be numbers of steps, at least one above 0, at most {setup.steps} (`steps`)"
        raise InputError("record", str(tuple(steps)), allowed)
    return recorded


def _matrix_names(network: Network, measured: Iterable[str]) -> tuple[str, ...]:
    """The measured matrices in the order of the network; a tied readout comes last."""
    order = [*parameter_names(network), "readout"]
    return tuple(sorted(measured, key=order.index))


def _probe(batch: Batch, sequence: int) -> Batch:
    if sequence == 1:
        return batch
    rows = max(1, PROBE_TOKENS // sequence)
    assert not isinstance(batch.targets, Pairs)  # sequences have no whole law
    weights = batch.weights[:rows]
    return Batch(batch.tokens[:rows], batch.targets[:rows], weights / weights.sum())


@jax.jit
def _mean_squares(
    probe: Batch, multiplier: LayerValues, initial: Network, networks: Network
) -> dict[str, Array]:
    """Mean squares by matrix, shape (runs, Q) each, one run of each device at a time."""
    devices = len(jax.devices())

    def of_run(pair: tuple[Network, Network]) -> dict[str, Array]:
        return _of_networks(probe, multiplier, *pair)

    def turns(x: Array) -> Array:
        """(runs, ...) to (turns, devices, ...): a device holds runs that follow one another."""
        return x.reshape(devices, -1, *x.shape[1:]).swapaxes(0, 1)

    with jax.default_matmul_precision("highest"):
        sizes = jax.lax.map(jax.vmap(of_run), jax.tree.map(turns, (initial, networks)))
    return {name: x.swapaxes(0, 1).reshape(-1, x.shape[-1]) for name, x in sizes.items()}


def _of_networks(
    probe: Batch, multiplier: LayerValues, first: Network, last: Network
) -> dict[str, Array]:
    mean = partial(_mean_square, probe.weights)
    starts, ends = _weights(first), _weights(last)
    before, after = (network(probe.tokens, multiplier).inputs for network in (first, last))
    start = multiplier.embedding * starts["embedding"]
    change = multiplier.embedding * (ends["embedding"] - starts["embedding"])
    nothing = jnp.full((), jnp.nan, start.dtype)
    moved = mean(change[probe.tokens])
    embedding: dict[Quantity, Array] = {
        **dict.fromkeys(QUANTITIES, nothing),
        "output": mean((start + change)[probe.tokens]),
        "update": moved,
        "initial": mean(start[probe.tokens]),
        "update_on_initial": moved,
        "weight": jnp.mean(jnp.square(start)),
        "weight_update": jnp.mean(jnp.square(change)),
    }
    found = {"embedding": embedding}
    for name, z in before.items():
        factor = multiplier.of(label_of(name))
        weight = "embedding" if name not in starts else name  # a tied readout
        start = factor * starts[weight]
        change = factor * (ends[weight] - starts[weight])
        learned = after[name] - z
        on_initial, on_learned = z @ change.T, learned @ change.T
        at_start, carried = z @ start.T, learned @ start.T
        found[name] = {
            "input": mean(after[name]),
            "learned_input": mean(learned),
            "output": mean(at_start + carried + on_initial + on_learned),
            "update": mean(on_initial + on_learned),
            "initial": mean(at_start),
            "update_on_initial": mean(on_initial),
            "initial_on_learned": mean(carried),
            "update_on_learned": mean(on_learned),
            "weight": jnp.mean(jnp.square(start)),
            "weight_update": jnp.mean(jnp.square(change)),
        }
    return {name: jnp.stack([sizes[q] for q in QUANTITIES]) for name, sizes in found.items()}


def _mean_square(weights: Array, x: Array) -> Array:
    return jnp.sum(weights * jnp.mean(jnp.square(x), axis=-1))


def _weights(network: Network) -> dict[str, Array]:
    return dict(zip(parameter_names(network), jax.tree.leaves(network), strict=True))


@dataclass(frozen=True)
class SlopeBand:
    """Powers of the width, from `low` to `high`, that a term's size may have."""

    low: float
    high: float


def reference_setup(setup: NetworkSetup) -> NetworkSetup:
    """The setup with its parametrization's own exponents, whatever others were written.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import reference_setup
    >>> reference_setup(NetworkSetup(network="mlp", lr_exponents="0,0,0")).lr_exponents
    'auto'
    """
    return replace(setup, lr_exponents="auto", init_exponents="auto")


def slope_bands(
    setup: NetworkSetup, widths: Sequence[int], matrix: str, *, stable: bool = True
) -> dict[Term, SlopeBand]:
    """Powers of the width of a matrix's terms under the setup's exponents, at its vocabulary.

    A step of an entrywise normalised optimizer changes an entry of W by (multiplier)(LR), so
    W - W_0 times its input has the power u + A, u that of (multiplier)(LR), and A between what the
    vocabulary leaves (`vocabulary_alignment_exponent`) and 1. On learned inputs, which have a power
    v of their own, it is u + v + U with U between 1/2 and 1; W_0 on learned inputs has w + v +
    Omega, w the power of W_0's entries, Omega = 1/2, and up to 1 at the readout, whose weights the
    layers below learn to follow. v is that of the embedding's update for matrices that read the
    embedding itself, and further up between the least of all updates below and 0.

    With `stable` no band reaches above 0 (a size that grows is a mistake). These are the terms of
    the stability program, docs/theory/parametrizations.md#stability-program.

    Raises `InputError` for optimizers that are not entrywise normalised.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import slope_bands
    >>> setup = NetworkSetup(network="mlp", vocab_size=4096, optimizer="adam")
    >>> band = slope_bands(setup, [64, 128, 256], "hidden.0")["update_on_initial"]
    >>> round(band.low, 2), round(band.high, 2)
    (-0.49, 0.0)
    """
    if setup.optimizer not in derivations.ENTRYWISE_NORMALISED:
        known = " or ".join(derivations.ENTRYWISE_NORMALISED)
        allowed = f"must be {known}, whose steps have a known size"
        raise InputError("optimizer", setup.optimizer, allowed)
    label = label_of(matrix)
    weight, update = _width_powers(setup)
    if label == "embedding":
        start = SlopeBand(weight[label], weight[label])
        step = SlopeBand(update[label], update[label])
        return {"initial": start, "update_on_initial": step}
    least = vocabulary_alignment_exponent(setup, widths)
    w, u = weight[label], update[label]
    moved = update["embedding"]
    slowest = moved if reads_embedding(matrix, setup) else min(moved, update["hidden"] + least)
    fastest = moved if reads_embedding(matrix, setup) else max(moved, update["hidden"] + 1)
    follows = 1.0 if label == "readout" else 0.5
    bands: dict[Term, SlopeBand] = {
        "initial": SlopeBand(w + 0.5, w + 0.5),
        "update_on_initial": SlopeBand(u + least, u + 1),
        "initial_on_learned": SlopeBand(slowest + w + 0.5, fastest + w + follows),
        "update_on_learned": SlopeBand(slowest + u + 0.5, fastest + u + 1),
    }
    if stable:
        return {t: SlopeBand(min(b.low, 0.0), min(b.high, 0.0)) for t, b in bands.items()}
    return bands


def _width_powers(setup: NetworkSetup) -> tuple[dict[Label, float], dict[Label, float]]:
    """Powers of the width in entries of W_0 and in the entries of one update, by label."""
    layers = resolved_parametrization(setup).layers
    weight: dict[Label, float] = {name: float(layer.weight_std) for name, layer in layers.items()}
    multiplier = {name: layer.multiplier for name, layer in layers.items()}
    rate = {name: layer.lr or 0 for name, layer in layers.items()}
    if setup.tied:  # the embedding's weight, multiplied to the readout's initial size
        multiplier["readout"] = layers["readout"].weight_std - layers["embedding"].init_std
        rate["readout"] = rate["embedding"]
    update: dict[Label, float] = {name: float(multiplier[name] + rate[name]) for name in layers}
    return weight, update


def vocabulary_alignment_exponent(setup: NetworkSetup, widths: Sequence[int]) -> float:
    """A of the first step of a matrix that all tokens reach, fitted over these very widths.

    The least-squares power of the width in sqrt(d [1 + (2/pi)(d - 1) C]), C from the token law and
    batch (`dynsim.first_step`): between 1/2 and 1, 1 for vocabularies that are small at all widths.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import vocabulary_alignment_exponent
    >>> few, many = (NetworkSetup(network="mlp", vocab_size=size) for size in (4, 2**20))
    >>> widths = [64, 128, 256]
    >>> [round(vocabulary_alignment_exponent(setup, widths), 2) for setup in (few, many)]
    [0.98, 0.5]
    """
    law = setup.law()
    sizes = np.asarray(widths, np.float64)
    moments = first_step("hidden", "sign", sizes, law, batch_size=setup.batch_size)
    return float(log_slope(np.log(sizes), np.log(np.asarray(moments.rms))))


def reads_embedding(matrix: str, setup: NetworkSetup) -> bool:
    """Whether a matrix's input is the (normalised) embedding of one token alone.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import reads_embedding
    >>> setup = NetworkSetup(network="mlp", depth=2)
    >>> reads_embedding("hidden.0", setup), reads_embedding("hidden.1", setup)
    (True, False)
    """
    if setup.network == "linear":
        return matrix == "readout"
    return matrix in ("hidden.0", "blocks.0.query", "blocks.0.key", "blocks.0.value")
