"""`dynsim train`: finite networks of every kind, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from dynsim import Setup
from dynsim.laboratory import NetworkSetup
from experiments.output import (
    again,
    flag,
    number,
    options_of,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    progress_bar,
)

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, AnyNetwork, Json, WrittenFiles

if TYPE_CHECKING:
    from dynsim import Training
    from dynsim.laboratory import NetworkTraining

MOST_SHOWN, SHOWN_OF_MANY = 40, 12  # rows of a table
UPDATE_COLUMNS = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")
HIDDEN_UPDATES = "hidden_update_rms"
MEANING = {
    "loss_std_error": "of the mean over seeds",
    "loss_error": "numerical error",
    "projection_update_rms": "RMS of what the trained part of the {matrix} adds to outputs",
    "embedding_update_rms": "RMS of what that of the embedding adds",
    "projection_step_rms": "RMS of what the {matrix}'s next step adds",
    "hidden_1_update_rms": "RMS of what that of the first hidden matrix adds to its own output",
}
NOT_RECORDED = (
    "updates are recorded for --network linear, and mlp with a readout of its own; dynsim "
    "coordinate-check measures those of other networks"
)


@dataclass(frozen=True)
class Train:
    """Train finite-width networks and record the loss step by step, of linear ones and mlp also
    the updates.

    Options that say so in their first words are of one network alone.
    """

    setup: Annotated[AnyNetwork, tyro.conf.arg(name="")]
    seeds: int = 4
    """independent initialisations (and batch streams) to average over"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Trains and prints loss and updates by step. Divergence is a result, not an error."""
        from dynsim import train
        from experiments.precision import enable_x64

        setup = self.setup.description()
        self.files.check()
        enable_x64()
        with progress_bar(1.0, "train") as bar:
            if isinstance(setup, Setup):
                result = train(setup, self.seeds, progress=bar.update)
                document = training_document(result)
            else:
                result = _evaluated(setup, self.seeds, bar.update)
                document = network_document(result)
        written = write_files(self.files, "train", result.to_xarray, document["config"])
        if self.json:
            print_json(with_files(document, written))
            return 0
        print_training(document)
        print_files(written)
        if isinstance(setup, Setup):
            print_next("the same by theory", ["predict", *setup_options(self.setup)])
        else:
            print_next("a figure", again("--plot", "train.png"))
        return 0


def setup_options(setup: AnyNetwork) -> list[str]:
    """The options of a setup that are not at their defaults."""
    return options_of(setup, [field.name for field in fields(setup)], AnyNetwork())


def _evaluated(setup: NetworkSetup, seeds: int, progress: Any) -> NetworkTraining:
    """Networks whose loss is evaluated before every step but the first, where it is anyway."""
    from dynsim import train
    from dynsim.laboratory._updates import records_updates

    return train(
        setup,
        seeds,
        horizons=range(1, max(setup.steps, 2)),
        record_updates=records_updates(setup),
        progress=progress,
    )


def training_document(result: Training) -> dict[str, Any]:
    """The first learning-rate pair's curves, averaged over seeds.

    `loss`: mean; `loss_std_error`: its standard error (null for one seed); update RMS: root mean
    square over seeds. Steps at which a seed is no longer finite are null.
    """
    with np.errstate(all="ignore"):
        updates = {
            name: np.sqrt(np.mean(getattr(result, name)[0] ** 2, axis=0)) for name in UPDATE_COLUMNS
        }
    config = {"network": "linear", **result.setup.resolved()}
    return _document(config, result.loss[0], updates, result.diverged[0])


def network_document(result: NetworkTraining) -> dict[str, Any]:
    """The same of other networks: evaluation losses; null for updates not recorded, and why.

    `hidden_update_rms` has a list of the layers' for every step.
    """
    loss = np.hstack([result.initial_loss[:, None], result.loss])[:, : result.setup.steps]
    updates: dict[str, Any] = dict.fromkeys(UPDATE_COLUMNS)
    if result.hidden_update_rms is None:
        updates["not_recorded"] = NOT_RECORDED
    else:
        with np.errstate(all="ignore"):
            for name in (*UPDATE_COLUMNS, HIDDEN_UPDATES):
                updates[name] = np.sqrt(np.mean(getattr(result, name) ** 2, axis=0))
    return _document(result.setup.resolved(), loss, updates, result.diverged)


def _document(
    config: dict[str, Any],
    loss: NDArray[np.float64],
    updates: dict[str, Any],
    diverged: NDArray[np.bool_],
) -> dict[str, Any]:
    """`loss` has shape (seeds, steps)."""
    from experiments.results import provenance

    seeds, steps = loss.shape
    with np.errstate(all="ignore"):
        error = loss.std(axis=0, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.full(steps, np.nan)
    config = {**config, "seeds": seeds}
    return {
        "config": config,
        "step": list(range(steps)),
        "loss": loss.mean(axis=0),
        "loss_std_error": error,
        **updates,
        "diverged": bool(diverged.any()),
        "diverged_seeds": int(diverged.sum()),
        "provenance": provenance(config),
    }


def last_matrix(document: dict[str, Any]) -> str:
    """The matrix before the output: the projection of the linear network, else the readout."""
    return "projection" if document["config"].get("network", "linear") == "linear" else "readout"


def print_training(document: dict[str, Any]) -> None:
    """What came out, the curves that were recorded, and how many seeds diverged."""
    print_answer(document)
    recorded = [name for name in UPDATE_COLUMNS if document[name] is not None]
    by_layer = hidden_columns(document)
    print_curves(document | by_layer, ("loss", "loss_std_error", *recorded, *by_layer))
    seeds = document["config"]["seeds"]
    if seeds == 1:
        print("-: one seed has no standard error; take two --seeds or more")
    if "not_recorded" in document:
        print_wrapped(document["not_recorded"])
    if document["diverged"]:
        print(f"diverged: {document['diverged_seeds']} of {seeds} seeds (-: not finite)")


def print_answer(document: dict[str, Any], axis: str = "step", who: str = "") -> None:
    """Where the loss goes and how far outputs are moved, in one sentence, and a blank line."""
    loss, places = np.asarray(document["loss"], dtype=float), document[axis]
    kind = document["config"]["loss"]
    finite = np.flatnonzero(np.isfinite(loss))
    if len(finite) < len(loss):
        last = places[finite[-1]] if len(finite) else None
        since = "from the start" if last is None else f"after {axis} {last:g}"
        advice = "take smaller learning rates"
        if not document.get("diverged"):
            advice = "the status below says why"
        print_wrapped(f"{who}The {kind} loss is not finite {since}: {advice}.")
    elif document.get("diverged"):
        print_wrapped(
            f"{who}The updates diverge, though the {kind} loss stays finite: "
            "take smaller learning rates."
        )
    elif len(loss) == 1:
        print_wrapped(
            f"{who}The {kind} loss starts at {number(loss[0])}; one step shows no more: "
            f"{flag('steps')} 10 follows it."
        )
    else:
        change = 100 * (loss[-1] / loss[0] - 1) if loss[0] else math.nan
        share = "" if math.isnan(change) else f" ({change:+.3g} %)"
        moved = document["projection_update_rms"]
        update = (
            ""
            if moved is None or not math.isfinite(moved[-1])
            else f"; the trained {last_matrix(document)} has then moved outputs by "
            f"{number(float(moved[-1]))} (root mean square)"
        )
        print_wrapped(
            f"{who}The {kind} loss goes from {number(loss[0])} to {number(loss[-1])}{share} by "
            f"{axis} {places[-1]:g}{update}."
        )
    print()


def hidden_columns(document: dict[str, Any]) -> dict[str, Any]:
    """A curve of every hidden layer, where there are any: `hidden_1_update_rms` and so on."""
    curves = document.get(HIDDEN_UPDATES)
    if curves is None:
        return {}
    return {f"hidden_{layer}_update_rms": curve for layer, curve in enumerate(curves.T, 1)}


def print_curves(document: dict[str, Any], columns: Sequence[str], axis: str = "step") -> None:
    """A table of the document's curves: at all points of the axis, or at some and how many."""
    places = [value if isinstance(value, int) else f"{value:g}" for value in document[axis]]
    steps = len(places)
    shown = np.arange(steps)
    if steps > MOST_SHOWN:  # the last two, too, so that a loss that jumps to and fro is seen
        spread = np.linspace(0, steps - 1, SHOWN_OF_MANY - 1).round().astype(int)
        shown = np.union1d(spread, [steps - 2])
    rows = [
        [str(places[k]), *(number(float(document[name][k])) for name in columns)] for k in shown
    ]
    matrix = last_matrix(document)
    shown_as = {name: name.replace("projection", matrix) for name in columns}
    print_table((axis, *shown_as.values()), rows)
    if len(rows) < steps:
        print(f"{len(rows)} of {steps} {axis}s (all: --json or --out)")
    told = {name: MEANING[name].format(matrix=matrix) for name in columns if name in MEANING}
    if told:
        print_wrapped("; ".join(f"{shown_as[name]}: {text}" for name, text in told.items()))
    if shown_as != {name: name for name in columns}:
        print_wrapped(f"{matrix}_..._rms: projection_..._rms of --json and --out")
