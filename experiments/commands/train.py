"""`dynsim train` and `dynsim predict`: finite networks and mean-field theory, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from dynsim import Setup
from experiments.output import number, print_json, print_table, progress_bar

from ._options import Json

if TYPE_CHECKING:
    from dynsim import Training


SHOWN_STEPS = 12
UPDATE_COLUMNS = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")


@dataclass(frozen=True)
class Train:
    """Train finite-width linear networks and record loss and updates step by step."""

    setup: Annotated[Setup, tyro.conf.arg(name="")]
    seeds: int = 4
    """independent initialisations (and batch streams) to average over"""
    json: Json = False

    def run(self) -> int:
        """Trains and prints loss and updates by step. Divergence is a result, not an error."""
        from dynsim import train
        from experiments.precision import enable_x64

        enable_x64()
        with progress_bar(1.0, "train") as bar:
            result = train(self.setup, self.seeds, progress=bar.update)
        document = training_document(result)
        if self.json:
            print_json(document)
            return 0
        print_training(document)
        return 0


def training_document(result: Training) -> dict[str, Any]:
    """The first learning-rate pair's curves, averaged over seeds.

    `loss`: mean; `loss_std_error`: its standard error (null for one seed); update RMS: root mean
    square over seeds. Steps at which a seed is no longer finite are null.
    """
    from experiments.results import provenance

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
