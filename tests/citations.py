"""What counts as a citation: a section of `docs/theory`, or a paper."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
THEORY = DOCS / "theory"
PLACEHOLDER = "PAGE.md"  # in a text that says how a citation is written

CITED = re.compile(r"docs/theory/(?P<page>\w+\.md)(?:#(?P<anchor>[\w-]+))?")
LABEL = re.compile(r"^\((?P<label>[\w-]+)\)=\s*$", re.MULTILINE)
PAPER = re.compile(
    r"arXiv[ :]\d{4}\.\d{4,5}"
    r"|\b[A-Z][\w'-]+(?:(?:, | & | and | et al\.)[A-Z]?[\w'-]*)* \(?(?:18|19|20)\d\d\b"
)


@cache
def texts() -> dict[str, str]:
    """All text files of the project by their path; folders with a dot are not part of it."""
    found = {}
    for file in sorted(ROOT.rglob("*")):
        path = file.relative_to(ROOT)
        hidden = any(part.startswith((".", "_build", "__pycache__")) for part in path.parts)
        if file.suffix in (".py", ".pyi", ".md", ".json", ".toml", ".cff") and not hidden:
            found[path.as_posix()] = file.read_text("utf-8")
    return found


def labels(text: str) -> list[str]:
    return [match["label"] for match in LABEL.finditer(text)]


def unresolved(text: str) -> list[str]:
    """The citations of `text` that name no page, or no label of the page."""
    missing = []
    for match in CITED.finditer(text):
        page = THEORY / match["page"]
        if match["page"] == PLACEHOLDER:
            continue
        if not page.is_file() or (
            match["anchor"] and match["anchor"] not in labels(page.read_text("utf-8"))
        ):
            missing.append(match[0])
    return missing


def names_a_source(citation: str) -> bool:
    """Whether a citation holds a section of the theory or a paper, and nothing that is missing."""
    sections = [match for match in CITED.finditer(citation) if match["anchor"]]
    return bool(sections or PAPER.search(citation)) and not unresolved(citation)
