"""From cells to numbers: thousands separators, decimal commas, and words for a lost run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

MISSING = {
    "",
    "-",
    "--",
    "na",
    "n/a",
    "#n/a",
    "nan",
    "none",
    "null",
    "nil",
    "<na>",
    "missing",
    "n.a",
}
DIVERGED = {
    *(
        "diverged",
        "diverge",
        "divergent",
        "divergence",
        "div",
        "nan",
        "-nan",
        "inf",
        "+inf",
        "-inf",
    ),
    *("infinity", "-infinity", "overflow", "exploded", "blew up", "blow-up", "unstable", "∞"),
}
LONGER = re.compile(  # a word with more behind it, such as the step, and errors of spreadsheets
    r"(diverged?|divergence|exploded|overflow(ed)?|nan|[+-]?inf)\b.*|#(num|div/0|value)"
)
NOT_RUN = {
    *("oom", "out of memory", "running", "pending", "queued", "starting", "scheduled"),
    *(
        "killed",
        "preempted",
        "preempting",
        "cancelled",
        "canceled",
        "timeout",
        "not run",
        "skipped",
    ),
}
SPACES = "\u00a0\u2009\u202f '_’"
POINT_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?")
COMMA_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
SPACE_THOUSANDS = re.compile(rf"[+-]?[1-9]\d{{0,2}}([{SPACES}]\d{{3}})+([.,]\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


def all_texts(cells: Any) -> bool:
    """Whether every cell is a text: none is missing, a number or a list."""
    return pd.api.types.infer_dtype(cells, skipna=False) == "string"


def as_words(cells: Any) -> pd.Series:
    """Every cell as a text in lower case, missing ones as an empty text."""
    if all_texts(cells):
        return _each(cells.astype(object), lambda cell: cell.strip().lower()).astype(object)
    texts = cells.astype(object).where(cells.notna(), "")
    return texts.map(lambda cell: str(cell).strip().lower()).astype(object)


def _each(words: pd.Series, function: Callable[[str], Any]) -> pd.Series:
    """The function of every text, called once for each that occurs: columns have few values."""
    places, different = pd.factorize(words)
    found = pd.Series([function(word) for word in different], dtype=None if len(words) else object)
    return pd.Series(found.to_numpy()[places], index=words.index, name=words.name)


def say_diverged(words: pd.Series) -> pd.Series:
    """Whether words of `as_words` say that a run diverged, a bare nan among them."""

    def says(word: str) -> bool:
        bare = word.rstrip("!.")
        return bare in DIVERGED or bool(LONGER.fullmatch(bare))

    return _each(words, says).astype(bool)


def plain_numbers(columns: dict[str, Any]) -> dict[str, pd.Series]:
    """Columns of finite numbers in plain notation as float64; none where one column is not.

    It is quick, and enough for most tables.
    """
    found = {}
    for name, cells in columns.items():
        values = cells
        if cells.dtype.kind not in "biuf":
            if not all_texts(cells):
                return {}
            values = pd.to_numeric(cells.astype(object), errors="coerce")
        found[name] = values.astype(float)
        if not np.all(np.isfinite(found[name])):
            return {}
    return found


def numbers(cells: Any, decimal: str = ".") -> Any:
    """Cells as float64; NaN where one is missing or no number (`is_missing` tells these apart)."""
    if cells.dtype.kind in "biuf":
        return cells.astype(float)
    words = as_words(cells)
    found = pd.to_numeric(words, errors="coerce").astype(float)
    if decimal == ",":  # what looks like a decimal point may part thousands
        found = found.mask(words.map(lambda word: bool(POINT_THOUSANDS.fullmatch(word))))
    left = (found.isna() & ~words.isin(MISSING)).to_numpy()
    values = found.to_numpy(copy=True)
    values[left] = [_number(word, decimal) for word in words[left]]
    return pd.Series(values, index=cells.index)


def is_missing(cells: Any) -> pd.Series:
    """Whether a cell is empty or a word for nothing."""
    if cells.dtype.kind in "biuf":
        return cells.isna()
    return _each(as_words(cells), lambda word: word.rstrip(".") in MISSING).astype(bool)


def _number(word: str, decimal: str) -> float:
    if SPACE_THOUSANDS.fullmatch(word):
        word = re.sub(f"[{SPACES}]", "", word)
    if decimal == ",":
        if POINT_THOUSANDS.fullmatch(word):
            word = word.replace(".", "")
        if DECIMAL_COMMA.fullmatch(word):
            word = word.replace(",", ".")
    elif COMMA_THOUSANDS.fullmatch(word):
        word = word.replace(",", "")
    try:
        return float(word)
    except ValueError:
        return np.nan


def decimal_mark(columns: Iterable[Any]) -> tuple[str, Any]:
    """The decimal mark of a table, and the cells that leave it open, if any do.

    A comma is one where some cell can only be read so, as 0,01 can, and no cell has a point that
    can only be a decimal one. What can be read both ways, as 1,024 can, is open: thousands, if
    nothing else in the table says so.
    """
    comma, point, open_cells = False, False, None
    for cells in columns:
        if cells.dtype.kind in "biuf":
            continue
        words = as_words(cells)
        with_comma = words[words.str.contains(",", regex=False)]
        decimal = with_comma.map(lambda word: bool(DECIMAL_COMMA.fullmatch(word)))
        thousands = with_comma.map(lambda word: bool(COMMA_THOUSANDS.fullmatch(word)))
        european = with_comma.map(lambda word: bool(POINT_THOUSANDS.fullmatch(word)))
        comma |= bool((decimal & ~thousands).any() or european.any())
        point |= bool((thousands & ~decimal).any())
        both = with_comma[decimal & thousands]
        if len(both) and open_cells is None:
            open_cells = both
        with_point = words[words.str.contains(".", regex=False)]
        is_number = pd.to_numeric(with_point, errors="coerce").notna()
        could_part = with_point.map(lambda word: bool(POINT_THOUSANDS.fullmatch(word)))
        point |= bool((is_number & ~could_part).any())
    if comma and not point:
        return ",", None
    return ".", None if point else open_cells
