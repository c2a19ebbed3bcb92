"""How much memory a toy network takes in training, and how many fit a device side by side."""

from __future__ import annotations

import jax

from dynsim._errors import InputError
from dynsim._initial import check_memory
from dynsim._network_setup import NetworkSetup
from dynsim._optimizers import weight_copies
from dynsim._runs import check_fits, device_memory, memory_budget
from dynsim._setup import Setup

from ._networks import MLP_RATIO
from ._tasks import tokens_at_once

DEVICE_SHARE = 0.5  # of a GPU's memory, for networks side by side


def runs_side_by_side(setup: NetworkSetup, memory_gb: float | None = None) -> int:
    """How many networks are trained side by side within `memory_gb` (default as `train_networks`).

    Raises `InputError` for a network that does not fit the device at all.
    """
    if memory_gb is not None and not 0 < memory_gb <= 1e6:
        raise InputError("memory_gb", memory_gb, "must be a number above 0 and at most 1e6")
    needed = run_bytes(setup)
    check_fits(needed, setup, setup.network)
    elsewhere = 0.0 if jax.default_backend() == "cpu" else DEVICE_SHARE * device_memory()
    budget = memory_budget(memory_gb, elsewhere)
    return max(1, int(budget / needed)) * len(jax.devices())


def check_network_fits(setup: Setup | NetworkSetup) -> None:
    """Raises `InputError` if one network needs more memory than the device has."""
    if isinstance(setup, Setup):
        check_memory(setup, "float32")
    else:
        check_fits(run_bytes(setup), setup, setup.network)


def parameter_count(setup: NetworkSetup) -> int:
    """Trained numbers of one network."""
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
    """Memory of one network in training: weights, gradient, step, optimizer state, activations."""
    size = 8 if setup.precision == "float64" else 4
    copies = 3 + weight_copies(setup.entrywise_optimizer)
    tokens = tokens_at_once(setup)
    widths = {"linear": 2, "mlp": 4 * (1 + setup.depth), "transformer": 8 + 30 * setup.depth}
    heads = setup.width // setup.head_width
    scores = 3 * setup.depth * heads * setup.context if setup.network == "transformer" else 0
    activations = tokens * (widths[setup.network] * setup.width + 4 * setup.output_count + scores)
    return size * (copies * parameter_count(setup) + activations)
