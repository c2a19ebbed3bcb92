"""What commands print: tables, one JSON document, progress on stderr."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import textwrap
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dynsim import InputError, Outcome
from dynsim._errors import named as named  # no name of the public interface, but of messages
from dynsim._errors import shown

from . import interruption

SHOWN_EVERY = 0.5  # seconds
LOGGED_EVERY = 10.0  # seconds; where stderr is no terminal
ELAPSED = "{desc}: {n_fmt} of {total_fmt} |{bar}| {elapsed}"
PARTS = f"{ELAPSED}, {{remaining}} left"
PARTS_OF_A_WHOLE = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"


def flag(field: str) -> str:
    """A field of the library as the command line writes it; what is written so already stays."""
    if not (field.isidentifier() and field.islower()):
        return field  # a flag, or a place such as a file, its column and row
    return f"--{field.replace('_', '-')}"


def near_names(name: str, known: Collection[str], where: str = "") -> str:
    """What is allowed in place of a name that is not known: how many, the nearest, and `where` all
    are listed."""
    near = get_close_matches(name, known, n=4, cutoff=0) or list(known)[:4]
    if len(known) <= len(near):
        return f"must be one of {', '.join(known)}"
    return f"must be one of {len(known)}, such as {', '.join(near)}{where}"


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout; outcomes name flags, numbers that are not finite become null."""
    every_character = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    print(json_text(document, ascii_alone=not every_character))


def json_text(
    document: dict[str, Any], indent: int | None = None, ascii_alone: bool = False
) -> str:
    """A document as JSON; numbers that are not finite become null."""
    plain = _plain(document)
    return json.dumps(plain, ensure_ascii=ascii_alone, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case Outcome():
            return value.written(flag)
        case Path():
            return str(value)
        case bool() | None | str() | int():
            return value
        case np.ndarray() | np.generic():
            return _plain(value.tolist())
        case float():
            return value if math.isfinite(value) else None
    return _plain(float(value))


LINE_WIDTH = 100
"""columns of a terminal that prose and tables keep to"""
GAP = 2  # columns between those of a table


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] | None = None
) -> None:
    """A table with aligned columns, with a note under each row where there are `notes`.

    What is wider than 100 columns is put into several tables, which have the first column in
    common. Notes stand in the last of them and name flags for the fields between backticks.
    """
    parts = _fitting(head, rows)
    for place, columns in enumerate(parts):
        if place:
            print()
        last = place == len(parts) - 1
        _print_aligned(
            [head[k] for k in columns],
            [[row[k] for k in columns] for row in rows],
            notes if last else None,
        )


def _fitting(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[int]]:
    """Columns of the fewest tables that fit the line, about equally wide."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    parts = _within(widths, LINE_WIDTH)
    for limit in range(LINE_WIDTH - 1, 0, -1):
        narrower = _within(widths, limit)
        if len(narrower) > len(parts) or len(parts) == 1:
            break
        parts = narrower
    return parts


def _within(widths: Sequence[int], limit: int) -> list[list[int]]:
    """Columns of tables no wider than `limit`, each of which has the first column."""
    parts, used = [[0]], widths[0]
    for column, width in enumerate(widths[1:], 1):
        if used + GAP + width > limit and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(column)
        used += GAP + width
    return parts


def _print_aligned(
    head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] | None
) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    below = [None, None, *(notes or [None] * len(rows))]
    for row, note in zip((head, ["-" * width for width in widths], *rows), below, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print((" " * GAP).join(cells).rstrip())
        for line in [] if note is None else named(note, flag).splitlines():
            print_wrapped(f"    {line}", "      ")


def print_wrapped(text: str, indent: str = "") -> None:
    """A paragraph in lines of at most 100 columns; lines after the first have `indent`."""
    lines = textwrap.wrap(
        text, LINE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    print("\n".join(lines))


def print_lines(text: str) -> None:
    """Lines of at most 100 columns; what is broken goes on with two more columns of indent."""
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip()) + 2
        print_wrapped(line, " " * indent) if line else print()


_asked: list[str] = []


def asked(arguments: Sequence[str]) -> None:
    """Keeps what the command line was called with, for `again` and `written_options`."""
    _asked[:] = arguments


def written_options() -> frozenset[str]:
    """The fields whose options stand on the command line, with whatever value.

    An option that is written is meant, also where its value is the default. Empty in a command that
    no command line asked for.
    """
    options = (word.partition("=")[0] for word in _asked if word.startswith("--"))
    return frozenset(option[2:].replace("-", "_") for option in options)


def again(*more: object, without: Collection[str] = ()) -> list[str]:
    """The words of this command with further options, and `without` some that take no value.

    An option with one value that stands there already is replaced.
    """
    words = [str(word) for word in more]
    kept: list[str] = []
    value = False  # whether the next word is that of an option that is replaced
    for word in _asked:
        replaced = word.partition("=")[0] in words and word.startswith("--")
        if not (replaced or value or word in without):
            kept.append(word)
        value = replaced and "=" not in word and word not in without
    return [*kept, *words]


def options_of(described: Any, names: Collection[str], defaults: Any) -> list[str]:
    """These fields as options of a command, those left out that have the value of `defaults`."""
    given = ((name, getattr(described, name)) for name in names)
    return [
        word
        for name, value in given
        if value is not None and value != getattr(defaults, name)
        for word in (flag(name), f"{value:g}" if isinstance(value, float) else str(value))
    ]


def print_next(what: str, words: Sequence[object]) -> None:
    """The last line of a command: what to look at next, and the command that shows it."""
    print()
    start = f"Next, {what}:"
    line = f"{start} {shlex.join(['dynsim', *map(str, words)])}"
    if len(line) <= LINE_WIDTH:
        print(line)
        return
    print(start)
    print("\n".join(f"  {one}" for one in command_lines(words, LINE_WIDTH - 2)))


def command_lines(words: Sequence[object], width: int = LINE_WIDTH) -> list[str]:
    """A command of dynsim in lines of at most `width` columns that can be copied together."""
    quoted = [shlex.quote(str(word)) for word in words]
    lines = ["dynsim"]
    for word in _with_values(quoted):
        if len(lines[-1]) + len(word) + len("  \\") > width:
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}"
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def _with_values(words: Sequence[str]) -> list[str]:
    """Words of a command, each option together with its values."""
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("--") and not word.startswith("--"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


class _Bar(tqdm):
    """A bar that shows itself and the time also while no part is finished, as JAX compiles, say."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._over = threading.Event()
        self._every = SHOWN_EVERY if self.fp.isatty() else LOGGED_EVERY
        self._shown = threading.Thread(target=self._show, daemon=True)
        self._shown.start()

    def _show(self) -> None:
        while not self._over.wait(self._every):
            self.delay = 0  # what is shown is cleared at the end
            self.refresh()

    def update(self, n: float | None = 1) -> bool | None:
        """Adds a part; parts of a whole may sum to a little more than it by rounding."""
        part = 1.0 if n is None else n
        return super().update(part if self.total is None else min(part, self.total - self.n))

    def display(self, *arguments: Any, **options: Any) -> Any:
        interruption.bar_stands(True)
        return super().display(*arguments, **options)

    def close(self) -> None:
        """Ends the bar, and nothing of it is left."""
        if hasattr(self, "_shown"):
            self._over.set()
            self._shown.join()
        super().close()
        interruption.bar_stands(False)


def progress_bar(total: float, label: str, alike: bool = True) -> tqdm:
    """A progress bar on stderr with the time left; a `total` of 1.0 is work in parts of a whole.

    Of parts that are not `alike` the time left is not known, and only what has passed is shown.
    Text on stdout goes between its lines within `with bar.external_write_mode(sys.stdout)`.
    """
    interval = 0.2 if sys.stderr.isatty() else LOGGED_EVERY
    return _Bar(
        total=total,
        desc=label,
        bar_format=PARTS_OF_A_WHOLE if total == 1.0 else PARTS if alike else ELAPSED,
        file=sys.stderr,
        dynamic_ncols=True,
        leave=False,
        delay=0.3,
        mininterval=interval,
        maxinterval=interval,
    )


_unwritten: list[str] = []


@contextmanager
def printed_all_the_same() -> Iterator[None]:
    """A file of results that cannot be written does not end a command: it prints its numbers, and
    ends with the line of `unwritten`."""
    try:
        yield
    except OSError as error:
        where = "" if error.filename is None else f"{shown(str(error.filename))}: "
        _unwritten.append(f"{where}cannot be written ({error.strerror or error})")


def unwritten() -> str | None:
    """What could not be written since the last call, on one line."""
    found = list(_unwritten)
    _unwritten.clear()
    if not found:
        return None
    return found[0] + (f", and {len(found) - 1} more" if len(found) > 1 else "")


_made_folders: list[Path] = []


def remove_empty_folders() -> None:
    """Removes the folders that `writable_folder` has made for results which never came."""
    for folder in _made_folders:
        with suppress(OSError):  # not empty
            folder.rmdir()
    _made_folders.clear()


def writable_folder(option: str, folder: Path) -> Path:
    """`folder`, made if need be. Raises `InputError` if it cannot be written to."""
    try:
        new = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        _made_folders.extend(new)
        probe = folder / ".dynsim-probe"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(option, str(folder), f"must be a folder to write to ({reason})") from None
    return folder


def writable_file(option: str, path: Path) -> Path:
    """`path`, its folder made if need be. Raises `InputError` if it cannot be written."""
    writable_folder(option, path.parent)
    try:
        taken = path.is_dir() or (os.path.lexists(path) and not os.access(path, os.W_OK))
    except (OSError, ValueError):
        taken = True
    if taken:
        raise InputError(option, str(path), "must be a file that can be written")
    return path


def number(value: float | None) -> str:
    """A number for a table; - for none or one that is not finite."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def estimate(value: float, low: float, high: float, write: Callable[[float], str] = number) -> str:
    """A value with its interval; - for none, and no interval where it has no ends."""
    if not math.isfinite(value):
        return "-"
    if not (math.isfinite(low) and math.isfinite(high)):
        return write(value)
    return f"{write(value)} [{write(low)}, {write(high)}]"
