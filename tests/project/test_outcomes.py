"""A status is a type: no code takes the text of one apart."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    file for room in ("dynsim", "experiments", "docs/_ext") for file in (ROOT / room).rglob("*.py")
)
TEXT_METHODS = {"startswith", "endswith", "split", "partition", "removeprefix", "find", "index"}


def parsed_statuses(source: str) -> list[int]:
    """Lines that take a status apart as a text: `x.status.split(...)`, `x["status"][:5]`, and
    `"flat" in x.status`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            taken = node.func.attr in TEXT_METHODS and _is_status(node.func.value)
        elif isinstance(node, ast.Subscript):
            taken = isinstance(node.slice, ast.Slice) and _is_status(node.value)
        elif isinstance(node, ast.Compare):
            contained = isinstance(node.ops[0], (ast.In, ast.NotIn))
            taken = contained and any(map(_is_status, node.comparators))
        else:
            continue
        if taken:
            found.append(node.lineno)
    return found


def _is_status(node: ast.AST) -> bool:
    """Whether an expression is a status: a name, an attribute or a key of that name."""
    if isinstance(node, ast.Subscript):
        key = node.slice
        return (isinstance(key, ast.Constant) and key.value == "status") or _is_status(node.value)
    name = getattr(node, "attr", getattr(node, "id", ""))
    return name == "status" or name.endswith("_status")


def test_a_parsed_status_is_seen():
    for line in (
        'one.status.startswith("misfit")',
        'group["kappa"]["status"].split(":")[0]',
        "status[:5]",
        'result.status[0].startswith("diverged")',
        '"flat" in optimum.status',
    ):
        assert parsed_statuses(line) == [1], line
    for line in ("one.status is Status.OK", "one.status in (Status.OK, Status.FLAT)", "x.status"):
        assert parsed_statuses(line) == [], line


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_status_is_parsed(file):
    assert parsed_statuses(file.read_text(encoding="utf-8")) == []
