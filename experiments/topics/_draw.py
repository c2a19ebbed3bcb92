"""Draws a figure, and imports the topic of this one only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from experiments.plots._write import write

from ._names import known_figures
from ._parts import part


def draw(
    name: str,
    studies: Mapping[str, xr.Dataset],
    folder: Path,
    formats: Sequence[str] = ("png", "pdf"),
) -> list[Path]:
    """Draws a figure from the studies it needs; returns the files."""
    module = part(known_figures()[name].topic, "figures")
    assert module is not None
    function, needs = module.FIGURES[name]
    return write(function, [studies[need] for need in needs], folder / name, formats)
