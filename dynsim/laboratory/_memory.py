"""How much memory a toy network takes in training, and how many fit a device side by side."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import jax

from dynsim._errors import InputError
from dynsim._initial import check_memory
from dynsim._network_setup import NetworkSetup
from dynsim._optimizers import weight_copies
from dynsim._runs import check_fits, device_memory, free_memory, memory_budget
from dynsim._setup import MAX_SIZE, Setup
from dynsim._targets import BLOCK_ROWS

from ._head import CLASSES_FROM
from ._networks import MLP_RATIO
from ._tasks import sparse_table, tokens_at_once
from ._workers import core_count

DEVICE_SHARE = 0.5  # of a GPU's memory, for networks side by side
CORE_CACHE = 2 * 2**20  # bytes: about a core's own cache; what is trained side by side is to fit


def runs_side_by_side(setup: NetworkSetup, memory_gb: float | None = None) -> int:
    """How many networks are trained side by side within `memory_gb` (default as `train_networks`).

    Raises `InputError` for a network that does not fit the device at all.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import runs_side_by_side
    >>> setup = NetworkSetup(network="mlp", width=64, vocab_size=128)
    >>> runs_side_by_side(setup, memory_gb=0.1) > runs_side_by_side(setup, memory_gb=0.01)
    True
    """
    return runs_within(setup, memory_gb, CORE_CACHE)


def runs_within(setup: NetworkSetup, memory_gb: float | None, cache: float) -> int:
    """The same, by default as many as fit so many bytes of a CPU's `cache`."""
    if memory_gb is not None and not 0 < memory_gb <= 1e6:
        raise InputError("memory_gb", memory_gb, "must be a number above 0 and at most 1e6")
    needed = run_bytes(setup)
    check_network_fits(setup)
    elsewhere = 0.0 if jax.default_backend() == "cpu" else DEVICE_SHARE * device_memory()
    budget = memory_budget(memory_gb, elsewhere, cache)
    return max(1, int(budget / needed)) * len(jax.devices())


def workers_that_fit(setup: NetworkSetup, runs: int, memory_gb: float | None = None) -> int:
    """How many threads may train `runs` networks each: no more than cores, or than fit."""
    budget = free_memory() if memory_gb is None else memory_gb * 2**30
    return max(1, min(core_count(), int(budget / (runs * run_bytes(setup)))))


def check_network_fits(setup: Setup | NetworkSetup) -> None:
    """Raises `InputError` if one network needs more memory than the device has."""
    if isinstance(setup, Setup):
        check_memory(setup, "float32")
    else:
        needed = run_bytes(setup) + table_bytes(setup)
        check_fits(needed, setup, setup.network, _bytes_with_head(setup))


def _bytes_with_head(setup: NetworkSetup) -> Callable[[int], int]:
    """What one network needs by the number of its token types, if they are its outputs too."""

    def needed(types: int) -> int:
        other = copy(setup)  # not `replace`: a small vocabulary may be none of a corpus
        object.__setattr__(other, "vocab_size", max(types, 1))
        object.__setattr__(other, "outputs", max(types, 1))
        return run_bytes(other) + table_bytes(other)

    return needed


def table_bytes(setup: NetworkSetup) -> int:
    """Memory of the targets that all runs share, while they are made: a table unless sparse."""
    if setup.targets == "next-token" or sparse_table(setup):
        return 0
    size = 8 if setup.precision == "float64" else 4
    return (8 + size) * setup.vocab_size * setup.output_count


def parameter_count(setup: NetworkSetup) -> int:
    """Trained numbers of one network.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import parameter_count
    >>> parameter_count(NetworkSetup(network="linear", width=16, vocab_size=32, outputs=1))
    528
    """
    per_layer = {"linear": 0, "mlp": 1, "transformer": 4 + 2 * MLP_RATIO}[setup.network]
    readout = 0 if setup.tied else setup.output_count
    hidden = setup.depth * per_layer * setup.width
    gains = {
        "linear": 0,
        "mlp": 0 if setup.normalisation == "none" else setup.depth + 1,
        "transformer": 2 * setup.depth + 1,
    }[setup.network]
    return (setup.vocab_size + readout + hidden + gains) * setup.width


def run_bytes(setup: NetworkSetup) -> int:
    """Memory of one network in training: weights, gradient, step, optimizer state, activations.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import run_bytes
    >>> narrow, wide = (NetworkSetup(network="mlp", width=width) for width in (64, 512))
    >>> run_bytes(wide) > run_bytes(narrow)
    True
    """
    size = 8 if setup.precision == "float64" else 4
    copies = 3 + weight_copies(setup.entrywise_optimizer)
    tokens = tokens_at_once(setup)
    widths = {"linear": 2, "mlp": 4 * (1 + setup.depth), "transformer": 8 + 30 * setup.depth}
    heads = setup.width // setup.head_width
    scores = 3 * setup.depth * heads * setup.context if setup.network == "transformer" else 0
    logits = 4 * min(tokens, logit_rows(setup)) * setup.output_count
    activations = tokens * (widths[setup.network] * setup.width + scores) + logits
    return size * (copies * parameter_count(setup) + activations)


def logit_rows(setup: NetworkSetup) -> int:
    """Tokens whose logits are held at once."""
    classes = setup.targets == "next-token" and setup.output_count >= CLASSES_FROM
    in_blocks = sparse_table(setup) or (classes and setup.precision != "bfloat16")
    return BLOCK_ROWS if in_blocks else MAX_SIZE
