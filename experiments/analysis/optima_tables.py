"""Optimal learning rates of a table of runs, and the power of the width with which they move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from dynsim import InputError, Transfer, fit_transfer
from dynsim.transfer import WidthCurve
from experiments.tables.options import TableOptions
from experiments.tables.runs import named_groups, read_both_rates, read_runs, what_was_read

from .optima import horizon_answer, surfaces
from .transfer import telling_columns

Floats = NDArray[np.float64]

MOST_UNEVEN = 0.06  # of a step, by which rates may be off a common factor
NOTED = 1e-3
NEARLY = 0.01  # of the lowest loss, by which a rate that is nearly as good may exceed it


def table_answer(
    files: Sequence[Path], group_by: Sequence[str], factor: float, options: TableOptions
) -> dict[str, Any]:
    """Optima and their powers of every group of runs, as a document."""
    both = read_both_rates(files, group_by, options)
    if both is not None:
        return _of_two_rates(files, *both)
    table, columns, notes = read_runs(files, None, group_by, (), options)
    parts = named_groups(table, columns)
    names = [name for name, _ in parts]
    shown = columns if group_by else telling_columns(names)
    groups = []
    for name, runs in parts:
        values = (runs[one].to_numpy() for one in ("width", "learning_rate", "seed", "loss"))
        fit = fit_transfer(*values, factor=factor)
        groups.append({"group": name, "label": _label(name, shown), **_one_rate_answer(fit)})
    return {"read": what_was_read(table, files), "notes": notes, "groups": groups}


def _label(name: dict[str, Any], columns: Sequence[str]) -> str:
    return ", ".join(f"{column} {name[column]}" for column in columns) or "all runs"


def _one_rate_answer(fit: Transfer) -> dict[str, Any]:
    trend = fit.trend
    return {
        "diverged": fit.diverged,
        "intervals": fit.intervals,
        "optima": [_optimum(curve) for curve in fit.curves],
        "exponent": _estimate(trend.slope),
        "bend": _estimate(trend.bend),
        "status": trend.outcome,
    }


def _optimum(curve: WidthCurve) -> dict[str, Any]:
    """A width's optimum, and all rates whose loss by its parabola is nearly as low."""
    with np.errstate(invalid="ignore"):
        reach = np.sqrt(2 * NEARLY * curve.loss.value / curve.curvature.value)
        near = curve.learning_rate.value * np.exp([-reach, reach])
    return {
        "width": curve.width,
        "optimum": _estimate(curve.learning_rate),
        "near_optimal": near.tolist(),
        "loss": curve.loss.value,
        "learning_rates": len(curve.learning_rates),
        "status": curve.outcome,
    }


def _estimate(one: Any) -> dict[str, float]:
    return {"value": one.value, "low": one.low, "high": one.high}


def _of_two_rates(
    files: Sequence[Path], table: pd.DataFrame, columns: list[str], notes: list[str]
) -> dict[str, Any]:
    """Optima of both rates and of their ratio, for each group."""
    groups = []
    for name, runs in named_groups(table, columns):
        sweep = _sweep(files[0], runs, notes)
        try:
            answer = horizon_answer(sweep, 0)
        except ValueError as error:
            raise InputError("FILE", str(files[0]), f"has no grid of both rates: {error}") from None
        groups.append({"group": name, "label": _label(name, columns), **answer})
    notes = list(dict.fromkeys(notes))
    return {"read": what_was_read(table, files), "notes": notes, "groups": groups}


def _geometric(rates: Floats, name: str, notes: list[str]) -> Floats:
    """Rates with one common factor in place of ones that nearly have it, as 1, 3, 10 do."""
    positive = np.unique(rates[rates > 0])
    if len(positive) < 3:
        return rates
    logs = np.log(positive)
    even = np.linspace(logs[0], logs[-1], len(logs))
    off = np.abs(logs - even).max() / (even[1] - even[0])
    if off > MOST_UNEVEN:
        return rates
    if off > NOTED:
        notes.append(f"{name}: taken as geometric, from which it is {off:.1%} of a step off")
    nearest = even[np.argmin(np.abs(np.log(np.where(rates > 0, rates, 1))[:, None] - even), axis=1)]
    return np.where(rates > 0, np.exp(nearest), rates)


def _sweep(file: Path, runs: pd.DataFrame, notes: list[str]) -> xr.Dataset:
    """The runs on their grid of widths, both rates and seeds, as a sweep with one horizon.

    Without a column initial_loss the largest loss of a width's seed stands for it.
    """
    if np.any(runs.width % 1):
        raise InputError("FILE", str(file), "must have whole numbers as widths")
    run = ["width", "embedding_lr", "hidden_lr", "seed"]
    even = {name: _geometric(runs[name].to_numpy(), name, notes) for name in run[1:3]}
    rows = runs.assign(width=runs.width.astype(int), **even).set_index(run)
    loss: xr.DataArray = rows.loss.to_xarray()
    if "initial_loss" in rows:
        start = rows.initial_loss.groupby(level=["width", "seed"]).mean()
    else:
        start = rows.loss.groupby(level=["width", "seed"]).max()
        notes.append(
            "no column initial_loss: the largest loss of each width and seed stands for it"
        )
    sizes = {"vocab_size": [0], "horizon": [0]}
    sweep = xr.Dataset(
        {
            "loss": loss.expand_dims(sizes),
            "initial_loss": start.to_xarray().expand_dims({"vocab_size": [0]}),
            "embedding_lr_factor": ("width", np.ones(loss.sizes["width"])),
            "hidden_lr_factor": ("width", np.ones(loss.sizes["width"])),
        }
    )
    try:
        cells = surfaces(sweep, 0)
    except ValueError as error:
        raise InputError("FILE", str(file), f"has no grid of both rates: {error}") from None
    if not cells or not all(one.tuned_rates for one in cells.values()):
        needed = "must hold losses at three or more positive learning rates of a layer"
        raise InputError("FILE", str(file), needed)
    return sweep
