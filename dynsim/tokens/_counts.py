"""Counts of token types from files as people have them, without asking which format they are."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._files import most_bytes
from dynsim._parquet import parquet_table
from dynsim._text_files import NotText, decoded, json_document, unpacked

COUNT_COLUMNS = (
    *("count", "counts", "frequency", "freq", "occurrences", "n", "token_count", "doc_count"),
    "value",
)
THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
SHOWN = 40  # characters of a wrong line
NO_COUNTS = "the file holds no counts"
NO_SUM = "the counts must have a positive, finite sum"
WRONG_LINE = "line {number} must be one non-negative number, or a word and its count, not {line!r}"
WRONG_VALUE = "must hold one number a word, not {value!r}"
WRONG_COUNT = "count {number} is {count:g}, must be a non-negative number"
NO_COLUMN = "must have one column of counts, called count; it has {which}"

DAMAGED = (csv.Error, zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError)

Floats = NDArray[np.float64]


def read_counts(path: Path) -> Floats:
    """Counts of a file, largest first.

    It may hold a count a line; a word and its count, in either order, divided by blanks, a tab or a
    comma; a table with a header (CSV, Parquet) in which one column is the count; a JSON object of
    counts by word, or a list; or a numpy array. Texts may be compressed. Blank lines count for
    nothing, and neither do lines that begin with #, but for a # that is the word of its line.

    Raises `InputError` if the file cannot be read, is empty, or holds anything but non-negative
    finite numbers with a positive sum.

    **Example:**

    >>> from pathlib import Path
    >>> from dynsim.tokens import read_counts
    >>> _ = Path("counts.json").write_text('{"of": 20, "the": 30}', encoding="utf-8")
    >>> read_counts(Path("counts.json"))
    array([30., 20.])
    """
    name = f"counts:{path}"
    try:
        data = unpacked(path)
        counts = _counts(name, data)
    except InputError:
        raise
    except NotText as error:
        hint = "" if "binary" in str(error) else "; convert it to UTF-8, for example by iconv"
        allowed = f"the file cannot be read (not a text file: {error}{hint})"
        raise InputError("tokens", name, allowed) from None
    except ImportError:
        message = "needs pyarrow to be read: pip install 'dynsim[parquet]'"
        raise InputError("tokens", name, message) from None
    except (OSError, ValueError, OverflowError, *DAMAGED) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged"])[0]
        raise InputError("tokens", name, f"the file cannot be read ({reason})") from None
    if not len(counts):
        raise InputError("tokens", name, NO_COUNTS)
    if not np.all(np.isfinite(counts) & (counts >= 0)):
        bad = int(np.argmin(np.isfinite(counts) & (counts >= 0)))
        allowed = WRONG_COUNT.format(number=bad + 1, count=counts[bad])
        raise InputError("tokens", name, allowed)
    with np.errstate(over="ignore"):
        total = float(counts.sum())
    if not 0 < total < math.inf:
        raise InputError("tokens", name, NO_SUM)
    return np.sort(counts)[::-1]


def _counts(name: str, data: bytes) -> Floats:
    if data.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        return _numpy_counts(name, data)
    if data.startswith(b"PAR1"):
        table = parquet_table(data)
        columns = {str(column): table[column].to_numpy() for column in table}
        return _of_columns(name, columns)
    text = decoded(data)
    if text.lstrip().startswith(("{", "[")):
        for read in (json_document, _json_lines):
            try:
                document = read(text)
            except json.JSONDecodeError:
                continue  # a word of a line may begin so
            return _json_counts(name, document)
    return _line_counts(name, text.splitlines())


def _json_lines(text: str) -> list[Any]:
    return [json_document(line) for line in text.splitlines() if line.strip()]


def _numpy_counts(name: str, data: bytes) -> Floats:
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(one.file_size for one in packed.infolist()) > most_bytes():
                raise ValueError("it unpacks to more than fits the memory")
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        array = loaded
    elif len(loaded.files) == 1 or "counts" in loaded.files:
        array = loaded["counts" if "counts" in loaded.files else loaded.files[0]]
    else:
        allowed = f"must hold an array called counts (its arrays: {', '.join(loaded.files)})"
        raise InputError("tokens", name, allowed)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        allowed = f"must hold one number a type, not an array of shape {array.shape}"
        raise InputError("tokens", name, allowed)
    return array.astype(np.float64)


def _json_counts(name: str, document: Any) -> Floats:
    """An object of counts by word, a list of counts, or a list of pairs."""
    if isinstance(document, dict):
        if isinstance(document.get("model"), dict) and "vocab" in document["model"]:
            hint = f"is a tokenizer.json: name it as {name.replace('counts:', 'tokenizer:', 1)}"
            raise InputError("tokens", name, hint)
        values = list(document.values())
        if len(values) == 1 and isinstance(values[0], (dict, list)):
            return _json_counts(name, values[0])
    else:
        values = list(document)
        if values and all(isinstance(pair, list) and len(pair) == 2 for pair in values):
            last = all(_is_count(pair[1]) for pair in values)
            values = [pair[1] if last else pair[0] for pair in values]
        elif values and all(isinstance(row, dict) for row in values):
            return _of_columns(name, {key: [row.get(key) for row in values] for key in values[0]})
    bad = next((value for value in values if not _is_count(value)), None)
    if bad is not None:
        allowed = WRONG_VALUE.format(value=str(bad)[:SHOWN])
        raise InputError("tokens", name, allowed)
    return np.array(values, dtype=np.float64)


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _of_columns(name: str, columns: dict[str, Any]) -> Floats:
    """The column of a table that holds the counts: by its name, or the only one of numbers."""
    found = {}
    for column, cells in columns.items():
        numbers = [_cell(str(cell)) for cell in cells]
        if not any(math.isnan(number) for number in numbers):
            found[column] = np.array(numbers)
    by_name = [column for column in found if column.strip().lower() in COUNT_COLUMNS]
    chosen = by_name or list(found)
    if len(chosen) != 1:
        which = f"several columns of numbers: {', '.join(chosen)}" if chosen else "none of numbers"
        allowed = NO_COLUMN.format(which=which)
        raise InputError("tokens", name, allowed)
    return found[chosen[0]]


def _line_counts(name: str, lines: Sequence[str]) -> Floats:
    """A count a line, a word and its count a line, or rows of a table with a header."""
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    kept = [(number, line) for number, line in numbered if not line.startswith("#")]
    if not kept:
        return np.empty(0)
    if not any(math.isnan(_number(line)) for _, line in kept):
        return np.array([_number(line) for _, line in kept])
    cells = [_cell(line) for _, line in kept]
    if not any(map(math.isnan, cells)) and any("," not in line for _, line in kept):
        return np.array(cells)  # a comma that parts two columns is on every line
    for cut in (_by_tab, _by_comma, _by_semicolon, _number_last, _number_first):
        rows = [cut(line) for _, line in kept]
        if min(map(len, rows)) == max(map(len, rows)) > 1:
            header = all(math.isnan(_cell(cell)) for cell in rows[0])
            if header and len(rows) > 1:
                cells = list(zip(*rows[1:], strict=True))
                return _of_columns(name, dict(zip(rows[0], cells, strict=True)))
            if len(rows[0]) == 2:
                comments = [cut(line) for _, line in numbered if line.startswith("#")]
                return _pair_counts(name, rows, comments, kept)
    bare = not math.isnan(_number(kept[0][1]))
    wrong = next(
        (line for line in kept if math.isnan(_number(line[1])) and (bare or not _is_pair(line[1]))),
        kept[0],
    )
    raise _wrong_line(name, *wrong)


def _pair_counts(
    name: str,
    rows: Sequence[Sequence[str]],
    comments: Sequence[Sequence[str]],
    lines: Sequence[tuple[int, str]],
) -> Floats:
    """The counts of words, which stand on that side of the lines on which all are numbers.

    Of the lines that begin with #, those that look like the others are counts of that word.
    """
    sides = [np.array([_cell(row[side]) for row in rows]) for side in (0, 1)]
    whole = [not np.any(np.isnan(side)) for side in sides]
    if not any(whole):
        bad = int(np.argmax(np.isnan(sides[0]) & np.isnan(sides[1])))
        bad = bad if np.isnan(sides[0][bad] + sides[1][bad]) else int(np.argmax(np.isnan(sides[1])))
        raise _wrong_line(name, *lines[bad])
    if all(whole):
        ranked = [bool(len(one) > 1 and np.all(np.diff(one) == 1)) for one in sides]
        if ranked[0] == ranked[1]:
            told = "holds two numbers, and which is the count cannot be told"
            allowed = f"line {lines[0][0]} {told}: name the columns in a first line"
            raise InputError("tokens", name, allowed)
        whole[ranked.index(True)] = False  # it only numbers the types
    side = whole.index(True)
    more = [_number(row[side]) for row in comments if len(row) == 2]
    return np.array([*sides[side], *(number for number in more if not math.isnan(number))])


def _wrong_line(name: str, number: int, line: str) -> InputError:
    allowed = WRONG_LINE.format(number=number, line=line.strip()[:SHOWN])
    return InputError("tokens", name, allowed)


def _by_tab(line: str) -> list[str]:
    return line.split("\t")


def _by_comma(line: str) -> list[str]:
    return next(csv.reader([line], skipinitialspace=True))


def _by_semicolon(line: str) -> list[str]:
    return next(csv.reader([line], delimiter=";", skipinitialspace=True))


def _number_last(line: str) -> list[str]:
    """The word, which may hold blanks or be one, and the number behind it."""
    word, _, number = line.rstrip().rpartition(" ")
    return [word, number] if not math.isnan(_number(number)) and line != number else [line]


def _number_first(line: str) -> list[str]:
    number, _, word = line.strip().partition(" ")
    return [number, word] if not math.isnan(_number(number)) and word else [line]


def _is_pair(line: str) -> bool:
    return any(len(cut(line)) == 2 for cut in (_by_tab, _by_comma, _number_last, _number_first))


def _cell(text: str) -> float:
    """The number of a cell, whose thousands may be parted by commas, NaN if it is none."""
    text = text.strip()
    return _number(text.replace(",", "") if THOUSANDS.fullmatch(text) else text)


def _number(text: str) -> float:
    """The non-negative finite number that a text is, NaN if it is none."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) and number >= 0 and "_" not in text else math.nan
