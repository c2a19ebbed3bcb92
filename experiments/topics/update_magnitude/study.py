"""Update magnitude in linear networks, residual MLPs and transformers: first step and later.

The matrices that read the embedding of one token alone: the linear network's readout, the MLP's
first hidden matrix, query, key and value of a transformer's first block. Nothing in a cell uses a
theory formula. Claims and figures are functions of the stored dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim.laboratory import (
    QUANTITIES,
    NetworkSetup,
    Quantity,
    network_coordinates,
    reads_embedding,
)
from dynsim.theory import visit_chance
from experiments.topics._seeds import run_seed
from experiments.topics._study import Cell, Study, grid

STEPS = (1, 2, 4, 8)
EMBEDDING_LRS = (0.0, 0.05)  # a token's mean move a step: none, or such that the LV regime ends
KEPT: tuple[Quantity, ...] = ("update", "update_on_initial", "update_on_learned", "weight_update")
NETWORKS: dict[str, dict[str, Any]] = {
    "linear": {},
    "mlp": {"depth": 2},
    # Batches of sequences: no matrix of it receives a gradient from tokens outside the batch.
    "transformer": {"depth": 1, "batch_size": 512, "context": 16},
}


def network_setup(network: str, optimizer: str, width: int, vocab_size: int) -> NetworkSetup:
    """muP from base width 1 (initial outputs 1/sqrt(width)), one output, uniform tokens."""
    return NetworkSetup(
        network=network,  # type: ignore[arg-type]
        optimizer=optimizer,  # type: ignore[arg-type]
        width=width,
        vocab_size=vocab_size,
        base_width=1,
        steps=max(STEPS),
        hidden_lr=0.01,
        **NETWORKS[network],
    )


def _cell(
    network: str,
    optimizer: str,
    width: int,
    vocab_size: int,
    seeds: int,
    embedding_lrs: Sequence[float],
    seed: int = 0,
) -> Any:
    """Mean squares over tokens, coordinates and the matrices that read tokens."""
    setup = network_setup(network, optimizer, width, vocab_size)
    setup = replace(setup, seed=run_seed(seed))
    # A token moves at the steps whose batch holds it: by as much in every network, on average.
    visited = visit_chance(setup.law(), setup.batch_size) if setup.batch_size else 1.0
    found = [
        network_coordinates(replace(setup, embedding_lr=rate / visited), STEPS, seeds)
        for rate in embedding_lrs
    ]
    matrices = [name for name in found[0].matrices if reads_embedding(name, setup)]
    chosen = np.ix_(
        range(seeds),
        range(1, len(STEPS) + 1),
        [found[0].matrices.index(name) for name in matrices],
        [QUANTITIES.index(name) for name in KEPT],
    )
    values = np.stack([one.mean_square[chosen].mean(axis=2) for one in found])
    dimensions = ("embedding_lr", "quantity", "step", "seed")
    return {"mean_square": (dimensions, values.transpose(0, 3, 2, 1))}


def _cells(full: bool) -> list[Cell]:
    widths = (32, 64, 128, 256, *((512, 1024, 2048) if full else ()))
    vocab_sizes = (4, 32, 256, 2048, *((16384, 65536) if full else ()))
    every = grid(network=NETWORKS, optimizer=("sign",), width=widths, vocab_size=vocab_sizes)
    adam = grid(
        network=NETWORKS if full else ("mlp",),
        optimizer=("adam",),
        width=widths,
        vocab_size=vocab_sizes if full else (256,),
    )
    widest = 1024 if full else 128  # of transformers
    return [c for c in (*every, *adam) if c["network"] != "transformer" or c["width"] <= widest]


UPDATE_MAGNITUDE = Study(
    "update_magnitude",
    cells=_cells,
    measure=_cell,
    config=lambda full: {"seeds": 16 if full else 8, "embedding_lrs": list(EMBEDDING_LRS)},
    labels={"embedding_lr": list(EMBEDDING_LRS), "quantity": list(KEPT), "step": list(STEPS)},
    laboratory=True,
)

STUDIES = (UPDATE_MAGNITUDE,)
