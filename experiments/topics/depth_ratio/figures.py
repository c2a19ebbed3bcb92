"""Figure of the embedding's learning rate over that of hidden layers, against the width."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .estimators import Family, family_widths, ratio_at, theory_ratios

PATHS = {"fixed": "$m = 16$", "proportional": "$m = 4d$", "superlinear": "$m = d^{3/2}$"}
CASES = (
    ("one hidden matrix alone, 12 steps", 12),
    ("matrices together, embedding frozen, 2 steps", 2),
    ("all layers together, 2 steps", 2),
)
OPTIMIZERS = {"adam": "Adam", "muon": "Muon (hidden)"}
MARKERS = "osDv^"
GUIDES = {
    "adam": ((0.5, r"$\sqrt{d}$"), (1.0, "$d$")),
    "muon": ((-0.5, r"$1/\sqrt{d}$"), (0.0, "$1$")),
}
# Where the guides begin, and the limits of the panel.
LAYOUT = {
    "adam": ((13, (8, 5e4)), (13, (8, 5e4)), (40, (20, 5e5))),
    "muon": ((0.02, (2e-3, 1)), (0.02, (2e-3, 1)), (0.3, (0.03, 6))),
}


def _families(optimizer: str, case: int) -> Mapping[str, Family]:
    """Families of a panel by label."""

    def of(path: str, depth: int, layers: str) -> Family:
        return Family(optimizer, path, depth, layers)

    if case == 0:
        return {label: of(path, 1, "hidden") for path, label in PATHS.items()}
    if case == 1:
        found = {
            "1 hidden": of("proportional", 1, "hidden"),
            "2: hidden, readout": of("proportional", 1, "hidden+readout"),
            "2 hidden": of("proportional", 2, "hidden"),
        }
        more = {"4 hidden": of("proportional", 4, "hidden")} if optimizer == "adam" else {}
        return {**found, **more}
    depths = (2, 4) if optimizer == "adam" else (2,)
    joint = {f"{label}, depth 1": of(path, 1, "all") for path, label in PATHS.items()}
    return joint | {
        f"$m = 4d$, depth {depth}": of("proportional", depth, "all") for depth in depths
    }


def depth_ratio(data: xr.Dataset) -> Figure:
    """Ratio of sufficient rates: lines are mean-field theory, points are trained networks."""
    figure, panels = plt.subplots(3, 2, figsize=(8, 9.6), layout="constrained", sharex=True)
    for side, (optimizer, name) in zip(panels.T, OPTIMIZERS.items(), strict=True):
        for case, axes in enumerate(side):
            title, horizon = CASES[case]
            for place, (label, family) in enumerate(_families(optimizer, case).items()):
                _draw(axes, data, family, horizon, label, place)
            axes.set(xscale="log", yscale="log")
            start, limits = LAYOUT[optimizer][case]
            axes.set_ylim(limits)
            _guides(axes, GUIDES[optimizer], start)
            axes.set_title(f"{name}:\n{title}")
            axes.legend()
    for axes in panels[-1]:
        axes.set_xlabel("width $d$")
    for row in panels:
        row[0].set_ylabel(r"$\eta_E\,/\,\eta_\mathrm{hidden}$")
    return figure


def _draw(
    axes: Axes, data: xr.Dataset, family: Family, horizon: int, label: str, place: int
) -> None:
    colour = f"C{place}"
    widths, ratios = theory_ratios(data, family, horizon)
    axes.plot(widths, ratios, color=colour, linewidth=1.3)
    sizes = family_widths(data, family, "networks")
    found = [ratio_at(data, family, "networks", horizon, width) for width in sizes]
    value, low, high = np.exp([[one.value, one.low, one.high] for one in found]).T
    axes.errorbar(
        sizes,
        value,
        [value - low, high - value],
        linestyle="",
        marker=MARKERS[place],
        markersize=4.5,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.4,
        label=label,
        zorder=3,
    )


def _guides(axes: Axes, guides: tuple[tuple[float, str], ...], start: float) -> None:
    """Grey slopes from one point."""
    span = np.array([1.5e3, 3e4])
    for power, text in guides:
        heights = start * (span / span[0]) ** power
        axes.plot(span, heights, color="0.6", linewidth=0.9, zorder=1)
        axes.text(span[1] * 1.1, heights[1], text, fontsize=8, color="0.35", va="center")


FIGURES = {"depth_ratio": (depth_ratio, ("depth_ratio",))}
