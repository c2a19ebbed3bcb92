"""README.md: short above its reference part, its table is the stored data's, its commands parse."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from experiments.cli import COMMANDS
from experiments.parsing import ParseError, parse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_WORDS = 700


def shell_lines(text: str) -> list[str]:
    """Command lines of the ```sh blocks, continued lines joined, comments left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def commands(text: str) -> list[str]:
    return [line for line in shell_lines(text) if line.startswith("dynsim ")]


def section(title: str) -> str:
    """The text under a heading of the second level."""
    _, _, rest = README.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


@pytest.fixture(scope="module")
def readme_table() -> ModuleType:
    path = ROOT / "docs/_ext/readme_table.py"
    spec = importlib.util.spec_from_file_location("readme_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_part_before_the_reference_is_short():
    before, heading, _ = README.partition("\n## Reference\n")
    assert heading
    assert len(before.split()) <= MAX_WORDS


def test_there_is_one_figure():
    assert README.count("![") == 1


def test_there_are_five_questions_with_a_command_each():
    text = section("Five questions")
    assert len(commands(text)) == len(re.findall(r"\?\n", text)) == 5


@pytest.mark.parametrize("line", commands(README))
def test_every_command_parses(line):
    program, command, *options = shlex.split(line)
    assert program == "dynsim"
    assert isinstance(parse(COMMANDS, [command, *options]), COMMANDS[command])


def test_a_command_that_does_not_exist_does_not_parse():
    with pytest.raises(ParseError, match="derive"):
        parse(COMMANDS, ["derived", "--layer", "projection"])


def test_every_command_is_shown():
    assert {line.split()[1] for line in commands(README)} == set(COMMANDS)


def test_the_table_is_the_stored_data(readme_table):
    """After a change of claims or data: `python docs/_ext/readme_table.py`."""
    assert readme_table.with_table(README) == README


def test_a_changed_number_in_the_table_is_noticed(readme_table):
    cell = "0.9894 [0.9856, 0.9932]"
    assert cell in README
    changed = README.replace(cell, "0.99 [0.9856, 0.9932]")
    assert readme_table.with_table(changed) == README


EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", EXAMPLES, ids=range(len(EXAMPLES)))
def test_python_examples_stand_alone(block):
    """They compile, and each imports what it uses of dynsim."""
    assert compile(block, "README.md", "exec")
    assert re.search(r"^(import|from) dynsim", block, re.MULTILINE)


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target
