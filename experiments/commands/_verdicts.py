"""What `dynsim verify` does with verdicts, of built-in claims and of a user's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.output import estimate, number, print_table

HEAD = (
    *("claim", "predicted", "simulated", "measured", "95 % interval"),
    *("drift", "last slope", "verdict"),
)
COLUMNS = """simulated: theory at the measured sizes, read in the same way as the networks
measured: from trained networks, with its 95 % interval
drift: how the measured value changes when the smallest size is left out
last slope: between the two largest sizes of an exponent, with its 95 % interval"""
UNEXPECTED = "(!): the claim expects another verdict"


def seed_folder(folder: Path, seed: int) -> Path:
    """Where studies of a run with this seed lie: runs are kept apart."""
    return folder / f"seed-{seed}" if seed else folder


def exit_code(rows: list[dict[str, Any]]) -> int:
    """1 if a claim that should hold fails, or a negative control is not caught; else 0."""
    wrong = {("holds", "fails"), ("fails", "holds"), ("fails", "undecided")}
    return int(any((row["expected"], row["verdict"]) in wrong for row in rows))


def as_expected(row: Mapping[str, Any]) -> bool:
    """Whether a claim has the verdict that it expects."""
    return row["verdict"] == row["expected"]


def in_one_sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many claims have the verdict that they expect, and what that means."""
    if not rows:
        return "No claim is judged by what was measured."
    expected = sum(map(as_expected, rows))
    shown = {row["verdict"] for row in rows}
    lost = [row["name"] for row in rows if not as_expected(row)]
    start = f"{expected} of {len(rows)} verdicts as expected"
    if not lost:
        meaning = {
            "holds": "holds where it should",
            "fails": "fails where it should",
            "undecided": "is undecided where that is expected",
        }
        found = [text for verdict, text in meaning.items() if verdict in shown]
        return f"{start}: theory {', and '.join(found)}."
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    return f"{start}; other verdicts: {', '.join(lost[:3])}{more} (marked (!) below)."


def print_verdicts(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """The numbers and the verdict of each claim, with a note under each, line by line."""
    print_table(HEAD, [_cells(row) for row in rows], notes)
    print()
    print(COLUMNS)
    if not all(map(as_expected, rows)):
        print(UNEXPECTED)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    last = "-"
    if row["last"] is not None:
        last = estimate(row["last"], row["last_low"], row["last_high"])
    return (
        row["name"],
        f"{number(row['predicted'])} ± {number(row['tolerance'])}",
        number(row["simulated"]),
        number(row["measured"]),
        _interval(row["low"], row["high"]),
        number(row["drift"]),
        last,
        row["verdict"] + ("" if as_expected(row) else "  (!)"),
    )


def _interval(low: float, high: float) -> str:
    return f"[{number(low)}, {number(high)}]" if math.isfinite(low + high) else "-"
