"""Every topic's figures by name, each a function of the stored studies that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from experiments.plots._write import write

from ._parts import parts

FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    name: figure for module in parts("figures") for name, figure in module.FIGURES.items()
}


def draw(
    name: str,
    studies: Mapping[str, xr.Dataset],
    folder: Path,
    formats: Sequence[str] = ("png", "pdf"),
) -> list[Path]:
    """Draws a figure from the studies it needs; returns the files."""
    function, needs = FIGURES[name]
    return write(function, [studies[need] for need in needs], folder / name, formats)
