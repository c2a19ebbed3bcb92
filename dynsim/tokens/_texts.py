"""The texts of a corpus: a file, or all files of a folder, with what of it was left out and why."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dynsim._errors import InputError, shown
from dynsim._text_files import NotText, decoded, unpacked

# Merging the pairs of one word takes a time that grows with the square of its length.
LONGEST_RUN = 200
RUNS = "|".join(
    f"{kind}{{{LONGEST_RUN + 1},}}" for kind in (r"[^\W\d_]", r"\d", r"\s", r"(?:[^\w\s]|_)")
)
LONG_RUN = re.compile(RUNS)
LONG_BLANK = re.compile(rf"\s{{{LONGEST_RUN + 1},}}")
EXAMPLES = 3  # names of files that a note shows


@dataclass(frozen=True)
class Texts:
    """The texts of a path, in the order of their files' names, and notes on how they were read."""

    documents: tuple[str, ...]
    notes: tuple[str, ...]


def read_texts(path: Path) -> Texts:
    """The texts of a file or of all files of a folder, compressed or not.

    Hidden files and folders, folders behind links, and files that are no text in an encoding that
    can be told are left out of a folder; `notes` count them.

    Raises `InputError` for a path that cannot be read or holds no text.
    """
    name = f"corpus:{path}"
    try:
        if not path.is_dir():
            return Texts((_text_of_file(name, path),), ())
        files, skipped = _files(path)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("tokens", name, f"the path cannot be read ({reason})") from None
    texts = []
    for file in files:
        try:
            texts.append(decoded(unpacked(file)))
        except NotText as error:
            skipped.append((str(error), file.relative_to(path)))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            skipped.append((f"cannot be read: {reason}", file.relative_to(path)))
    notes = _notes(len(texts), skipped)
    texts = [text for text in texts if text]
    if not texts:
        count = "1 file" if len(files) == 1 else f"{len(files)} files"
        why = f"it holds {count}, none of it text that can be read" if files else "it holds no file"
        left_out = f" ({'; '.join(notes[1:])})" if notes[1:] else ""
        raise InputError("tokens", name, f"the path holds no text: {why}{left_out}")
    return Texts(tuple(texts), notes)


def _text_of_file(name: str, file: Path) -> str:
    try:
        text = decoded(unpacked(file))
    except NotText as error:
        hint = "" if "binary" in str(error) else "; convert it, for example by iconv -t UTF-8"
        raise InputError("tokens", name, f"the file is {error}{hint}") from None
    if not text:
        raise InputError("tokens", name, "the path holds no text: the file is empty")
    return text


def _files(folder: Path) -> tuple[list[Path], list[tuple[str, Path]]]:
    """The files below a folder, sorted, and what is left out for a reason that its name gives."""
    files: list[Path] = []
    skipped: list[tuple[str, Path]] = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        for name in sorted(folders):
            if name.startswith("."):
                skipped.append(("hidden", (here / name).relative_to(folder)))
            elif (here / name).is_symlink():
                skipped.append(("folder behind a link", (here / name).relative_to(folder)))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                skipped.append(("hidden", (here / name).relative_to(folder)))
            elif (here / name).is_file():
                files.append(here / name)
    return sorted(files), skipped


def _notes(read: int, skipped: list[tuple[str, Path]]) -> tuple[str, ...]:
    """How many files were read, and how many were left out, by reason."""
    notes = [f"{read} {'file' if read == 1 else 'files'} read"]
    for reason, count in Counter(reason for reason, _ in skipped).items():
        names = [printable(str(path)) for why, path in skipped if why == reason]
        rest = ", ..." if count > EXAMPLES else ""
        notes.append(f"{count} left out, {reason}: {', '.join(names[:EXAMPLES])}{rest}")
    return tuple(notes)


def printable(text: str) -> str:
    """A text as it can be printed, whatever bytes a file's name holds."""
    return text if text.isprintable() else shown(text)[1:-1]


def _has_long_run(text: str) -> bool:
    """Whether a text may have a run that is cut; quicker than to look for one."""
    longest = max(map(len, text.split()), default=0)
    return longest > LONGEST_RUN or LONG_BLANK.search(text) is not None


def cut_runs(documents: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """The documents with every very long run of letters, digits, blanks or signs in pieces.

    A text without blanks would else be one word, whose merging may never end.
    """
    pieces: list[str] = []
    cut = 0
    for document in documents:
        end = 0
        for run in LONG_RUN.finditer(document) if _has_long_run(document) else ():
            cut += 1
            for start in range(run.start(), run.end(), LONGEST_RUN):
                pieces.append(document[end:start])
                end = start
        pieces.append(document[end:])
    runs = "1 run" if cut == 1 else f"{cut} runs"
    note = f"{runs} of more than {LONGEST_RUN} letters or signs cut into pieces of {LONGEST_RUN}"
    return [piece for piece in pieces if piece], (note,) if cut else ()
