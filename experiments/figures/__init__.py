"""Every figure by name, each a function of the stored studies that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from .first_step import FIRST_STEP_FIGURES
from .lv_lifetime import LV_LIFETIME_FIGURES
from .mean_field import MEAN_FIELD_FIGURES
from .optimal_rates import OPTIMAL_RATE_FIGURES
from .optimal_ratio import OPTIMAL_RATIO_FIGURES
from .race import RACE_FIGURES
from .transfer import TRANSFER_FIGURES
from .transfer_networks import TRANSFER_NETWORK_FIGURES
from .transfer_theory import TRANSFER_THEORY_FIGURES
from .update_magnitude import UPDATE_MAGNITUDE_FIGURES

STYLE = Path(__file__).parent / "dynsim.mplstyle"
FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    **FIRST_STEP_FIGURES,
    **LV_LIFETIME_FIGURES,
    **OPTIMAL_RATE_FIGURES,
    **MEAN_FIELD_FIGURES,
    **UPDATE_MAGNITUDE_FIGURES,
    **OPTIMAL_RATIO_FIGURES,
    **RACE_FIGURES,
    **TRANSFER_FIGURES,
    **TRANSFER_NETWORK_FIGURES,
    **TRANSFER_THEORY_FIGURES,
}


def draw(name: str, studies: Mapping[str, xr.Dataset], folder: Path) -> list[Path]:
    """Draws a figure as PNG and PDF from the studies it needs; returns the files."""
    function, needs = FIGURES[name]
    return write(function, [studies[need] for need in needs], folder / name)


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
