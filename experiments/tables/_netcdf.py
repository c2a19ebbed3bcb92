"""Runs of our own netCDF files: sweeps over both layers' rates, and losses over one rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from dynsim import InputError
from dynsim.statistics._equal import merged
from experiments.results import load, unreadable
from experiments.sweeps.dataset import contradiction, judged_loss

from ._groups import PARABOLA_RATES, RUN

Rate = Literal["hidden", "embedding", "both"]
HOLDS_TWO = "is for sweeps that hold two rates"


def netcdf_table(file: Path, rate: Rate | None, notes: list[str]) -> pd.DataFrame:
    """Runs of a netCDF file: of a sweep over both layers' rates, one of them chosen as
    `learning_rate`, or of losses over `learning_rate` itself."""
    try:
        sweep = load(file)
    except OSError as error:
        raise InputError("FILE", str(file), unreadable(error)) from None
    if "loss" not in sweep:
        raise InputError("FILE", str(file), "is not a sweep: it has no loss")
    chosen = "learning_rate" in sweep.coords
    needed = RUN if chosen else ["width", "embedding_lr", "hidden_lr", "seed"]
    missing = [name for name in needed if name not in sweep.loss.coords]
    if missing:
        raise InputError("FILE", str(file), f"is not a sweep: it has no {', '.join(missing)}")
    for name in needed:
        if sweep[name].ndim and name not in sweep.loss.dims:
            raise InputError("FILE", str(file), f"is not a sweep: {name} is no dimension of loss")
    if wrong := contradiction(sweep):
        raise InputError("FILE", str(file), f"is damaged: {wrong}")
    if chosen and rate is not None:
        raise InputError("rate", rate, f"{HOLDS_TWO}; {file.name} has one learning_rate")
    sweep = sweep.assign(loss=judged_loss(sweep))
    names = ["loss", *(["diverged"] if "diverged" in sweep else [])]
    table = sweep[names].to_dataframe().reset_index()
    table = table.loc[:, [*_group_names(sweep.loss, needed), *needed, *names]]
    if "diverged" in table:  # what neither has a loss nor diverged was not run
        ran = table.loss.notna() | (table.pop("diverged") == 1)
        table = table.loc[ran.to_numpy()]
    elif chosen:
        table = table.dropna(subset="loss")
    return table if chosen else one_rate(file.name, table, rate, notes)


def _group_names(loss: xr.DataArray, run: Sequence[str]) -> list[str]:
    """Further dimensions and coordinates of the loss, but for those that describe runs: they depend
    on what tells runs of a group apart."""
    coordinates = [
        str(name)
        for name, values in loss.coords.items()
        if name not in loss.dims and not set(values.dims) & set(run)
    ]
    return [str(name) for name in (*loss.dims, *coordinates) if name not in run]


def one_rate(
    file: str,
    table: pd.DataFrame,
    rate: Rate | None,
    notes: list[str],
    groups: Sequence[str] = ("vocab_size", "horizon"),
) -> pd.DataFrame:
    """`table` with `learning_rate` in place of the two rates of a sweep.

    The rate that is not judged is fixed width by width, in each of the groups.
    """
    for name in ("hidden", "embedding"):
        frozen = table[f"{name}_lr"].to_numpy() == 0
        if np.any(frozen) and not np.all(frozen):
            table = table.loc[~frozen]
            notes.append(f"{file}: runs with {name} learning rate 0 left out")
    varied = [name for name in ("hidden", "embedding") if len(set(table[f"{name}_lr"])) > 1]
    axis = rate or (varied or ["hidden"])[0]
    if axis == "both":
        ratio = merged((table.embedding_lr / table.hidden_lr).map("{:.6g}".format).astype(float))
        table = table.assign(embedding_to_hidden=ratio)
        rates = table.groupby("embedding_to_hidden").hidden_lr.transform("nunique").to_numpy()
        if np.all(rates < PARABOLA_RATES):
            raise InputError("rate", "both", f"{file} has no diagonal of 3 learning rates")
        if np.any(rates < PARABOLA_RATES):
            count = table.loc[rates < PARABOLA_RATES, "embedding_to_hidden"].nunique()
            diagonals = "1 diagonal" if count == 1 else f"{count} diagonals"
            notes.append(f"{file}: {diagonals} with less than 3 rates left out")
        table = table.loc[rates >= PARABOLA_RATES]
        notes.append(f"{file}: both rates grow together, learning_rate is the hidden one")
        axis = "hidden"
    else:
        other = "embedding" if axis == "hidden" else "hidden"
        if other in varied:
            table = _at_best(table, f"{other}_lr", groups)
            notes.append(
                f"{file}: learning_rate is the {axis} one; the {other} one is fixed, width by "
                "width, where the loss is lowest"
            )
        else:
            notes.append(f"{file}: learning_rate is the {axis} one")
    return table.rename(columns={f"{axis}_lr": "learning_rate"}).drop(
        columns=["hidden_lr", "embedding_lr"], errors="ignore"
    )


def _at_best(table: pd.DataFrame, fixed: str, groups: Sequence[str]) -> pd.DataFrame:
    """Runs at the value of `fixed` that the best cell of each size has (mean over seeds)."""
    size = [name for name in ("width", *groups) if name in table]
    finite = table.assign(loss=table.loss.where(np.isfinite(table.loss)))
    means = finite.groupby([*size, "hidden_lr", "embedding_lr"], as_index=False).loss.agg(
        lambda losses: losses.mean(skipna=False)
    )
    best = means.dropna(subset="loss").sort_values("loss").drop_duplicates(size)
    return table.merge(best[[*size, fixed]], on=[*size, fixed])
