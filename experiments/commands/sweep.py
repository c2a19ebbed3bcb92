"""`dynsim sweep`: losses of finite networks over widths, vocabularies and learning rates."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dynsim.laboratory import NetworkFamily
from experiments.output import (
    number,
    print_json,
    print_next,
    print_table,
    print_wrapped,
)

from ._options import Json, check_family

if TYPE_CHECKING:
    import xarray as xr


OPEN_SCHEDULER = (
    "whoever reaches this scheduler can run code on its workers; tls:// keeps others out"
)
HEAD = ("width", "vocabulary", "best embedding LR", "best hidden LR", "loss", "diverged (runs)")


@dataclass(frozen=True, repr=False)
class SweptFamily(NetworkFamily):
    """Networks of all sizes and learning rates."""


@dataclass(frozen=True)
class Sweep:
    """Train networks over widths, vocabularies, learning rates and seeds, into one file.

    What is finished survives any interruption: the same command with --resume goes on after it,
    and ends in the same numbers.
    """

    setup: Annotated[SweptFamily, tyro.conf.arg(name="")]
    widths: tuple[int, ...]
    """widths d"""
    vocab_sizes: tuple[int, ...]
    """vocabulary sizes m"""
    embedding_lrs: str
    """embedding learning rates at base_width: LO:HI:N (N log-spaced), 0,LO:HI:N (0 too: a frozen
    layer) or one number"""
    hidden_lrs: str
    """the same for hidden layers (of linear: the projection)"""
    out: Path
    """netCDF file to write; until it is, finished tasks are kept in FILE.cells"""
    seeds: int = 4
    """independent initialisations and batch streams"""
    horizons: tuple[int, ...] = ()
    """steps after which to evaluate the loss (default: --steps)"""
    train_loss: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """keep the loss of every step's batch too"""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """go on where an earlier run of this command stopped"""
    executor: str = "local"
    """local: this process; dask: two processes of this machine; dask:ADDRESS: a cluster's"""
    memory_gb: float | None = None
    """memory for the networks a process trains side by side (default: a CPU's cache, or half of a
    GPU)"""
    json: Json = False

    def run(self) -> int:
        """Trains the grid, or what is missing of it, and prints the best learning rates."""
        from experiments.cells.executors import executor
        from experiments.results import load
        from experiments.sweeps.complete import complete_sweep
        from experiments.sweeps.plan import Grid, learning_rate_axis

        check_family(self.setup)
        grid = Grid(
            self.setup,
            self.widths,
            self.vocab_sizes,
            learning_rate_axis("embedding_lrs", self.embedding_lrs),
            learning_rate_axis("hidden_lrs", self.hidden_lrs),
            self.seeds,
            self.horizons or (self.setup.steps,),
            self.memory_gb,
            self.train_loss,
        )
        where = executor(self.executor)
        if self.executor.startswith("dask:") and "tls://" not in self.executor:
            print(f"dynsim: warning: {OPEN_SCHEDULER}", file=sys.stderr)
        found = complete_sweep(grid, self.out, where, resume=self.resume)
        document = sweep_document(load(self.out), self.out, found)
        if self.json:
            print_json(document)
        else:
            _print(document)
        return 0


def sweep_document(dataset: xr.Dataset, path: Path, already_finished: bool) -> dict[str, Any]:
    """Config, size, diverged runs, the best pair of learning rates of every cell, provenance."""
    from experiments.results import study_config
    from experiments.sweeps.dataset import best_rates

    return {
        "config": study_config(dataset),
        "path": path,
        "already_finished": already_finished,
        "cells": dataset.sizes["width"] * dataset.sizes["vocab_size"],
        "runs": dataset.diverged.size,
        "diverged": int(dataset.diverged.sum()),
        "best": best_rates(dataset),
        "provenance": dict(dataset.attrs),
    }


def _print(document: dict[str, Any]) -> None:
    config, path = document["config"], document["path"]
    print_wrapped(_answer(document["best"], config))
    print()
    if document["already_finished"]:
        print(f"{path} was finished already; nothing was trained.\n")
    rows = [
        [
            str(row["width"]),
            str(row["vocab_size"]),
            *(number(row[name]) for name in ("embedding_lr", "hidden_lr", "loss")),
            str(row["diverged"]),
        ]
        for row in document["best"]
    ]
    print_table(HEAD, rows)
    print()
    print_wrapped(
        f"Lowest mean loss over {config['seeds']} seeds after {config['horizons'][-1]} steps, "
        f"and its base learning rates; diverged: of {document['runs'] // document['cells']} runs. "
        f"All {document['runs']} runs are in {path}."
    )
    print_next("fit the optima", ["optima", path])


def _answer(best: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """Where the best rates are at the narrowest and at the widest, of the first vocabulary."""
    found = [row for row in best if row["vocab_size"] == best[0]["vocab_size"]]
    ends = [row for row in (found[0], found[-1]) if row["loss"] is not None]
    ends = [row for row in ends if math.isfinite(row["loss"])]
    if not ends:
        return "All runs of a size diverged: the grid's learning rates are too large."
    told = " and ".join(
        f"{number(row['embedding_lr'])} and {number(row['hidden_lr'])} at width {row['width']}"
        for row in (ends if ends[0] is not ends[-1] else ends[:1])
    )
    return (
        f"The best base learning rates of embedding and hidden layers are {told} (vocabulary "
        f"{best[0]['vocab_size']}, after {config['horizons'][-1]} steps)."
    )
