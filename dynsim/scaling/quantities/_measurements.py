"""What is trained for a quantity, and what is kept of it: arrays of shape (seeds,).

What trains networks with hidden layers is imported where it is used: theory is printed sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim._setup import Setup
from dynsim.laboratory._linear_training import train_linear
from dynsim.scaling._quantity import AnySetup, Measurement, Progress

Floats = NDArray[np.float64]


def _training(
    setup: AnySetup, seeds: NDArray[np.int64], progress: Progress
) -> Mapping[str, NDArray[Any]]:
    """Squares of all updates and, of a linear network, the loss, at T updates."""
    last = setup.steps - 1  # T updates
    if isinstance(setup, Setup):
        run = train_linear(setup, seeds, record_parts=True, progress=progress)
        parts = run.step_parts
        assert parts is not None
        return {
            "loss": run.loss[0, :, last],
            "projection_update_rms": run.projection_update_rms[0, :, last] ** 2,
            "embedding_update_rms": run.embedding_update_rms[0, :, last] ** 2,
            "projection_step_rms": run.projection_step_rms[0, :, last - 1] ** 2,
            "embedding_step_rms": parts.embedding_step_rms[0, :, last - 1] ** 2,
            "incoherent_rms": parts.incoherent_rms[0, :, last - 1] ** 2,
            "aligned_rms": parts.aligned_rms[0, :, last - 1] ** 2,
        }
    from dynsim.laboratory._coordinates import QUANTITIES as COORDINATES
    from dynsim.laboratory._coordinates import network_coordinates

    run = network_coordinates(setup, [last], seeds)
    progress(1.0)
    names = [f"{matrix}:{quantity}" for matrix in run.matrices for quantity in COORDINATES]
    columns = run.mean_square[:, -1].reshape(len(run.mean_square), -1).T
    return dict(zip(names, columns, strict=True))


TRAINING = Measurement("training", _training)


def _losses(
    setup: AnySetup, seeds: NDArray[np.int64], progress: Progress
) -> Mapping[str, NDArray[Any]]:
    """The loss after T updates."""
    last = setup.steps - 1
    if isinstance(setup, Setup):
        run = train_linear(setup, seeds, record_updates=False, progress=progress)
        return {"loss": run.loss[0, :, last]}
    from dynsim.laboratory._training import train_networks

    trained = train_networks(setup, seeds=seeds, horizons=[last], progress=progress)
    return {"loss": trained.loss[:, 0]}


LOSSES = Measurement("losses", _losses)
