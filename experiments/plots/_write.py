"""Figures are written as PNG and PDF, in one style and without a date."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

STYLE = Path(__file__).parent / "dynsim.mplstyle"


def write(function: Callable[..., Figure], arguments: Sequence[Any], stem: Path) -> list[Path]:
    """Draws function(*arguments) as `stem`.png and `stem`.pdf; returns the files."""
    with plt.style.context(STYLE):
        figure = function(*arguments)
        paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "pdf")]
        for path in paths:
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
            figure.savefig(path, metadata=metadata)
        plt.close(figure)
    return paths
