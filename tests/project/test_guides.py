"""The examples of the guides run as they stand, and their commands parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from experiments.cli import COMMANDS
from experiments.parsing import parse

GUIDES = Path(__file__).parents[2] / "docs/guides"
RUN = ("exponents.md", "maps.md", "figures.md")  # all Python in them stands alone


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Command lines in indented blocks, continued lines joined, those with an ellipsis left out."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^    (dynsim .*)$", joined, re.MULTILINE)
    return [line for line in lines if "..." not in line]


EXAMPLES = [
    pytest.param(block, id=f"{name}-{number}")
    for name in RUN
    for number, block in enumerate(python_blocks((GUIDES / name).read_text(encoding="utf-8")))
]


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("block", EXAMPLES)
def test_python_examples_run(block, capsys):
    exec(compile(block, "example", "exec"), {})


def test_a_wrong_example_is_noticed():
    block = python_blocks("```python\nassert 1 + 1 == 3\n```\n")[0]
    with pytest.raises(AssertionError):
        exec(compile(block, "example", "exec"), {})


@pytest.mark.parametrize("name", RUN)
def test_commands_parse(name):
    found = commands((GUIDES / name).read_text(encoding="utf-8"))
    assert found
    for line in found:
        _, command, *options = shlex.split(line)
        assert isinstance(parse(COMMANDS, [command, *options]), COMMANDS[command])
