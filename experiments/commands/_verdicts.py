"""What `dynsim verify` does with verdicts, of built-in claims and of a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def seed_folder(folder: Path, seed: int) -> Path:
    """Where studies of a run with this seed lie: runs are kept apart."""
    return folder / f"seed-{seed}" if seed else folder


def exit_code(rows: list[dict[str, Any]]) -> int:
    """1 if a claim that should hold fails, or a negative control is not caught; else 0."""
    wrong = {("holds", "fails"), ("fails", "holds"), ("fails", "undecided")}
    return int(any((row["expected"], row["verdict"]) in wrong for row in rows))
