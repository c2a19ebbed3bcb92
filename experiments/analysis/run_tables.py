"""Sweeps as tables of runs: width, learning_rate, seed, loss, and columns that name groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from dynsim import InputError
from experiments.results import load
from experiments.sweeps.dataset import judged_loss

RUN = ["width", "learning_rate", "seed"]
READ = {".csv", ".parquet", ".nc"}
MOST_GROUPS = 100
PARABOLA_RATES = 3  # learning rates that a parabola needs
TWO_RATES = "is for netCDF sweeps that hold two rates"
FLAGS = {"true": 1, "yes": 1, "1": 1, "1.0": 1, "false": 0, "no": 0, "0": 0, "0.0": 0, "": 0}

Rate = Literal["hidden", "embedding", "both"]


def read_runs(
    files: Sequence[Path],
    rate: Rate | None,
    group_by: Sequence[str],
    within: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """All runs of the files, the columns that tell groups apart, and notes for the reader.

    Columns of `within` tell groups apart where they vary, besides those of `group_by`.

    Raises `InputError` with the file and the column for what cannot be used.
    """
    if not files:
        raise InputError("FILE", None, "give one or more tables of runs")
    notes: list[str] = []
    tables = [_read(file, rate, notes).assign(file=_label(file, files)) for file in files]
    table = pd.concat(tables, ignore_index=True)
    groups = _groups(table, tables, group_by, within, notes)
    _check_columns(tables, groups)
    return _without_duplicates(table, groups, notes), groups, notes


def named_groups(
    table: pd.DataFrame, columns: Sequence[str]
) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Each group's value of every column and its runs; without columns one group of all runs."""
    if not columns:
        return [({}, table)]
    parts: Any = table.groupby(list(columns), dropna=False)
    return [(dict(zip(columns, key, strict=True)), runs) for key, runs in parts]


def _label(file: Path, files: Sequence[Path]) -> str:
    return str(file) if sum(other.name == file.name for other in files) > 1 else file.name


def _read(file: Path, rate: Rate | None, notes: list[str]) -> pd.DataFrame:
    if file.suffix not in READ:
        raise InputError("FILE", str(file), "must end in " + ", ".join(sorted(READ)))
    try:
        if not file.exists():  # whatever is needed to read it
            raise InputError("FILE", str(file), "there is no such file")
        if file.suffix == ".nc":
            table = _netcdf_table(file, rate, notes)
        else:
            if rate is not None:
                raise InputError("rate", rate, TWO_RATES)
            table = pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
    except pd.errors.EmptyDataError:
        raise InputError("FILE", str(file), "is empty") from None
    except ImportError:
        message = "needs pyarrow to be read: pip install 'dynsim[parquet]'"
        raise InputError("FILE", str(file), message) from None
    except InputError:
        raise
    except (OSError, ValueError) as error:  # parsers of every kind raise subclasses of these
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError("FILE", str(file), f"cannot be read ({reason})") from None
    return _checked(file, table, notes)


def _checked(file: Path, table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """`table` with numbers where numbers belong; diverged runs have a NaN loss."""
    missing = [name for name in ("width", "learning_rate", "loss") if name not in table]
    if missing:
        present = ", ".join(map(str, table.columns)) or "none"
        lacks = f"has no column {', '.join(missing)} (its columns: {present})"
        raise InputError("FILE", str(file), lacks)
    if table.empty:
        raise InputError("FILE", str(file), "holds no runs")
    if "seed" not in table:
        notes.append(f"{file.name}: no column seed, all runs count as one seed")
        table = table.assign(seed=0)
    numbers = {}
    for name in ("width", "learning_rate", "loss"):
        numbers[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
        text = numbers[name].isna() & table[name].notna()
        if text.any():
            raise _bad_cell(file, table, name, text, "is not a number")
    table = table.assign(**numbers)
    if "diverged" in table:
        flags = table.diverged.astype(object).where(table.diverged.notna(), "").astype(str)
        flags = flags.str.strip().str.lower().map(FLAGS)
        if flags.isna().any():
            reason = "must be true or false, yes or no, 1 or 0, or empty"
            raise _bad_cell(file, table, "diverged", flags.isna(), reason)
        table.loc[flags == 1, "loss"] = np.nan
        table = table.drop(columns="diverged")
    for name in ("width", "learning_rate"):
        bad = ~(np.isfinite(table[name]) & (table[name] > 0))
        if bad.any():
            raise _bad_cell(file, table, name, bad, "must be a positive number")
    low, unnamed = (table.loss <= 0).to_numpy(), table.seed.isna().to_numpy()
    if np.any(low):
        reason = "must be positive: errors are relative to it"
        raise _bad_cell(file, table, "loss", low, reason)
    if np.any(unnamed):
        raise _bad_cell(file, table, "seed", unnamed, "is missing")
    return table


def _bad_cell(
    file: Path, table: pd.DataFrame, column: str, bad: ArrayLike, reason: str
) -> InputError:
    row = int(np.argmax(bad))
    where = f"{file}, column {column}, row {row + 1}"
    return InputError(where, table[column].iloc[row], reason)


def _netcdf_table(file: Path, rate: Rate | None, notes: list[str]) -> pd.DataFrame:
    """Runs of a netCDF file: of a sweep over both layers' rates, one of them chosen as
    `learning_rate`, or of losses over `learning_rate` itself."""
    sweep = load(file)
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
    if chosen and rate is not None:
        raise InputError("rate", rate, f"{TWO_RATES}; {file.name} has one learning_rate")
    sweep = sweep.assign(loss=judged_loss(sweep))
    names = ["loss", *(["diverged"] if "diverged" in sweep else [])]
    table = sweep[names].to_dataframe().reset_index()
    table = table.loc[:, [*_group_names(sweep.loss, needed), *needed, *names]]
    if "diverged" in table:  # what neither has a loss nor diverged was not run
        ran = table.loss.notna() | (table.pop("diverged") == 1)
        table = table.loc[ran.to_numpy()]
    elif chosen:
        table = table.dropna(subset="loss")
    return table if chosen else _one_rate(file, table, rate, notes)


def _group_names(loss: xr.DataArray, run: Sequence[str]) -> list[str]:
    """Further dimensions and coordinates of the loss, but for those that describe runs: they depend
    on what tells runs of a group apart."""
    coordinates = [
        str(name)
        for name, values in loss.coords.items()
        if name not in loss.dims and not set(values.dims) & set(run)
    ]
    return [str(name) for name in (*loss.dims, *coordinates) if name not in run]


def _one_rate(file: Path, table: pd.DataFrame, rate: Rate | None, notes: list[str]) -> pd.DataFrame:
    """`table` with `learning_rate` in place of the two rates of a sweep."""
    for name in ("hidden", "embedding"):
        frozen = table[f"{name}_lr"].to_numpy() == 0
        if np.any(frozen) and not np.all(frozen):
            table = table.loc[~frozen]
            notes.append(f"{file.name}: runs with {name} learning rate 0 left out")
    varied = [name for name in ("hidden", "embedding") if len(set(table[f"{name}_lr"])) > 1]
    axis = rate or (varied or ["hidden"])[0]
    if axis == "both":
        ratio = (table.embedding_lr / table.hidden_lr).map("{:.6g}".format)
        table = table.assign(embedding_to_hidden=ratio.astype(float))
        rates = table.groupby("embedding_to_hidden").hidden_lr.transform("nunique").to_numpy()
        if np.all(rates < PARABOLA_RATES):
            raise InputError("rate", "both", f"{file} has no diagonal of 3 learning rates")
        if np.any(rates < PARABOLA_RATES):
            count = table.loc[rates < PARABOLA_RATES, "embedding_to_hidden"].nunique()
            diagonals = "1 diagonal" if count == 1 else f"{count} diagonals"
            notes.append(f"{file.name}: {diagonals} with less than 3 rates left out")
        table = table.loc[rates >= PARABOLA_RATES]
        notes.append(f"{file.name}: both rates grow together, learning_rate is the hidden one")
        axis = "hidden"
    else:
        other = "embedding" if axis == "hidden" else "hidden"
        if other in varied:
            table = _at_best(table, f"{other}_lr")
            notes.append(
                f"{file.name}: learning_rate is the {axis} one; the {other} one is fixed, width by "
                "width, where the loss is lowest"
            )
        else:
            notes.append(f"{file.name}: learning_rate is the {axis} one")
    return table.rename(columns={f"{axis}_lr": "learning_rate"}).drop(
        columns=["hidden_lr", "embedding_lr"], errors="ignore"
    )


def _at_best(table: pd.DataFrame, fixed: str) -> pd.DataFrame:
    """Runs at the value of `fixed` that the best cell of each size has (mean over seeds)."""
    size = [name for name in ("width", "vocab_size", "horizon") if name in table]
    finite = table.assign(loss=table.loss.where(np.isfinite(table.loss)))
    means = finite.groupby([*size, "hidden_lr", "embedding_lr"], as_index=False).loss.agg(
        lambda losses: losses.mean(skipna=False)
    )
    best = means.dropna(subset="loss").sort_values("loss").drop_duplicates(size)
    return table.merge(best[[*size, fixed]], on=[*size, fixed])


def _groups(
    table: pd.DataFrame,
    tables: Sequence[pd.DataFrame],
    group_by: Sequence[str],
    within: Sequence[str],
    notes: list[str],
) -> list[str]:
    """Columns that tell groups apart."""
    others = [name for name in table.columns if name not in (*RUN, "loss")]
    for option, names in (("group_by", group_by), ("within", within)):
        unknown = [name for name in names if name not in others]
        if unknown:
            raise InputError(option, unknown[0], "must be one of " + ", ".join(others))
    sets = [name for name in within if _varies(table, name)]
    if group_by:
        return list(dict.fromkeys([*group_by, *sets]))
    varied = [name for name in others if name != "file" and _varies(table, name)]
    if len(tables) > 1 and not any(_distinguishes(name, tables) for name in varied):
        widths = [set(one.width) for one in tables]
        if sum(map(len, widths)) == len(set.union(*widths)):
            notes.append("the files hold different widths: taken as parts of one sweep")
        else:
            varied.append("file")
    count = table.groupby(varied, dropna=False).ngroups if varied else 1
    if count > min(MOST_GROUPS, len(table) / PARABOLA_RATES):
        counts = ", ".join(f"{name} {table[name].nunique(dropna=False)}" for name in varied)
        message = f"must be given: the other columns make {count} groups (values: {counts})"
        raise InputError("group_by", None, message)
    return list(dict.fromkeys([*varied, *sets]))


def _check_columns(tables: Sequence[pd.DataFrame], groups: Sequence[str]) -> None:
    """Raises `InputError` for a file that lacks a column of the groups."""
    for name in groups:
        for one in tables:
            if name not in one:
                reason = (
                    f"has no column {name}, by which the runs of other files are grouped; "
                    "`group_by` with other columns (file, for one) leaves it out"
                )
                raise InputError("FILE", one.file.iloc[0], reason)


def _varies(table: pd.DataFrame, name: str) -> bool:
    return len(table[name].unique()) > 1


def _distinguishes(name: str, tables: Sequence[pd.DataFrame]) -> bool:
    """Whether no two files share a value of the column."""
    values = [set(one[name]) if name in one else {None} for one in tables]
    return sum(map(len, values)) == len(set.union(*values))


def _without_duplicates(
    table: pd.DataFrame, groups: Sequence[str], notes: list[str]
) -> pd.DataFrame:
    """`table` without runs that occur again with the same loss."""
    run = [*groups, *RUN]
    again = table.duplicated([*run, "loss"]).to_numpy()
    if np.any(again):
        notes.append(f"{int(again.sum())} runs occur again with the same loss and count once")
    table = table.loc[~again]
    clash = table.duplicated(run, keep=False).to_numpy()
    if np.any(clash):
        first = table.loc[clash].iloc[0]
        cell = ", ".join(f"{name} {first[name]}" for name in run)
        ignored = [
            name
            for name in table.columns
            if name not in (*run, "loss", "file") and _varies(table, name)
        ]
        hint = f"; `group_by` leaves out {', '.join(ignored)}" if ignored else ""
        raise InputError(
            "FILE",
            first.file,
            f"{int(clash.sum())} runs share their {', '.join(run)} with another loss "
            f"(first: {cell}){hint}",
        )
    return table
