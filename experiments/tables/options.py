"""How a user says what the columns of a table of runs are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

TABLES = {".csv", ".tsv", ".tab", ".txt", ".dat", ".json", ".jsonl", ".ndjson", ".parquet", ".pq"}
PACKED = {".gz", ".zst", ".bz2", ".xz"}
LogBase = Literal["2", "10", "e"]


@dataclass(frozen=True)
class TableOptions:
    """Which columns hold what, and which rows count."""

    width_column: str | None = None
    """column of the width (default: width)"""
    learning_rate_column: str | None = None
    """column of the learning rate (default: learning_rate)"""
    loss_column: str | None = None
    """column of the loss (default: loss)"""
    seed_column: str | None = None
    """column of the seed (default: seed; without one all runs count as one seed)"""
    log_rates: LogBase | None = None
    """the learning rates of the table are logarithms to this base"""
    where: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN=VALUE...")] = ()
    """take only rows that fulfil all of these, such as bs=128, 'depth<=8', status!=running"""
    last: str | None = None
    """of each run take the row where this column is largest, such as epoch"""
    ignore: tuple[str, ...] = ()
    """columns that make no groups"""
    decimal: Literal[".", ","] | None = None
    """decimal mark of numbers that are texts (default: told from the table)"""
    encoding: str | None = None
    """encoding of a text file (default: UTF-8, or UTF-16 where that can be told)"""

    def column(self, role: str) -> str | None:
        """The column that an option names for a role such as `width`."""
        return getattr(self, f"{role}_column")


DEFAULTS = TableOptions()
