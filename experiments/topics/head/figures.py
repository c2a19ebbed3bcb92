"""Figures of language-model heads: sizes of steps and best rates against the width."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .estimators import JOINT, line, log_optima, log_rates, step_samples
from .study import LAYERS

NAMES = {
    "hidden": "hidden matrix, its outputs",
    "head_target": "head, logits of next tokens",
    "head_all": "head, all logits",
}


def head_steps(data: xr.Dataset) -> Figure:
    """RMS of the first step at constant rates, with lines d and sqrt(d) through the widest."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
    for panel, (head, title) in zip(
        panels, (("untied", "n = m outputs"), ("few", "16 outputs")), strict=True
    ):
        panel.set(xscale="log", yscale="log")
        for update, name in NAMES.items():
            widths, samples = step_samples(line(data, "proportional", "adam", head), update, 0)
            sizes = np.sqrt([np.mean(one) for one in samples])
            points = panel.plot(widths, sizes, "o", label=name)
            colour = points[0].get_color()
            for power, style in ((1.0, "-"), (0.5, ":")):
                guide = sizes[-1] * (np.array(widths) / widths[-1]) ** power
                panel.plot(widths, guide, style, color=colour, linewidth=1)
            panel.set_xticks(widths, [str(int(width)) for width in widths])
        panel.set(xlabel="width $d$, $m = 8d$", title=title)
        panel.set_xticks([], minor=True)
    panels[0].set_ylabel("RMS of the first step over the rate")
    panels[0].legend(title=r"solid: as $d$; dotted: as $\sqrt{d}$")
    return figure


def head_rates(data: xr.Dataset) -> Figure:
    """Losses over each layer's rate at muP's scale, the other rates at their best."""
    paths = [str(path) for path in data.path.values]
    figure, panels = plt.subplots(
        len(paths),
        len(LAYERS),
        figsize=(8, 3.2 * len(paths)),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for row, path in zip(panels, paths, strict=True):
        for panel, layer in zip(row, LAYERS, strict=True):
            cells = line(data, path, "adam", "untied")
            rates, losses = log_rates(cells, layer, JOINT)
            mean = losses.mean(axis=-1)
            best = np.exp(log_optima(rates, mean))
            for width, rate, loss, at in zip(cells.width.values, rates, mean, best, strict=True):
                lines = panel.plot(np.exp(rate), loss, "o-", ms=3, label=f"$d = {int(width)}$")
                panel.axvline(at, color=lines[0].get_color(), ls=":")
            size = "$m = 8d$" if path == "proportional" else "$m = 1024$"
            panel.set(xscale="log", title=f"{layer}, {size}", xlabel="LR over muP's scale")
        row[0].set_ylabel("validation loss / initial loss")
        row[0].legend()
    return figure


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "head_steps": (head_steps, ("head_updates",)),
    "head_rates": (head_rates, ("head_rates",)),
}
