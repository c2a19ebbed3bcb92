"""Update sizes of every matrix of a deep linear network, with the embedding frozen and trained.

A plain network of two hidden matrices and a readout under muP initialisation, one output, sign
descent in full batch, uniform tokens, m = 16 d. Hidden matrices and readout have the rate 0.1/d in
all cases, the embedding 0 or 0.05. Recorded is, before every step, the RMS of (W_t - W_0) z_t over
the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim import NetworkSetup, predict
from dynsim.laboratory import train_networks
from experiments.topics._seeds import run_seed
from experiments.topics._study import Cell, Study

EMBEDDING_LRS: Mapping[str, float] = {"frozen": 0.0, "trained": 0.05}
MATRICES = ("first hidden", "second hidden", "readout")
STEPS = 8
TOKENS_PER_NEURON = 16
UPPER_LR = 0.1  # times 1/d
FIRST_NETWORK = 100  # six networks, 0 to 5, left two claims to chance: these are others and more


def network_setup(width: int, seed: int) -> NetworkSetup:
    """Learning rates are those of the weights at every width."""
    return NetworkSetup(
        network="mlp",
        activation="identity",
        normalisation="none",
        residual="no",
        depth=2,
        width=width,
        vocab_size=TOKENS_PER_NEURON * width,
        optimizer="sign",
        steps=STEPS + 1,
        base_width=1,
        parametrization="sp",
        init_exponents="0,-1/2,-1",
        lr_exponents="0,0,0",
        hidden_lr=UPPER_LR / width,
        outputs=1,
        seed=seed,
    )


def _cell(source: str, width: int, networks: int, particles: int, seed: int = 0) -> Any:
    """Mean squares (embedding, matrix, step, seed). A theory has one seed and an error."""
    setup = network_setup(width, run_seed(seed))
    rows, errors = [], []
    for rate in EMBEDDING_LRS.values():
        case = replace(setup, embedding_lr=rate)
        if source == "theory":
            found = predict(case, particles=particles, replicas=4, error_estimate=False)
            assert found.hidden_update_rms_error is not None
            error = [*np.moveaxis(found.hidden_update_rms_error[0], -1, 0)]
            errors.append([*error, found.projection_update_rms_error[0]])
            hidden = found.hidden_update_rms
            readout = found.projection_update_rms
        else:
            trained = train_networks(
                case, seeds=FIRST_NETWORK + np.arange(networks), record_updates=True
            )
            hidden, readout = trained.hidden_update_rms, trained.projection_update_rms
        assert hidden is not None
        rows.append([*np.moveaxis(hidden, -1, 0), readout])
    sizes = np.square(np.moveaxis(np.array(rows), 2, -1)[:, :, 1:] / setup.hidden_lr)
    unused = np.full((*sizes.shape[:-1], networks - sizes.shape[-1]), np.nan)
    sizes = np.concatenate([sizes, unused], axis=-1)
    variables: dict[str, Any] = {"mean_square": (("embedding", "matrix", "step", "seed"), sizes)}
    if errors:
        error = np.array(errors)[:, :, 1:] / setup.hidden_lr
        variables["rms_error"] = (("embedding", "matrix", "step"), error)
    return variables


def _cells(full: bool) -> list[Cell]:
    if not full:
        return []
    sizes = {"theory": (64, 128, 256, 1024, 10_000, 100_000), "networks": (64, 128, 256)}
    return [
        {"source": source, "width": width} for source, widths in sizes.items() for width in widths
    ]


DEPTH_ALIGNMENT = Study(
    "depth_alignment",
    cells=_cells,
    measure=_cell,
    config=lambda full: {"networks": 24, "particles": 1024},
    labels={
        "embedding": list(EMBEDDING_LRS),
        "matrix": list(MATRICES),
        "step": list(range(1, STEPS + 1)),
    },
)

STUDIES = (DEPTH_ALIGNMENT,)
