"""`dynsim train` and `dynsim predict`: finite networks and mean-field theory, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dynsim import Training

from .output import number, print_json, print_table, progress_bar
from .results import provenance

if TYPE_CHECKING:
    from .cli import Predict, Train

SHOWN_STEPS = 12
UPDATE_COLUMNS = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")


def run_train(options: Train) -> int:
    """Trains and prints loss and updates by step. Divergence is a result, not an error."""
    from dynsim import train

    from .precision import enable_x64

    enable_x64()
    with progress_bar(1.0, "train") as bar:
        result = train(options.setup, options.seeds, progress=bar.update)
    document = training_document(result)
    if options.json:
        print_json(document)
        return 0
    print_training(document)
    return 0


def training_document(result: Training) -> dict[str, Any]:
    """The first learning-rate pair's curves, averaged over seeds.

    `loss`: mean; `loss_std_error`: its standard error (null for one seed); update RMS: root mean
    square over seeds. Steps at which a seed is no longer finite are null.
    """
    loss = result.loss[0]
    seeds = len(loss)
    with np.errstate(all="ignore"):
        error = (
            loss.std(axis=0, ddof=1) / np.sqrt(seeds)
            if seeds > 1
            else np.full_like(loss[0], np.nan)
        )
        updates = {
            name: np.sqrt(np.mean(getattr(result, name)[0] ** 2, axis=0)) for name in UPDATE_COLUMNS
        }
    config = {**dataclasses.asdict(result.setup), "seeds": seeds}
    return {
        "config": config,
        "step": list(range(result.setup.steps)),
        "loss": loss.mean(axis=0),
        "loss_std_error": error,
        **updates,
        "diverged": bool(result.diverged[0].any()),
        "diverged_seeds": int(result.diverged[0].sum()),
        "provenance": provenance(config),
    }


def run_predict(options: Predict) -> int:
    """Solves the mean-field equations and prints loss and updates by step."""
    from dynsim import predict

    from .precision import enable_x64

    enable_x64()
    with progress_bar(1.0, "predict") as bar:
        result = predict(
            options.setup,
            particles=options.particles,
            replicas=options.replicas,
            progress=bar.update,
        )
    config = {
        **dataclasses.asdict(options.setup),
        "particles": result.particles,
        "neurons": result.neurons,
        "replicas": result.replicas,
    }
    document = {
        "config": config,
        "step": list(range(options.setup.steps)),
        "loss": result.loss[0],
        "loss_error": result.loss_error[0],
        "finite_width_correction": result.finite_width_correction[0],
        **{
            column: getattr(result, column)[0]
            for name in UPDATE_COLUMNS
            for column in (name, f"{name}_error")
        },
        "diverged": bool(result.diverged[0]),
        "status": result.status[0],
        "provenance": provenance(config),
    }
    if options.json:
        print_json(document)
        return 0
    print_curves(document, ("loss", "loss_error", *UPDATE_COLUMNS))
    print(f"status: {result.status[0]}")
    return 0


def print_training(document: dict[str, Any]) -> None:
    print_curves(document, ("loss", "loss_std_error", *UPDATE_COLUMNS))
    if document["diverged"]:
        print(f"diverged: {document['diverged_seeds']} of {document['config']['seeds']} seeds")


def print_curves(document: dict[str, Any], columns: Sequence[str], axis: str = "step") -> None:
    """A table of the document's curves at some points of the axis."""
    places = [value if isinstance(value, int) else f"{value:g}" for value in document[axis]]
    steps = len(places)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, SHOWN_STEPS)).round().astype(int))
    rows = [
        [str(places[k]), *(number(float(document[name][k])) for name in columns)] for k in shown
    ]
    print_table((axis, *columns), rows)
