"""Figure of a coordinate check: every term of every matrix against width."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynsim.laboratory import TERMS, SlopeBand, Term, reference_setup, slope_bands
from experiments.analysis.coordinates import setup_of

TITLES: dict[Term, str] = {
    "initial": r"$W_0\,z_0$",
    "update_on_initial": r"$\Delta W\,z_0$",
    "initial_on_learned": r"$W_0\,\Delta z$",
    "update_on_learned": r"$\Delta W\,\Delta z$",
}


def coordinate_figure(dataset: xr.Dataset) -> Figure:
    """RMS of each term against width, a row a matrix, a colour a vocabulary size.

    Filled points and lines: last recorded step; open points, dotted: the first. Bars: two standard
    errors. Wedges: the powers that the parametrization prescribes, from the smallest width's value.
    """
    matrices = [str(name) for name in dataset.matrix.values]
    vocab_sizes = [int(m) for m in dataset.vocab_size.values]
    steps = [int(t) for t in dataset.step.values if t > 0]
    figure, panels = plt.subplots(
        len(matrices),
        len(TERMS),
        figsize=(9.5, 1.55 * len(matrices) + 0.9),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.85, len(vocab_sizes)))
    for row, matrix in zip(panels, matrices, strict=True):
        for axes, term in zip(row, TERMS, strict=True):
            for m, colour in zip(vocab_sizes, colours, strict=True):
                setup = reference_setup(setup_of(dataset, m))
                widths = [int(d) for d in dataset.width.values]
                band = slope_bands(setup, widths, matrix).get(term)
                if band is not None:
                    _term(axes, dataset, matrix, term, m, colour, band)
            if not axes.has_data():
                axes.set_axis_off()
            else:
                _log_axis(axes, dataset)
        row[0].set_ylabel(matrix)
    for axes, term in zip(panels[0], TERMS, strict=True):
        axes.set_title(TITLES[term])
    for axes in panels[-1]:
        axes.set_xlabel("width $d$")
    handles = [
        Line2D([], [], marker="o", color=colour, label=f"$m={m}$")
        for m, colour in zip(vocab_sizes, colours, strict=True)
    ]
    grey: dict[str, Any] = {"color": "0.4", "marker": "o"}
    if len(steps) > 1:
        open_points: dict[str, Any] = {"markerfacecolor": "white", "linestyle": ":"}
        handles.append(Line2D([], [], **grey, **open_points, label=f"step {steps[0]}"))
    handles.append(Line2D([], [], **grey, label=f"step {steps[-1]}"))
    handles.append(Line2D([], [], color="0.85", linewidth=6, label="prescribed powers"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _term(
    axes: Axes,
    dataset: xr.Dataset,
    matrix: str,
    term: Term,
    vocab_size: int,
    colour: Any,
    band: SlopeBand,
) -> None:
    widths = dataset.width.values.astype(float)
    steps = [int(t) for t in dataset.step.values if t > 0]
    shown = steps[:1] if term == "initial" else list(dict.fromkeys((steps[0], steps[-1])))
    for step in shown:
        squares = dataset.mean_square.sel(
            matrix=matrix, quantity=term, vocab_size=vocab_size, step=step
        ).transpose("width", "seed")
        mean = squares.mean("seed").to_numpy()
        if not np.all(np.isfinite(mean)) or not np.all(mean > 0):
            continue
        rms = np.sqrt(mean)
        error = squares.std("seed", ddof=1).to_numpy() / np.sqrt(squares.sizes["seed"]) / rms
        first = step == steps[0] and term != "initial" and len(steps) > 1
        axes.errorbar(
            widths,
            rms,
            error,
            fmt="o:" if first else "o-",
            color=colour,
            markerfacecolor="white" if first else colour,
            linewidth=0.9,
            markersize=3.5,
        )
        edges = [rms[0] * (widths / widths[0]) ** power for power in (band.low, band.high)]
        axes.fill_between(widths, *edges, color=colour, alpha=0.12, linewidth=0, zorder=0)
        for edge in edges:
            axes.plot(widths, edge, "--", color=colour, linewidth=0.6, alpha=0.7, zorder=0)


def _log_axis(axes: Axes, dataset: xr.Dataset) -> None:
    axes.set(xscale="log", yscale="log")
    widths = dataset.width.values
    axes.set_xticks(widths, [str(d) for d in widths])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    if high / low < 10:  # a flat line is to look flat
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 10**0.5, middle * 10**0.5)
