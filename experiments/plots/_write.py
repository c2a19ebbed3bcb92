"""Figures of commands and of studies are drawn without a display, as PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure

from dynsim.plots._style import style
from dynsim.plots._style import write as write_figure


def write(function: Callable[..., Figure], arguments: Sequence[Any], stem: Path) -> list[Path]:
    """Draws function(*arguments) as `stem`.png and `stem`.pdf; returns the files."""
    with style():
        figure = function(*arguments)
    return write_figure(figure, stem, ("png", "pdf"))
