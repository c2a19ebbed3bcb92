"""Figures of commands and of studies are drawn without a display."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib

matplotlib.use("Agg")

import xarray as xr
from matplotlib.figure import Figure

from dynsim.plots import draw
from dynsim.plots._style import save, style
from dynsim.plots._style import write as write_figure


def write(
    function: Callable[..., Figure],
    arguments: Sequence[Any],
    stem: Path,
    formats: Sequence[str] = ("png", "pdf"),
) -> list[Path]:
    """Draws function(*arguments) as `stem`.png and so on; returns the files."""
    with style():
        figure = function(*arguments)
    return write_figure(figure, stem, formats)


def write_result(dataset: xr.Dataset, plot: Path | None, stem: Path | None) -> list[Path]:
    """Draws the dataset of a result, and writes it to the file `plot` and as `stem`.png, .pdf and
    .svg, where these are given; returns the files."""
    figure = cast(Figure, draw(dataset).figure)
    if plot is not None:
        save(figure, plot)
    return [*([plot] if plot else []), *(write_figure(figure, stem) if stem else [])]
