"""What commands print names flags, and nothing below the commands writes one."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from dynsim._outcome import OK, Outcome, Status
from experiments.output import print_json, print_table

ROOT = Path(__file__).parents[2]
SURFACE = ("commands", "cli.py", "parsing.py", "output.py")
FLAG = re.compile(r"(?<![\w-])--[a-z]")
STOPPED = Outcome(Status.STOPPED, "after 3 steps; raise `max_steps`")


def test_outcomes_in_a_document_are_lines_that_name_flags(capsys):
    print_json({"ended": STOPPED, "parts": [OK]})
    document = json.loads(capsys.readouterr().out)
    assert document == {"ended": "stopped: after 3 steps; raise --max-steps", "parts": ["ok"]}


def test_notes_of_a_table_name_flags(capsys):
    print_table(["group"], [["a"]], [STOPPED.message])
    assert capsys.readouterr().out.endswith("    after 3 steps; raise --max-steps\n")


def flags_written(source: str) -> list[str]:
    """Texts of a program, but for docstrings and other bare texts, that hold a flag."""
    nodes = list(ast.walk(ast.parse(source)))
    bare = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in bare]
    return [one.value for one in texts if isinstance(one.value, str) and FLAG.search(one.value)]


def test_a_flag_is_found():
    source = '"""Of --out."""\ntext = f"{name} exists; --resume goes on"\nother = "a--b `resume`"'
    assert flags_written(source) == [" exists; --resume goes on"]


@pytest.mark.parametrize("room", ["dynsim", "experiments"])
def test_flags_are_written_by_the_command_line_alone(room):
    for file in sorted((ROOT / room).rglob("*.py")):
        inside = file.relative_to(ROOT / room).parts[0]
        if room == "dynsim" or inside not in SURFACE:
            assert flags_written(file.read_text(encoding="utf-8")) == [], file
