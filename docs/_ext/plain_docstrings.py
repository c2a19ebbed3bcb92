"""Docstrings as this project writes them, made readable for autodoc.

They are plain text with `code` in single backticks, **bold** headings and lists. Formulas are plain
text too, and their bars, stars and underscores would be markup to Sphinx, so they are escaped.
"""

from __future__ import annotations

import re

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


def rewrite(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]):
    lines[:] = [as_rst(line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
