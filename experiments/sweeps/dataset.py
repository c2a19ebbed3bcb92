"""A finished sweep as one labelled dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from dynsim.laboratory import grid_factors
from experiments.cells.store import Arrays

from .plan import Grid

RUN_DIMS = ("width", "vocab_size", "seed", "embedding_lr", "hidden_lr")
AXES = ("width", "vocab_size", "embedding_lr", "hidden_lr", "horizon")
ORDER = ("width", "vocab_size", "embedding_lr", "hidden_lr", "seed", "horizon", "step")


def assemble(grid: Grid, pieces: Sequence[Arrays], attributes: dict[str, str]) -> xr.Dataset:
    """The sweep's variables over its grid, from those of its tasks in order.

    - `loss(width, vocab_size, embedding_lr, hidden_lr, seed, horizon)`: evaluation loss after
      `horizon` steps.
    - `train_loss(..., seed, step)`, if kept: loss of every step's batch, before the step.
    - `diverged(..., seed)`: whether a loss became non-finite or 1e6 times its start.
    - `initial_loss(width, vocab_size, seed)`: evaluation loss before the first step.
    - `embedding_lr_factor(width)`, `hidden_lr_factor(width)`: the learning rate at this width over
      the one at `base_width`, which is the coordinate.
    """
    sizes = (len(grid.widths), len(grid.vocab_sizes), *grid.run_shape)
    further = {"loss": ("horizon",), "train_loss": ("step",)}
    variables: dict[str, Any] = {}
    for name in pieces[0]:
        runs = np.concatenate([piece[name] for piece in pieces])
        values = runs.reshape(*sizes, *runs.shape[1:])
        variables[name] = xr.Variable((*RUN_DIMS, *further.get(name, ())), values)
    # All runs of a seed start from the same weights; the first stands for all.
    variables["initial_loss"] = variables["initial_loss"].isel(embedding_lr=0, hidden_lr=0)
    factors = [grid_factors(cell) for cell in grid.cells[:: len(grid.vocab_sizes)]]
    for place, name in enumerate(("embedding_lr_factor", "hidden_lr_factor")):
        variables[name] = ("width", [pair[place] for pair in factors])
    dataset = xr.Dataset(
        variables,
        coords={
            "width": list(grid.widths),
            "vocab_size": list(grid.vocab_sizes),
            "embedding_lr": list(grid.embedding_lrs),
            "hidden_lr": list(grid.hidden_lrs),
            "seed": np.arange(grid.seeds),
            "horizon": list(grid.horizons),
            **({"step": np.arange(grid.setup.steps)} if grid.train_loss else {}),
        },
        attrs=attributes,
    )
    return dataset.transpose(*(name for name in ORDER if name in dataset.dims))


def judged_loss(sweep: xr.Dataset) -> xr.DataArray:
    """`loss`, infinite where `diverged` says so: at its horizon, or, if the flag has none, at the
    last one, since it is about the whole of training."""
    if "diverged" not in sweep:
        return sweep.loss
    flag = sweep.diverged.fillna(0).astype(bool)  # missing: not run
    if "horizon" in sweep.loss.dims and "horizon" not in flag.dims:
        flag = flag & (sweep.horizon == sweep.horizon.max())
    return sweep.loss.where(~flag, np.inf)


def contradiction(sweep: xr.Dataset) -> str | None:
    """What of a sweep's file contradicts the rest of it, so that it cannot be what was written.

    A file without a digest is not checked otherwise. Values of an axis are those of the config, and
    a run whose losses are all finite, moderate and not 0 has not diverged.
    """
    from dynsim._losses import DIVERGENCE_FACTOR  # here, since it loads jax

    try:
        config = json.loads(sweep.attrs["config"])
        axes = {name: np.asarray(config[f"{name}s"], dtype=np.float64) for name in AXES}
        for name, allowed in axes.items():
            if not np.isin(sweep[name].values, allowed).all():
                return f"its {name} is not that of its config"
        curves = sweep[["train_loss", "diverged"]].astype(np.float64)
        losses, flags = sweep.loss.astype(np.float64), curves.diverged > 0
    except (KeyError, TypeError, ValueError):
        return None  # not ours, or without the loss of every step
    highest = np.maximum(curves.train_loss.max("step", skipna=False), losses.max("horizon"))
    limit = 0.1 * DIVERGENCE_FACTOR * np.maximum(curves.train_loss.isel(step=0), 1)
    if bool((flags & (highest < limit) & (losses > 0).all("horizon")).any()):
        return "a run of moderate losses is said to have diverged"
    return None


def best_rates(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """The pair of learning rates with the lowest mean loss over seeds at the last horizon, for
    every cell; a pair of which a seed diverged does not count."""
    loss = judged_loss(dataset).isel(horizon=-1).mean("seed", skipna=False)
    rows = []
    for width in dataset.width.values:
        for vocab_size in dataset.vocab_size.values:
            size = {"width": int(width), "vocab_size": int(vocab_size)}
            values = loss.sel(size).values
            best = {"embedding_lr": None, "hidden_lr": None, "loss": None}
            if np.isfinite(values).any():
                place = np.unravel_index(np.nanargmin(values), values.shape)
                best = {
                    "embedding_lr": float(dataset.embedding_lr[place[0]]),
                    "hidden_lr": float(dataset.hidden_lr[place[1]]),
                    "loss": float(values[place]),
                }
            rows.append({**size, **best, "diverged": int(dataset.diverged.sel(size).sum())})
    return rows
