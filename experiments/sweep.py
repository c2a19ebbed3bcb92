"""`dynsim sweep`: losses of finite networks over widths, vocabularies and learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from .output import number, print_json, print_table
from .results import load, study_config

if TYPE_CHECKING:
    from .cli import Sweep

HEAD = ("width", "vocab_size", "embedding_lr", "hidden_lr", "loss", "diverged")


def run_sweep(options: Sweep) -> int:
    """Trains the grid, or what is missing of it, and prints the best learning rates."""
    from .sweeps.complete import complete_sweep
    from .sweeps.executors import executor
    from .sweeps.plan import Grid, learning_rate_axis
    from .sweeps.store import kept_of_interrupted

    grid = Grid(
        options.setup,
        options.widths,
        options.vocab_sizes,
        learning_rate_axis("--embedding-lrs", options.embedding_lrs),
        learning_rate_axis("--hidden-lrs", options.hidden_lrs),
        options.seeds,
        options.horizons or (options.setup.steps,),
        options.memory_gb,
        options.train_loss,
    )
    try:
        found = complete_sweep(grid, options.out, executor(options.executor), resume=options.resume)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept_of_interrupted(options.out)) from None
    document = sweep_document(load(options.out), options.out, found)
    if options.json:
        print_json(document)
    else:
        _print(document)
    return 0


def sweep_document(dataset: xr.Dataset, path: Path, already_finished: bool) -> dict[str, Any]:
    """Config, size, diverged runs, the best pair of learning rates of every cell, provenance."""
    from .sweeps.dataset import best_rates

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
    print(
        f"\nLowest mean loss over {config['seeds']} seeds after {config['horizons'][-1]} steps, "
        f"and its base learning rates; diverged: of {document['runs'] // document['cells']} runs."
    )
    print(f"{document['runs']} runs are in {path}; dynsim optima {path} fits their optima.")
