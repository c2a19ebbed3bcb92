"""Tables of runs: width, learning_rate, seed, loss, and columns that name groups."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dynsim import InputError
from dynsim.statistics._equal import merged, merged_across, sorted_labels

from ._formats import NETCDF, raw_table, suffix_of
from ._groups import (
    MOST_GROUPS,
    PARABOLA_RATES,
    RUN,
    check_columns_named,
    comparable,
    group_columns,
    other_columns,
    varies,
)
from ._netcdf import HOLDS_TWO, Rate, netcdf_table, one_rate
from ._roles import TWO_RATES, checked_cells, chosen_rows, in_roles, last_part
from .options import DEFAULTS, TableOptions

# What parsers of every kind raise.
UNREADABLE = (OSError, ValueError, TypeError, OverflowError, RecursionError, csv.Error)
STEPS = {"epoch", "step", "steps", "iteration", "iter", "global_step", "_step", "trainer_step"}


def read_runs(
    files: Sequence[Path],
    rate: Rate | None,
    group_by: Sequence[str],
    within: Sequence[str] = (),
    options: TableOptions = DEFAULTS,
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """All runs of the files, the columns that tell groups apart, and notes for the reader.

    Columns of `within` tell groups apart where they vary, besides those of `group_by`.

    Raises `InputError` with the file and the column for what cannot be used.
    """
    tables, dimensions, notes = _read_all(files, rate, options)
    tables = [_with_one_rate(one, rate, options, notes) for one in tables]
    table = _with_equal_runs(comparable(pd.concat(tables, ignore_index=True)), notes)
    groups = _groups(table, tables, group_by, within, options, dimensions, notes)
    _check_columns(tables, groups)
    table = _with_rounded_rates(table, groups, notes)
    _note_steps(groups, group_by, notes)
    if options.last in table:
        table = _last_rows(table, [*groups, *RUN], options.last, notes)
    return _without_duplicates(table, groups, notes), groups, notes


def read_both_rates(
    files: Sequence[Path], group_by: Sequence[str], options: TableOptions = DEFAULTS
) -> tuple[pd.DataFrame, list[str], list[str]] | None:
    """The same of tables with the columns embedding_lr and hidden_lr, both kept; None for others.

    The last column is the hidden one under its name of a run, `learning_rate`.
    """
    tables, _, notes = _read_all(files, None, options)
    if not all(set(TWO_RATES) <= set(one) for one in tables):
        return None
    table = pd.concat(tables, ignore_index=True)
    table = _with_equal_runs(comparable(table.assign(learning_rate=table.hidden_lr)), notes)
    table = table.assign(**{name: merged(table[name]) for name in TWO_RATES})
    check_columns_named(table, {"group_by": group_by, "ignore": options.ignore})
    steps = ["embedding_lr", *([] if options.last is None else [options.last])]
    unused = [*options.ignore, "hidden_lr"]
    groups = list(group_by) or group_columns(table, steps, unused, (), notes)
    for name in TWO_RATES:
        table = _with_rounded_rates(table, groups, notes, name)
    run = [*groups, *TWO_RATES, "width", "seed"]
    table = _last_rows(table, run, options.last, notes)
    again = table.duplicated(run).to_numpy()
    if np.any(again):
        first = table.loc[again].iloc[0]
        cell = ", ".join(f"{name} {first[name]}" for name in run)
        raise InputError("FILE", first.file, f"holds a run more than once ({cell})")
    return table, groups, notes


def _read_all(
    files: Sequence[Path], rate: Rate | None, options: TableOptions
) -> tuple[list[pd.DataFrame], set[str], list[str]]:
    """The table of each file, columns that are dimensions of a netCDF file, and notes."""
    if not files:
        raise InputError("FILE", None, "give one or more tables of runs")
    notes: list[str] = []
    tables, dimensions = [], set[str]()
    for file in files:
        one = _read(file, rate, options, notes)
        if suffix_of(file) in NETCDF:
            dimensions |= set(other_columns(one))
        tables.append(one.assign(file=_label(file, files)))
    return tables, dimensions, notes


def named_groups(
    table: pd.DataFrame, columns: Sequence[str]
) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Each group's value of every column and its runs; without columns one group of all runs."""
    if not columns:
        return [({}, table)]
    parts: Any = table.groupby(list(columns), dropna=False)
    return [(dict(zip(columns, key, strict=True)), runs) for key, runs in parts]


def what_was_read(table: pd.DataFrame, files: Sequence[Path]) -> str:
    """How many runs, widths, learning rates and seeds there are, in a line."""
    widths = np.unique(table.width)
    shown = ", ".join(f"{width:g}" for width in widths[:8]) + (", ..." if len(widths) > 8 else "")
    rates = np.unique(table.learning_rate)
    lost = int((~np.isfinite(table.loss)).sum())
    return (
        f"read {_count(len(table), 'run')} from {_count(len(files), 'file')}: "
        f"{_count(len(widths), 'width')} ({shown}), {_count(len(rates), 'learning rate')} "
        f"({rates[0]:.3g} to {rates[-1]:.3g}), {_count(table.seed.nunique(), 'seed')}, "
        f"{lost} diverged"
    )


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _label(file: Path, files: Sequence[Path]) -> str:
    """The name of a file, or its path where another has the same name; as printable text."""
    name = str(file) if sum(other.name == file.name for other in files) > 1 else file.name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read(file: Path, rate: Rate | None, options: TableOptions, notes: list[str]) -> pd.DataFrame:
    suffix = suffix_of(file)
    try:
        if suffix in NETCDF:
            if not file.exists():  # whatever is needed to read it
                raise InputError("FILE", str(file), "there is no such file")
            table = chosen_rows(file, netcdf_table(file, rate, notes), options, notes)
        else:
            table = raw_table(file, options.encoding, notes)
            table = chosen_rows(file, table, options, notes)
            table = in_roles(file, table, options, notes)
            if rate is not None and not set(TWO_RATES) <= set(table):
                raise InputError("rate", rate, f"{HOLDS_TWO}; {file.name} has one learning_rate")
    except ImportError:
        message = "needs pyarrow to be read: pip install 'dynsim[parquet]'"
        raise InputError("FILE", str(file), message) from None
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("FILE", str(file), "there is no such file") from None
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged"])[0]
        raise InputError("FILE", str(file), f"cannot be read ({reason})") from None
    if options.last is not None and options.last not in table:
        others = ", ".join(map(str, other_columns(table))) or "none"
        raise InputError("last", options.last, f"must be a column of {file}: {others}")
    return checked_cells(file, table, options, notes)


def _with_one_rate(
    table: pd.DataFrame, rate: Rate | None, options: TableOptions, notes: list[str]
) -> pd.DataFrame:
    """A table of two learning rates with the one that is judged."""
    if "learning_rate" in table:
        return table
    file = str(table.file.iloc[0])
    seen = comparable(table.assign(learning_rate=table.hidden_lr))
    steps = ["embedding_lr", *([] if options.last is None else [options.last])]
    groups = group_columns(seen, steps, [*options.ignore, "hidden_lr"], (), [])
    table = table.assign(**{name: merged(table[name]) for name in (*TWO_RATES, "width")})
    table = _last_rows(table, [*groups, *TWO_RATES, "width", "seed"], options.last, notes)
    return one_rate(file, table, rate, notes, groups)


def _with_equal_runs(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """`table` with equal numbers and seeds where they differ by rounding or kind alone."""
    for name, what in (("width", "widths"), ("learning_rate", "learning rates")):
        values = merged(table[name])
        before, after = len(np.unique(table[name])), len(np.unique(values))
        if before > after:
            notes.append(f"{before} {what} are {after}: they differ by rounding alone")
        table = table.assign(**{name: values})
    seeds = np.asarray(pd.to_numeric(table.seed, errors="coerce"), dtype=np.float64)
    labels, place = sorted_labels(table.seed.to_numpy() if np.any(np.isnan(seeds)) else seeds)
    return table.assign(seed=pd.Series(labels[place]).infer_objects().to_numpy())


def _with_rounded_rates(
    table: pd.DataFrame, groups: Sequence[str], notes: list[str], name: str = "learning_rate"
) -> pd.DataFrame:
    """`table` with one rate for those of several seeds that were logged with few digits."""
    run = table.groupby([*groups, "width", "seed"], dropna=False).ngroup()
    rates = merged_across(table[name], run)
    before, after = len(np.unique(table[name])), len(np.unique(rates))
    if after < before:
        off = float(np.max(np.abs(rates - table[name]) / np.where(rates > 0, rates, 1)))
        notes.append(
            f"{before} learning rates are taken as {after}: they differ by up to {off:.2g}, as "
            "numbers of few digits do, and no run has two of those that are near"
        )
    return table.assign(**{name: rates})


def _note_steps(groups: Sequence[str], group_by: Sequence[str], notes: list[str]) -> None:
    """Says of a group by steps of training how to take the last."""
    for name in groups:
        if last_part(name) in STEPS and name not in group_by:
            notes.append(f"a group for each {name}; `last` {name} takes the last row of each run")


def _last_rows(
    table: pd.DataFrame, run: Sequence[str], last: str | None, notes: list[str]
) -> pd.DataFrame:
    """Of each run, told by its columns, the row where `last` is largest.

    A run that ended sooner than others of its width counts as diverged: nobody knows what it would
    have reached, and without it the others of its learning rate would be a choice.
    """
    if last is None:
        return table
    step = pd.to_numeric(table[last], errors="coerce")
    if step.isna().any():
        bad = str(table[last][step.isna()].iloc[0])
        raise InputError("last", last, f"must be a column of numbers, not {bad!r}")
    rows = table.assign(**{last: step}).sort_values(last, kind="stable")
    kept = rows.drop_duplicates(list(run), keep="last").sort_index()
    notes.append(f"the row of the largest {last} of {_count(len(kept), 'run')} taken")
    size = [name for name in run if name not in (*RUN[1:], *TWO_RATES)]
    whole = kept.groupby(size, dropna=False)[last].transform("max")
    short = (kept[last] < whole).to_numpy() & np.isfinite(kept.loss.to_numpy())
    if np.any(short):
        notes.append(
            f"{_count(int(short.sum()), 'run')} ended before the largest {last} of the same width: "
            "taken as diverged"
        )
    return kept.assign(loss=kept.loss.where(~short)).drop(columns=last)


def _groups(
    table: pd.DataFrame,
    tables: Sequence[pd.DataFrame],
    group_by: Sequence[str],
    within: Sequence[str],
    options: TableOptions,
    dimensions: set[str],
    notes: list[str],
) -> list[str]:
    """Columns that tell groups apart."""
    named = {"group_by": group_by, "within": within, "ignore": options.ignore}
    check_columns_named(table, named)
    sets = [name for name in within if varies(table, name)]
    if group_by:
        return list(dict.fromkeys([*group_by, *sets]))
    steps = [options.last] if options.last is not None and options.last in table else []
    by_file = len(tables) > 1 and "file" not in options.ignore
    run = table if by_file else table.assign(file="")
    varied = group_columns(run, steps, options.ignore, dimensions, notes)
    if by_file and not any(_distinguishes(name, tables) for name in varied):
        widths = [set(one.width) for one in tables]
        if sum(map(len, widths)) == len(set.union(*widths)):
            notes.append("the files hold different widths: taken as parts of one sweep")
        else:
            varied.append("file")
    count = table.groupby(varied, dropna=False).ngroups if varied else 1
    if varied and count > min(MOST_GROUPS, len(table) / PARABOLA_RATES):
        counts = ", ".join(f"{name} {table[name].nunique(dropna=False)}" for name in varied)
        message = (
            f"must be given: the other columns make {count} groups (values: {counts}); `last` "
            "takes the last row of each run, `ignore` leaves columns out"
        )
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
            if name not in (*run, "loss", "file") and varies(table, name)
        ]
        hint = f"; `group_by` leaves out {', '.join(ignored)}" if ignored else ""
        if not ignored and len(np.unique(table.seed)) == 1:
            hint = "; a column of seeds tells them apart (`seed_column` names it)"
        raise InputError(
            "FILE",
            first.file,
            f"{int(clash.sum())} runs share their {', '.join(run)} with another loss "
            f"(first: {cell}){hint}",
        )
    return table
