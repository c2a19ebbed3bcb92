"""Losses over one base rate, with the vocabulary kept and with it in proportion to the width.

All layers are trained by Adam under muP. The embedding has four times the base rate, hidden layers
and readout have it. The transformer reads text, with a tokeniser trained at each vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim import NetworkSetup
from dynsim.laboratory import train_networks
from experiments.topics._seeds import run_seed
from experiments.topics._study import Cell, Study, grid

WIDTHS = (32, 64, 128)
KEPT = 1024
PATHS = {"kept": lambda width: KEPT, "proportional": lambda width: KEPT // WIDTHS[-1] * width}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"depth": 2, "outputs": 4, "steps": 15},
    "transformer": {
        "depth": 1,
        "outputs": 128,
        "steps": 100,
        "targets": "next-token",
        "batch_size": 512,
        "context": 16,
    },
}
EMBEDDING_RATIO = 4.0
BASE_LRS = 2.0 ** np.arange(-11, -2)


def network_setup(network: str, path: str, width: int, seed: int) -> NetworkSetup:
    return NetworkSetup(
        network=network,  # type: ignore[arg-type]
        width=width,
        vocab_size=PATHS[path](width),
        base_width=WIDTHS[0],
        seed=seed,
        **NETWORKS[network],
    )


def _cell(network: str, path: str, width: int, seeds: int, seed: int = 0) -> Any:
    """Losses (rate, seed) after the last step, and before the first; a seed has its own targets,
    weights and batches."""
    setup = network_setup(network, path, width, 0)
    found, start = [], []
    for number in range(seeds):
        task = replace(setup, seed=run_seed(seed, number))
        trained = train_networks(task, EMBEDDING_RATIO * BASE_LRS, BASE_LRS, seeds=[number])
        found.append(trained.loss[:, -1])
        start.append(trained.initial_loss[0])
    return {
        "loss": (("base_lr", "seed"), np.array(found, dtype=np.float32).T),
        "initial_loss": (("seed",), np.array(start, dtype=np.float32)),
        "vocab_size": ((), float(setup.vocab_size)),
    }


def _cells(full: bool) -> list[Cell]:
    return grid(network=NETWORKS, path=PATHS, width=WIDTHS) if full else []


PROXIES = Study(
    "proxies",
    cells=_cells,
    measure=_cell,
    config=lambda full: {"seeds": 6},
    labels={"base_lr": BASE_LRS.tolist()},
)

STUDIES = (PROXIES,)
