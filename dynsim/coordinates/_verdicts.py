"""Verdicts on single powers: a measured power of the width against the band that is allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dynsim.statistics._intervals import Estimate, interval_text

from ._powers import Band
from ._records import TERMS

TermVerdict = Literal[
    "holds", "blows up", "too small", "undecided", "diverged", "frozen", "handed on"
]
FAILURES: tuple[TermVerdict, ...] = ("blows up", "too small", "diverged", "frozen")


@dataclass(frozen=True)
class Slope:
    """One fitted power: of a module's term at a step, at a vocabulary (0: it follows the width)."""

    module: str
    label: str
    term: str
    vocab_size: int
    step: int
    slope: Estimate
    allowed: Band
    verdict: TermVerdict


def judged(slope: Estimate, band: Band, tolerance: float, below: bool) -> TermVerdict:
    """The rule: outside the band by more than the tolerance with the whole interval, or inside."""
    low, high = band.low - tolerance, band.high + tolerance
    if slope.low > high:
        return "blows up"
    if below and slope.high < low:
        return "too small"
    inside = slope.value <= high and (slope.value >= low or not below)
    if math.isnan(slope.low):
        return "undecided"
    return "holds" if inside else "undecided"


def slope_text(slope: Slope) -> str:
    """One failing power in words."""
    at = "" if slope.vocab_size == 0 else f" at vocabulary {slope.vocab_size}"
    where = f"after {slope.step} steps" if slope.step else "at the start"
    if slope.verdict == "diverged":
        return f"{TERMS[slope.term]} is not finite {where}{at}"
    if slope.verdict == "frozen":
        return f"{TERMS[slope.term]} are zero {where}{at}: it does not learn"
    return (
        f"{TERMS[slope.term]} {slope.verdict}: width^{interval_text(slope.slope)} {where}{at}; "
        f"allowed {band_text(slope.allowed)}"
    )


def band_text(band: Band) -> str:
    """`-0.50`, `-0.50 to 0.00` or `up to 0.00`."""
    low, high = f"{band.low:.2f}", f"{band.high:.2f}"
    if math.isinf(band.low):
        return f"up to {high}"
    return low if low == high else f"{low} to {high}"
