"""Which columns tell groups of runs apart, and which only look as if they did.

A column makes groups if without it runs clash: the same width, learning rate and seed in rows that
differ. Of the columns that could be it, the fewest that end all clashes are taken, with
those that say the same. A column that is a function of the width, says how a run ended, or differs
from run to run is none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dynsim import InputError
from dynsim.statistics._equal import merged

from ._roles import ENDINGS, last_part

RUN = ["width", "learning_rate", "seed"]
MOST_GROUPS = 100
PARABOLA_RATES = 3  # learning rates that a parabola needs
MOST_JOINTLY = 4  # columns that are tried together
MOST_LISTED = 20  # columns in a note
BOOKKEEPING = frozenset(
    re.findall(
        r"\w+",
        """
        name run run_name run_id id runid experiment experiment_id experiment_name notes
        tags user created created_at updated updated_at timestamp time date start_time
        end_time runtime duration wall_time walltime elapsed hours seconds host hostname
        node machine gpu gpus gpu_type device devices cuda_device job job_id jobid
        slurm_job_id pid commit git_commit git_hash path dir log_dir logdir output_dir url
        artifact_uri lifecycle_stage sweep sweep_id index row
        """,
    )
)


def check_columns_named(table: pd.DataFrame, named: dict[str, Sequence[str]]) -> None:
    """Raises `InputError` for an option that names a column which is none, or none for groups."""
    others = other_columns(table)
    for option, names in named.items():
        unknown = [name for name in names if name not in others]
        if unknown:
            raise InputError(option, unknown[0], "must be one of " + ", ".join(others))


def other_columns(table: pd.DataFrame) -> list[str]:
    """Columns that have no role in a run."""
    return [name for name in table.columns if name not in (*RUN, "loss", "initial_loss")]


def comparable(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with columns of numbers as such, equal where they differ by rounding alone."""
    changed = {}
    for name in other_columns(table):
        cells = table[name]
        if cells.dtype.kind not in "biuf":
            texts = cells.astype(object).where(cells.notna() & (cells.astype(object) != ""), np.nan)
            values = pd.to_numeric(texts, errors="coerce")
            whole = bool((values.notna() | texts.isna()).all() and values.notna().any())
            cells = values if whole else texts
        if cells.dtype.kind == "f":
            cells = pd.Series(merged(cells.to_numpy()), index=cells.index)
        changed[str(name)] = cells
    return table.assign(**changed)


def group_columns(
    table: pd.DataFrame,
    steps: Sequence[str],
    ignored: Sequence[str],
    dimensions: Collection[str],
    notes: list[str],
) -> list[str]:
    """The columns that make groups of runs.

    `steps` are columns that number a run's rows, `dimensions` those of files whose every dimension
    makes groups.
    """
    notes_of: dict[str, list[str]] = {}
    candidates = []
    losses = table.loss.to_numpy()
    for name in other_columns(table):
        if name in (*ignored, *steps, "file") or not varies(table, name):
            continue
        reason = "" if name in dimensions else _no_group(table, name, losses)
        if reason:
            notes_of.setdefault(reason, []).append(name)
        else:
            candidates.append(name)
    run = [*RUN, *steps]
    told = {*_telling(table, run, candidates), *dimensions}
    chosen = [name for name in candidates if name in told]
    kept = [name for name in candidates if name in chosen or _follows(table, name, chosen)]
    for name in candidates:
        if name in kept:
            continue
        reason = _scattered(table, name, kept)
        if reason:
            notes_of.setdefault(reason, []).append(name)
        else:
            kept.append(name)
    for reason, names in notes_of.items():
        notes.append(f"not used as groups: {_listed(names)} ({reason})")
    return [name for name in candidates if name in kept]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def varies(table: pd.DataFrame, name: str) -> bool:
    """Whether a column has several values."""
    return len(table[name].unique()) > 1


def _no_group(table: pd.DataFrame, name: str, losses: np.ndarray) -> str:
    """Why a column by itself makes no groups, "" where it might."""
    if _follows(table, name, ["width"]):
        return "a function of the width"
    if last_part(name) in ENDINGS or _says_what_diverged(table[name], losses):
        return "says how a run ended"
    if last_part(name) in BOOKKEEPING and not _is_sweep(table, [name]):
        return "kept by a tracker"
    if "seed" in last_part(name) and _follows(table, name, ["seed"]):
        return "a function of the seed"
    if len(table[name].unique()) > len(table) / PARABOLA_RATES:
        return "differs from run to run"
    return ""


def _follows(table: pd.DataFrame, name: str, columns: Sequence[str]) -> bool:
    """Whether a column's value is a function of others'."""
    if not columns:
        return not varies(table, name)
    pairs = table[[*columns, name]].drop_duplicates()
    return len(pairs) == len(table[list(columns)].drop_duplicates())


def _says_what_diverged(cells: Any, losses: np.ndarray) -> bool:
    """Whether runs with a loss have one value of a column and those without have others."""
    finite = np.isfinite(losses)
    if cells.dtype.kind == "f" or finite.all() or not finite.any():
        return False
    known, lost = set(cells[finite]), set(cells[~finite])
    return len(known) == 1 and not known & lost


def _telling(table: pd.DataFrame, run: Sequence[str], candidates: Sequence[str]) -> list[str]:
    """The fewest columns, and of those that make the fewest groups, without which runs clash."""
    different = table.drop_duplicates([*run, "loss", *candidates])
    clashing = _clashes(different, run)
    if not len(clashing):
        return []
    places = len(clashing.drop_duplicates(list(run)))
    useful = [name for name in candidates if len(clashing.drop_duplicates([*run, name])) > places]
    for count in range(1, min(len(useful), MOST_JOINTLY) + 1):
        ending = [
            chosen
            for chosen in combinations(useful, count)
            if not len(_clashes(clashing, [*run, *chosen]))
        ]
        if ending:
            return list(min(ending, key=lambda chosen: len(table[[*chosen]].drop_duplicates())))
    return useful


def _clashes(table: pd.DataFrame, run: Sequence[str]) -> pd.DataFrame:
    """Rows that have the place of another."""
    return table.loc[table.duplicated(list(run), keep=False).to_numpy()]


def _scattered(table: pd.DataFrame, name: str, kept: Sequence[str]) -> str:
    """Why a column that no clash asks for makes no groups, "" where its groups are sweeps."""
    if not _is_sweep(table, [name]):
        return "tells no runs apart"
    for part in (["learning_rate"], ["seed"], ["width", "learning_rate"], ["width", "seed"]):
        if _follows(table, name, [*kept, *part]):
            return ""
    return "tells no runs apart"


def _is_sweep(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether every group has two widths, with three learning rates at one of them."""
    rates = table.groupby([*columns, "width"], dropna=False).learning_rate.nunique()
    groups = rates.groupby(level=list(range(len(columns))), dropna=False)
    return bool((groups.max() >= PARABOLA_RATES).all() and (groups.count() >= 2).all())
