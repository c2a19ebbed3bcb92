"""Figures of weights at the equilibrium of AdamW."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynsim.theory import equilibrium_rms

from .estimators import (
    cell,
    chances,
    derived_rms,
    derived_turn,
    hidden_rates,
    intervals,
    squares,
    turn,
    turns,
    widths,
)
from .study import BETAS

MARKS = {"noise": "o", "network": "s", "network, one moment a row": "D"}
POWER_NAMES = {
    0.0: r"$\lambda$ constant",
    0.5: r"$\lambda\propto\sqrt{d}$",
    1.0: r"$\lambda\propto d$",
}


def weight_decay(rows: xr.Dataset, hidden: xr.Dataset) -> Figure:
    """Sizes and turns of rows by visits, sizes and largest singular values by width."""
    figure, axes = plt.subplots(2, 2, figsize=(8, 6.6), layout="constrained")
    panels = axes.ravel()
    _sizes(panels[0], rows)
    _turns(panels[1], rows)
    _widths(panels[2], hidden, "square")
    _widths(panels[3], hidden, "largest")
    panels[2].set(title="hidden matrices, entries", ylabel="RMS of entries")
    panels[3].set(title="hidden matrices, norm", ylabel="largest singular value")
    panels[2].legend(fontsize="small")
    return figure


def _sizes(axes: Axes, data: xr.Dataset) -> None:
    fine = np.geomspace(4e-4, 1, 100)
    axes.plot(fine, derived_rms(data, "coupled", fine), color="0.4", linewidth=1.2, label="theory")
    for place, (source, marker) in enumerate(MARKS.items()):
        found = intervals(cell(data, "mean_square", source, "coupled"), np.ones(12))
        value, low, high = np.array([[one.value, one.low, one.high] for one in found]).T
        chance = chances(data, source, "coupled")
        axes.errorbar(
            chance,
            value,
            [value - low, high - value],
            linestyle="",
            marker=marker,
            color=f"C{place}",
            markersize=4,
            label=source,
        )
    axes.axvline(1 - BETAS[1], color="0.8", zorder=0)
    axes.annotate(r" $1-\beta_2$", (1 - BETAS[1], 0.06), fontsize="small", ha="left")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="visits a step $q$",
        ylabel="RMS of a row's entries",
        title="size of rows",
    )
    axes.legend(fontsize="small", loc="upper left")


def _turns(axes: Axes, data: xr.Dataset) -> None:
    axes.axhline(1, color="0.4", linewidth=1.2)
    for place, (source, marker) in enumerate(MARKS.items()):
        square, lagged = turns(data, source, "coupled")
        over = turn(square, lagged) / derived_turn(data, "coupled")
        chance = chances(data, source, "coupled")
        axes.plot(chance, over, marker, color=f"C{place}", markersize=4)
    axes.set(
        xscale="log",
        xlabel="visits a step $q$",
        ylabel=r"turn over $\delta$",
        title="turn of rows in 128 steps",
        ylim=(0, 1.25),
    )


def _widths(axes: Axes, data: xr.Dataset, quantity: str) -> None:
    for place, power in enumerate(data.power.values):
        found = intervals(squares(data, quantity, power=power), np.ones(len(widths(data))))
        value, low, high = np.array([[one.value, one.low, one.high] for one in found]).T
        law = equilibrium_rms(*hidden_rates(data, power=power))
        line = law if quantity == "square" else value[0] * law / law[0] * _sizes_of(data)
        axes.plot(widths(data), line, color=f"C{place}", linewidth=1.2)
        axes.errorbar(
            widths(data),
            value,
            [value - low, high - value],
            linestyle="",
            marker="o",
            markersize=4,
            color=f"C{place}",
            label=POWER_NAMES[float(power)],
        )
    axes.set(xscale="log", yscale="log", xlabel="width $d$")
    axes.set_xticks(widths(data), [str(width) for width in widths(data)])
    axes.set_xticks([], minor=True)


def _sizes_of(data: xr.Dataset) -> np.ndarray:
    """What the largest singular value of weights of one direction grows by."""
    return np.array(widths(data)) / widths(data)[0]


FIGURES = {"weight_decay": (weight_decay, ("decay_rows", "decay_width"))}
