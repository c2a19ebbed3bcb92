"""From a file to its columns and cells, all as they stand there: texts, Parquet, JSON."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dynsim import InputError
from dynsim._files import read_file
from dynsim._parquet import parquet_table
from dynsim._text_files import NotText, decoded, json_document, unpacked

from ._cells import all_texts
from ._roles import last_part
from .options import PACKED

SEPARATED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ",", ".dat": ","}
JSON = {".json", ".jsonl", ".ndjson"}
PARQUET = {".parquet", ".pq"}
NETCDF = {".nc", ".nc4", ".netcdf"}
READ = (".csv", ".json", ".jsonl", ".nc", ".parquet", ".tsv")
SEPARATORS = (",", ";", "\t", "|")
SEPARATOR_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar", " ": "spaces"}


def suffix_of(file: Path) -> str:
    """The suffix that says what a file holds, in lower case and without that of a compression.

    Raises `InputError` for one that is not known.
    """
    suffixes = [one.lower() for one in file.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes = suffixes[:-1]
    found = suffixes[-1] if suffixes else ""
    if found not in {*SEPARATED, *JSON, *PARQUET, *NETCDF}:
        allowed = "must end in " + ", ".join(READ)
        if found in (".xlsx", ".xls", ".ods"):
            allowed += "; save the sheet as CSV"
        raise InputError("FILE", str(file), allowed)
    return found


def raw_table(file: Path, encoding: str | None, notes: list[str]) -> pd.DataFrame:
    """The columns of a text, JSON or Parquet file. Cells of text files are texts.

    Raises `InputError`, `OSError` or `ValueError` for what cannot be read.
    """
    suffix = suffix_of(file)
    table = _parquet(file) if suffix in PARQUET else _text_table(file, suffix, encoding, notes)
    if isinstance(table.columns, pd.MultiIndex):
        raise InputError("FILE", str(file), "has column names of several levels, must have one")
    table.columns = [str(name).strip() for name in table.columns]
    _check_names(file, table)
    return _flat(_without_index(table), file, notes)


def _parquet(file: Path) -> pd.DataFrame:
    if not file.exists():
        raise InputError("FILE", str(file), "there is no such file")
    table = parquet_table(read_file(file))
    named = [name for name in table.index.names if name is not None and name not in table]
    return table.reset_index(level=named) if named else table


def _text_table(file: Path, suffix: str, encoding: str | None, notes: list[str]) -> pd.DataFrame:
    data = unpacked(file)
    try:
        text = decoded(data, encoding)
    except NotText as error:
        hint = "" if encoding else "; `encoding` says which it is, such as latin-1"
        raise InputError("FILE", str(file), f"is {error}{hint}") from None
    except LookupError:
        raise InputError("encoding", encoding, "must be an encoding, such as latin-1") from None
    if not text.strip():
        raise InputError("FILE", str(file), "is empty")
    return _json_table(file, text) if suffix in JSON else _separated(file, text, suffix, notes)


def _json_table(file: Path, text: str) -> pd.DataFrame:
    """An object a line, a list of objects, or an object of columns; nested keys joined by dots."""
    try:
        try:
            document = json_document(text)
        except ValueError:
            document = [json_document(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise InputError("FILE", str(file), f"cannot be read as JSON ({error})") from None
    if isinstance(document, dict):
        document = _rows(document)
    if isinstance(document, dict):
        columns = list(document.values())
        if columns and all(isinstance(one, (list, dict)) for one in columns):
            return pd.DataFrame(document).reset_index(drop=True)
        document = [document]
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise InputError("FILE", str(file), "must hold an object for each run")
    return pd.json_normalize(document)


def _rows(document: dict[str, Any]) -> Any:
    """The rows of a document that has them below a name, or as pandas writes them."""
    cells = document.get("data")
    names = document.get("columns")
    if isinstance(cells, list) and isinstance(names, list):  # its split
        return [dict(zip(names, row, strict=True)) for row in cells]
    lists = [value for value in document.values() if isinstance(value, list)]
    if len(lists) == 1 and lists[0] and all(isinstance(row, dict) for row in lists[0]):
        return lists[0]
    by_row = list(document.values())
    same = by_row and all(
        isinstance(row, dict) and row.keys() == by_row[0].keys() for row in by_row
    )
    if same and {"width", "loss"} & {last_part(str(name)) for name in by_row[0]}:
        return by_row  # a row below each label
    return document


def _separated(file: Path, text: str, suffix: str, notes: list[str]) -> pd.DataFrame:
    """A table with a line a row: separators, comments and row labels of every dialect."""
    lines = text.splitlines()
    if re.fullmatch(r"\s*sep=.\s*", lines[0], re.IGNORECASE):
        lines = lines[1:]  # a hint for spreadsheets; the rows say it as well
    comments = [line for line in lines if line.lstrip().startswith("#")]
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if comments and (not rows or _is_header(comments[-1], rows[0])):
        rows.insert(0, comments[-1].lstrip().lstrip("#").strip())  # as numpy.savetxt writes it
        comments.pop()
    if comments:
        notes.append(f"{file.name}: {_lines(len(comments))} of comment left out")
    separator = _separator(rows, SEPARATED[suffix])
    if separator != SEPARATED[suffix]:
        notes.append(f"{file.name}: the separator is {SEPARATOR_NAMES[separator]}")
    names = _cells(rows[0], separator)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                StringIO("\n".join(rows[1:])),
                sep=r"\s+" if separator == " " else separator,
                header=None,
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
            )
    except pd.errors.EmptyDataError:
        return pd.DataFrame({name: [] for name in names})
    except pd.errors.ParserError as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise InputError("FILE", str(file), f"cannot be read ({reason})") from None
    short = int(table.isna().any(axis=1).sum())
    if short:
        notes.append(f"{file.name}: {_lines(short)} with fewer cells than the header")
    return _named(file, table, names)


def _named(file: Path, table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The cells under their names; row labels before them, or empty cells behind, are left out."""
    extra = table.shape[1] - len(names)
    if extra == 1 and (table.iloc[:, -1].fillna("") == "").all():
        table = table.iloc[:, :-1]  # every line ends with a separator
    elif extra == 1 and table.iloc[:, 0].is_unique:
        table = table.iloc[:, 1:]  # labels of rows, as R writes them
    elif extra > 0 or extra < 0:
        cells = f"its header names {len(names)} columns and its rows have {table.shape[1]} cells"
        raise InputError("FILE", str(file), f"cannot be read ({cells})")
    table.columns = list(names)
    return table.fillna("")


def _is_header(comment: str, row: str) -> bool:
    """Whether a comment names the columns of a row of numbers."""
    separator = _separator([row], ",")
    names = _cells(comment.lstrip().lstrip("#").strip(), separator)
    cells = _cells(row, separator)
    return (
        len(names) == len(cells) > 1
        and not any(map(_is_number, names))
        and all(_is_number(cell) for cell in cells if cell)
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _separator(rows: Sequence[str], usual: str) -> str:
    """The separator that cuts the first rows into most cells, as many in each."""
    first = rows[:5]

    def columns(separator: str) -> int:
        counts = {len(_cells(row, separator)) for row in first}
        whole = len(counts) == 1 or separator == usual
        return len(_cells(first[0], separator)) if whole else 1

    best = max((usual, *(one for one in SEPARATORS if one != usual)), key=columns)
    if columns(best) > 1:
        return best
    by_spaces = {len(row.split()) for row in first}
    return " " if len(by_spaces) == 1 and by_spaces.pop() > 1 else usual


def _cells(row: str, separator: str) -> list[str]:
    if separator == " ":
        return row.split()
    cells = next(csv.reader([row], delimiter=separator, skipinitialspace=True), [])
    return [cell.strip() for cell in cells]


def _check_names(file: Path, table: pd.DataFrame) -> None:
    """Names of columns that occur twice get a number; those that are empty a place."""
    seen: dict[str, int] = {}
    names = []
    for place, name in enumerate(table.columns, 1):
        seen[name] = seen.get(name, 0) + 1
        again = f"{name} ({seen[name]})" if seen[name] > 1 else name
        names.append(again or f"column {place}")
    table.columns = names
    table.attrs["twice"] = [name for name, count in seen.items() if count > 1]


def _without_index(table: pd.DataFrame) -> pd.DataFrame:
    """The table without a first column that has no name and numbers the rows."""
    if not len(table.columns) or not str(table.columns[0]).startswith(("Unnamed: ", "column 1")):
        return table
    numbered: Any = pd.to_numeric(table.iloc[:, 0], errors="coerce")
    if np.all(np.diff(np.asarray(numbered, dtype=np.float64)) == 1):
        attrs = table.attrs
        table = table.iloc[:, 1:]
        table.attrs = attrs
    return table


def _flat(table: pd.DataFrame, file: Path, notes: list[str]) -> pd.DataFrame:
    """The table without columns whose cells are lists or objects."""
    mixed = {name: column for name, column in table.items() if column.dtype.kind not in "biuf"}
    nested = [
        name
        for name, column in mixed.items()
        if not all_texts(column) and any(map(_is_nested, column))
    ]
    if nested:
        notes.append(f"{file.name}: left out {', '.join(map(str, nested))}, whose cells are lists")
    return table.drop(columns=nested)


def _is_nested(cell: Any) -> bool:
    return hasattr(cell, "__len__") and not isinstance(cell, (str, bytes))


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"
