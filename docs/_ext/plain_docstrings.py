"""Docstrings as this project writes them, made readable for autodoc.

They are plain text with `code` in single backticks, **bold** headings and lists. Formulas are plain
text too, and their bars, stars and underscores would be markup to Sphinx, so they are escaped.
Examples, which begin with >>>, stay as they are. Shapes that annotations state are written out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from sphinx.application import Sphinx

KEPT = re.compile(r"(`[^`]+`|\*\*[^*]+:\*\*)")


def as_rst(line: str) -> str:
    """`line` with `code` as a literal and every other markup character escaped."""
    pieces = KEPT.split(line)
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            pieces[number] = re.sub(r"([\\*|_`])", r"\\\1", piece)
        elif piece.startswith("`"):
            # The empty escape ends the literal when a letter follows, as in `LR`s.
            pieces[number] = f"`{piece}`\\ "
    return "".join(pieces).rstrip()


def as_rst_lines(lines: list[str]) -> Iterator[str]:
    """The lines with markup escaped, but for examples, each of which ends at a blank line."""
    example = False
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        yield line if example else as_rst(line)


def shapes(obj: object) -> str:
    """Arguments and result whose annotations state shapes, as a sentence; empty without any."""
    if not inspect.isroutine(obj):
        return ""
    try:
        signature = inspect.signature(obj)
    except (TypeError, ValueError):
        return ""
    given = {f"`{name}`": one.annotation for name, one in signature.parameters.items()}
    found = [
        f"{name} ({', '.join(shape[1].split())})" if shape[1].split() else f"{name} a number"
        for name, annotation in {**given, "result": signature.return_annotation}.items()
        if (shape := re.search(r"(?:Float|Int|Bool)\[.*?[\"']([^\"']*)[\"']", str(annotation)))
    ]
    return f"**Shapes:** {', '.join(found)}." if found else ""


def rewrite(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]):
    stated = shapes(obj)
    if stated:
        place = next((k for k, line in enumerate(lines) if line == "**Example:**"), len(lines))
        lines[place:place] = [stated, ""]
    lines[:] = as_rst_lines(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
