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
from experiments.output import printed_all_the_same

# Without a place of their own, titles are moved off ticks and labels above the axes, which these
# figures do not have, by working out the labels of all axes twice more.
TITLES: dict[Any, Any] = {"axes.titley": 1.0}


def write(
    function: Callable[..., Figure],
    arguments: Sequence[Any],
    stem: Path,
    formats: Sequence[str] = ("png", "pdf"),
) -> list[Path]:
    """Draws function(*arguments) as `stem`.png and so on; returns the files."""
    with style(), matplotlib.rc_context(TITLES):
        figure = function(*arguments)
    with printed_all_the_same():
        return write_figure(figure, stem, formats)
    return []


def write_result(dataset: xr.Dataset, plot: Path | None, stem: Path | None) -> list[Path]:
    """Draws the dataset of a result, and writes it to the file `plot` and as `stem`.png, .pdf and
    .svg, where these are given; returns the files."""
    figure = cast(Figure, draw(dataset).figure)
    written = []
    with printed_all_the_same():
        if plot is not None:
            save(figure, plot)
            written.append(plot)
        if stem is not None:
            written += write_figure(figure, stem)
    return written
