"""Markdown of the project: lines that fit a screen, and commands that exist."""

from __future__ import annotations

import shlex

import pytest
from pages import ROOT, indented_commands, tracked

from experiments.cli import COMMANDS
from experiments.parsing import parse

MAX_LENGTH = 120

PAGES = [pytest.param(file, id=file.relative_to(ROOT).as_posix()) for file in tracked()]


def long_lines(text: str) -> list[int]:
    """Numbers of the lines that are too long and could be broken.

    A generated table (after a comment that names its program) cannot, nor can a link to an image or
    a single word such as an address.
    """
    found, generated = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("<!--"):
            generated = ".py" in line
        words = line.split()
        alone = max((len(word) for word in words), default=0) > MAX_LENGTH - 20
        if len(line) > MAX_LENGTH and not (generated or line.startswith("![") or alone):
            found.append(number)
    return found


def test_the_project_has_pages():
    assert len(PAGES) > 10


@pytest.mark.parametrize("file", PAGES)
def test_lines_fit(file):
    assert long_lines(file.read_text(encoding="utf-8")) == []


def test_a_long_line_is_found():
    long = "word " * 30
    assert long_lines(f"short\n{long}\n| {long} |\n") == [2, 3]
    assert (
        long_lines(f"<!-- x.py -->\n{long}\n<!-- end -->\n![{long}](a)\nhttps://{'a' * 130}") == []
    )


def test_commands_of_the_documentation_parse():
    seen = 0
    for file in sorted((ROOT / "docs").rglob("*.md")):
        for line in indented_commands(file.read_text(encoding="utf-8")):
            _, command, *options = shlex.split(line, comments=True)
            if "..." not in options:
                found = parse(COMMANDS, [command, *options])
                assert isinstance(found, COMMANDS[command]), (file, line)
                seen += 1
    assert seen > 30
