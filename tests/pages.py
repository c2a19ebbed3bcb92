"""The project's Markdown, and what stands in it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SKIPPED = {".git", ".venv", "_build", "node_modules"}


def tracked() -> list[Path]:
    """Markdown files that git tracks; without git, all that lie in the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = [name for name in listed.stdout.split("\0") if name]
    files = [ROOT / name for name in names] if names else sorted(ROOT.rglob("*.md"))
    return [file for file in files if file.is_file() and not SKIPPED & set(file.parts)]


def documentation() -> dict[str, str]:
    """Texts of README.md and of the pages of docs, by path."""
    names = {file.relative_to(ROOT).as_posix(): file for file in tracked()}
    return {
        name: file.read_text(encoding="utf-8")
        for name, file in names.items()
        if name == "README.md" or name.startswith("docs/")
    }


def indented_commands(text: str) -> list[str]:
    """Lines of indented code blocks that call dynsim, continued lines joined."""
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if re.match(r" {4,}dynsim [a-z]", line)]


@dataclass(frozen=True)
class Block:
    """Python of a page; `not_run` is the reason that stands before a block that is not run."""

    code: str
    not_run: str


def python_blocks(text: str) -> list[Block]:
    """Blocks of ```python; a line `<!-- not run: REASON -->` before one says that it is not run."""
    pattern = r"^(?:<!-- not run: ([^\n]+) -->\n+)?```python\n(.*?)^```"
    found = re.finditer(pattern, text, re.DOTALL | re.MULTILINE)
    return [Block(match[2], match[1] or "") for match in found]
