"""Figure of losses over the base rate, with the vocabulary kept and in proportion to the width."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .estimators import best_rates, curves
from .study import NETWORKS, PATHS

NAMES = {"mlp": "MLP", "transformer": "transformer on text"}
TITLES = {"kept": "$m = 1024$", "proportional": "$m = 8d$"}


def proxies(data: xr.Dataset) -> Figure:
    """Losses over the initial one against the base rate, by width; dotted: the best rate."""
    figure, panels = plt.subplots(
        2, 2, figsize=(8, 6), layout="constrained", sharex=True, sharey="row"
    )
    rates = data.base_lr.to_numpy()
    for row, network in zip(panels, NETWORKS, strict=True):
        for axes, path in zip(row, PATHS, strict=True):
            found = curves(data, network, path)
            best = best_rates(data, network, path)
            for place, width in enumerate(data.width.to_numpy()):
                mean = found[place].mean(axis=-1)
                error = found[place].std(axis=-1, ddof=1) / np.sqrt(found.shape[-1])
                axes.errorbar(
                    rates, mean, error, color=f"C{place}", marker="o", markersize=3, label=width
                )
                low, high = np.exp([best[place].low, best[place].high])
                axes.axvspan(low, high, color=f"C{place}", alpha=0.12, linewidth=0)
                axes.axvline(np.exp(best[place].value), color=f"C{place}", linestyle=":")
            axes.set(xscale="log", title=f"{NAMES[network]}, {TITLES[path]}")
            lowest = found.mean(axis=-1).min()
            axes.set_ylim(lowest - 0.1 * (1 - lowest), 1.02)
        row[0].set_ylabel("loss / initial loss")
    panels[0, 0].legend(title="width", fontsize=8)
    for axes in panels[1]:
        axes.set_xlabel("base learning rate")
    return figure


FIGURES = {"proxies": (proxies, ("proxies",))}
