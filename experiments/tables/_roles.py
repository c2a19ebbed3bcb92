"""Which column is the width, which the loss: by option, by name, and what their cells mean."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from dynsim import InputError
from dynsim.statistics._equal import EQUAL

from ._cells import (
    NOT_RUN,
    as_words,
    decimal_mark,
    is_missing,
    numbers,
    plain_numbers,
    say_diverged,
)
from .options import TableOptions

ROLES = ("width", "learning_rate", "loss", "seed")
TWO_RATES = ("embedding_lr", "hidden_lr")
LIKELY = {  # names that people give; they are proposed, never taken
    "width": "d_model hidden_size n_embd embed_dim hidden_dim d_hidden model_dim dim emb h d n",
    "learning_rate": "lr base_lr max_lr peak_lr learningrate eta step_size",
    "loss": "val_loss valid_loss eval_loss test_loss final_loss train_loss",
}
FLAGS = {"true": 1, "yes": 1, "1": 1, "1.0": 1, "false": 0, "no": 0, "0": 0, "0.0": 0, "": 0}
ENDINGS = {"state", "status", "run_status", "run_state", "outcome", "exit_status", "ended"}
UNFINISHED = {"running", "pending", "queued", "starting", "scheduled", "preempting"}
BASES = {"2": 2.0, "10": 10.0, "e": float(np.e)}
COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
CONDITION = re.compile(r"(?P<column>.*?)\s*(?P<sign>!=|<=|>=|==|=|<|>)\s*(?P<value>.*)", re.DOTALL)


def plain(name: str) -> str:
    """A name without capitals, blanks and hyphens."""
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def last_part(name: str) -> str:
    """A name without what trackers put before it: `params.width`, `config/width`."""
    return plain(re.split(r"[./]", name)[-1])


def in_roles(
    file: Path, table: pd.DataFrame, options: TableOptions, notes: list[str]
) -> pd.DataFrame:
    """The table with its columns renamed to the roles that they have, where they have one.

    Raises `InputError` for a role without a column, and for one whose column occurs twice.
    """
    found: dict[str, str] = {}
    for role in (*ROLES, *TWO_RATES, "diverged", "initial_loss", "vocab_size"):
        column = _column(file, table, role, options)
        if column is not None:
            found[role] = column
    given = {role: options.column(role) for role in ROLES}
    if given["learning_rate"] is None and all(role in found for role in TWO_RATES):
        found.pop("learning_rate", None)
    else:  # one learning rate: others are columns like any other
        found = {role: column for role, column in found.items() if role not in TWO_RATES}
    rates = TWO_RATES if TWO_RATES[0] in found else ("learning_rate",)
    missing = [role for role in ("width", *rates, "loss") if role not in found]
    if missing:
        raise InputError("FILE", str(file), _lacks(table, missing))
    twice = [role for role, column in found.items() if column in table.attrs.get("twice", ())]
    if twice:
        raise InputError("FILE", str(file), f"has the column {found[twice[0]]} twice")
    renamed = {column: role for role, column in found.items() if column != role}
    if renamed:
        told = ", ".join(f"{role} is {column}" for column, role in renamed.items())
        notes.append(f"{file.name}: {told}")
    replaced = [role for role in renamed.values() if role in table]
    return table.drop(columns=replaced).rename(columns=renamed)


def _column(file: Path, table: pd.DataFrame, role: str, options: TableOptions) -> str | None:
    """The column of a role: the one named by option, else of its name, alone or behind a prefix."""
    given = options.column(role) if role in ROLES else None
    if given is not None:
        if given not in table:
            allowed = f"must be a column of {file}: {', '.join(table.columns) or 'none'}"
            raise InputError(f"{role}_column", given, allowed)
        return given
    if role in table:
        return role
    for reading in (plain, last_part):
        same = [name for name in table.columns if reading(name) == role]
        if len(same) == 1:
            return same[0]
    if role == "seed":  # random_seed, and the like, if no other could be meant
        same = [name for name in table.columns if "seed" in last_part(name).split("_")]
        return same[0] if len(same) == 1 else None
    return None


def _lacks(table: pd.DataFrame, missing: Sequence[str]) -> str:
    present = ", ".join(map(str, table.columns)) or "none"
    hints = []
    for role in missing:
        if role not in ROLES:
            continue
        likely = [name for name in table.columns if last_part(name) in LIKELY[role].split()]
        such_as = f", such as {likely[0]}" if likely else ""
        hints.append(f"`{role}_column` names another{such_as}")
    return f"has no column {', '.join(missing)} (its columns: {present}); {'; '.join(hints)}"


def chosen_rows(
    file: Path, table: pd.DataFrame, options: TableOptions, notes: list[str]
) -> pd.DataFrame:
    """The rows that fulfil all conditions of `where`."""
    for condition in options.where:
        parts = CONDITION.fullmatch(condition.strip())
        if parts is None or not parts["column"]:
            raise InputError("where", condition, "must be COLUMN=VALUE (or !=, <, <=, >, >=)")
        name = parts["column"]
        if name not in table:
            allowed = f"must name a column of {file}: {', '.join(map(str, table.columns))}"
            raise InputError("where", condition, allowed)
        kept = _holds(table[name], parts["sign"], parts["value"].strip(), condition)
        if not kept.any():
            values = list(dict.fromkeys(map(str, table[name])))
            shown = ", ".join(values[:8]) + (", ..." if len(values) > 8 else "")
            raise InputError("where", condition, f"leaves no rows of {file} ({name}: {shown})")
        notes.append(f"{file.name}: {condition} keeps {kept.sum()} of {len(table)} rows")
        attrs = table.attrs
        table = table.loc[kept.to_numpy()]
        table.attrs = attrs
    return table


def _holds(cells: Any, sign: str, value: str, condition: str) -> pd.Series:
    """Where a condition holds: as numbers if its value is one, equal up to rounding, else texts."""
    compare = COMPARISONS[sign]
    wanted = pd.to_numeric(pd.Series([value]), errors="coerce").astype(float)[0]
    found = numbers(cells)
    if np.isfinite(wanted) and found.notna().any():
        near = np.isclose(found, wanted, rtol=EQUAL, atol=0)
        return compare(found.where(~near, wanted), wanted) & (found.notna() | (sign == "!="))
    if sign not in ("=", "==", "!="):
        raise InputError("where", condition, "must compare numbers")
    texts = cells.astype(object).where(cells.notna(), "").map(lambda cell: str(cell).strip())
    return compare(texts, value)


def checked_cells(
    file: Path, table: pd.DataFrame, options: TableOptions, notes: list[str]
) -> pd.DataFrame:
    """`table` with numbers where numbers belong; diverged runs have a NaN loss.

    Raises `InputError` with file, column and row for a cell that cannot be used.
    """
    if table.empty:
        raise InputError("FILE", str(file), "holds no runs")
    table = table.reset_index(drop=True)
    if "seed" not in table:
        notes.append(f"{file.name}: no column seed, all runs count as one seed")
        table = table.assign(seed=0)
    rates = [name for name in ("learning_rate", *TWO_RATES) if name in table]
    named = ["width", *rates, "loss"] + (["initial_loss"] if "initial_loss" in table else [])
    if options.decimal != ",":
        table = table.assign(**plain_numbers({name: table[name] for name in named}))
    decimal = _decimal(file, table[named], options)
    lost, table = _without_loss(file, table, decimal, notes)
    for name in named:
        values = numbers(table[name], decimal)
        text = (values.isna() & ~is_missing(table[name])).to_numpy()
        if name == "loss":
            text = text & ~lost
        if np.any(text):
            raise bad_cell(file, table, name, text, "is not a number")
        table = table.assign(**{name: values})
    table.loc[lost, "loss"] = np.nan
    if options.log_rates is not None:
        with np.errstate(over="ignore"):
            powers = {name: BASES[options.log_rates] ** table[name] for name in rates}
        table = table.assign(**powers)
    table = _by_flag(file, table)
    for name in ("width", *rates):
        low = 0 if name in TWO_RATES else np.nextafter(0, 1)
        bad = ~(np.isfinite(table[name]) & (table[name] >= low)).to_numpy()
        if np.any(bad):
            raise bad_cell(file, table, name, bad, _positive(file, table, name, bad))
    low, unnamed = (table.loss <= 0).to_numpy(), is_missing(table.seed).to_numpy()
    if np.any(low):
        reason = "must be positive: errors are relative to it"
        raise bad_cell(file, table, "loss", low, reason)
    if np.any(unnamed):
        raise bad_cell(file, table, "seed", unnamed, "is missing")
    return table


def _positive(file: Path, table: pd.DataFrame, name: str, bad: ArrayLike) -> str:
    if name == "learning_rate" and float(table[name].iloc[int(np.argmax(bad))]) == 0:
        return f"must be a positive number; `where` {name}>0 leaves such runs out"
    if name == "learning_rate" and np.any(table[name] < 0):
        return "must be a positive number; `log_rates` is for logarithms"
    return "must be a positive number"


def _decimal(file: Path, columns: Any, options: TableOptions) -> str:
    if options.decimal is not None:
        return options.decimal
    mark, open_cells = decimal_mark(columns[name] for name in columns)
    if open_cells is not None and open_cells.name != "width":
        where = f"{file}, column {open_cells.name}, row {int(open_cells.index[0]) + 1}"
        raise InputError(where, open_cells.iloc[0], "can be read in two ways: give `decimal`")
    return mark


def _without_loss(
    file: Path, table: pd.DataFrame, decimal: str, notes: list[str]
) -> tuple[np.ndarray, pd.DataFrame]:
    """Which runs diverged by a word in their loss or in a column that says how they ended.

    Runs that have no loss because they were not finished are left out.
    """
    is_text = table.loss.dtype.kind not in "biuf"
    loss = as_words(table.loss) if is_text else pd.Series("", index=table.index, dtype=object)
    values = numbers(table.loss, decimal)
    diverged = say_diverged(loss)
    without = ((diverged | is_missing(loss)) & is_text) | ~np.isfinite(
        values.fillna(0 if is_text else np.nan)
    )
    words = {"loss": loss}
    for name in table.columns:
        if (
            name not in ROLES
            and last_part(str(name)) in ENDINGS
            and table[name].dtype.kind in "OTU"
        ):
            words[str(name)] = as_words(table[name])
    lost = (diverged & ~loss.isin(("nan", "-nan"))).to_numpy()
    unfinished = np.zeros(len(table), dtype=bool)
    for name, cells in words.items():
        stopped = (cells.isin(NOT_RUN) & (without | (name == "loss"))).to_numpy()
        unfinished = unfinished | stopped
        if name != "loss":
            ended = say_diverged(cells).to_numpy() & ~lost
            if np.any(ended):
                notes.append(
                    f"{file.name}: {ended.sum()} runs whose {name} says so count as diverged"
                )
            lost = lost | ended
            midway = (cells.isin(UNFINISHED) & ~without).to_numpy()
            if np.any(midway):
                word = cells[midway].iloc[0]
                notes.append(
                    f"{file.name}: {midway.sum()} runs are {word} by their {name}; their losses "
                    "count as they stand"
                )
    if np.all(unfinished):
        raise InputError("FILE", str(file), "holds no run that was finished")
    if np.any(unfinished):
        notes.append(f"{file.name}: {unfinished.sum()} runs without a loss left out: not finished")
        table, lost = table.loc[~unfinished].reset_index(drop=True), lost[~unfinished]
    return lost, table


def _by_flag(file: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The column `diverged` taken into the loss."""
    if "diverged" not in table:
        return table
    flags = as_words(table.diverged).map(FLAGS)
    if flags.isna().any():
        reason = "must be true or false, yes or no, 1 or 0, or empty"
        raise bad_cell(file, table, "diverged", flags.isna(), reason)
    table.loc[(flags == 1).to_numpy(), "loss"] = np.nan
    return table.drop(columns="diverged")


def bad_cell(
    file: Path, table: pd.DataFrame, column: str, bad: ArrayLike, reason: str
) -> InputError:
    """The error of the first of the bad cells of a column."""
    row = int(np.argmax(bad))
    where = f"{file}, column {column}, row {row + 1}"
    return InputError(where, table[column].iloc[row], reason)
