"""Figures of learning-rate sweeps: loss against each rate, optima against width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dynsim import Status
from dynsim.statistics import (
    LossSurface,
    Optimum,
    TunedRate,
    is_determined,
    optimum_interval,
    rate_exponent,
    surface_optimum,
)
from experiments.analysis.optima import Surfaces, surfaces, tuned_rates

RATE_LABELS: dict[TunedRate, str] = {
    "embedding": r"base embedding LR $\eta_E$",
    "hidden": r"base hidden LR $\eta_W$",
    "ratio": r"base $\eta_E^*/\eta_W^*$",
    "embedding_alone": r"base embedding LR $\eta_E$, rest frozen",
    "hidden_alone": r"base hidden LR $\eta_W$, embedding frozen",
    "ratio_alone": r"base $\eta_E^*/\eta_W^*$, each alone",
}
REFERENCES = {0.0: "$1$", 0.5: "$d^{1/2}$", 1.0: "$d$", -0.5: "$d^{-1/2}$", -1.0: "$d^{-1}$"}
MARKERS = "osD^vP"
POINTS: dict[str, Any] = {"linestyle": "", "markeredgecolor": "white", "markeredgewidth": 0.5}

Floats = NDArray[np.float64]


def sweep_optima(sweep: xr.Dataset, horizon: int) -> Figure:
    """Loss against each base learning rate (the other tuned) by width, one row a vocabulary, with
    optimum and near-optimal interval; below, optimal rates and ratio against width.

    Where the grid tunes layers only alone, these take the place of the tuned rates.
    """
    cells = surfaces(sweep, horizon)
    rates = tuned_rates(cells)
    shown: list[TunedRate] = [rate for rate in rates if not rate.endswith("_alone")]
    shown = shown or list(rates)
    widths = sorted({width for width, _ in cells})
    vocabularies = sorted({vocab_size for _, vocab_size in cells})
    columns: list[TunedRate] = [rate for rate in shown if not rate.startswith("ratio")]
    figure = plt.figure(figsize=(9.6, 2.5 * len(vocabularies) + 3.1), layout="constrained")
    heights = [2.5 * len(vocabularies), 3.1]
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    panels = above.subplots(
        len(vocabularies), len(columns), squeeze=False, sharey="row", sharex="col"
    )
    for row, vocab_size in zip(panels, vocabularies, strict=True):
        for axes, rate in zip(row, columns, strict=True):
            _losses(axes, cells, widths, vocab_size, rate)
        row[0].set_ylabel(f"loss after {horizon} steps")
        row[0].set_title(f"vocabulary {vocab_size}", loc="left")
    for axes, rate in zip(panels[-1], columns, strict=True):
        axes.set_xlabel(RATE_LABELS[rate])
    above.suptitle("Filled: determined optimum; open: flat; bars: all rates nearly as good", size=9)
    panels[0, -1].legend(title="width", loc="upper left", bbox_to_anchor=(1.01, 1))
    for axes, rate in zip(below.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _optima(axes, cells, vocabularies, rate)
    return figure


def _width_colours(widths: Sequence[int]) -> dict[int, Any]:
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(widths)))
    return dict(zip(widths, shades, strict=True))


def _losses(
    axes: Axes, cells: Surfaces, widths: Sequence[int], vocab_size: int, rate: TunedRate
) -> None:
    """Mean loss, lowest over the other rate, and each optimum with its near-optimal interval."""
    lowest, highest = np.inf, -np.inf
    for width, colour in _width_colours(widths).items():
        if (width, vocab_size) not in cells:
            continue
        surface = cells[width, vocab_size]
        place, loss = _profile(surface, rate)
        axes.plot(place, loss, ".-", color=colour, linewidth=1, markersize=3, label=str(width))
        optimum = surface_optimum(surface, rate)
        lowest = min(lowest, float(loss.min()))
        highest = max(highest, float(surface.initial_loss.mean()))
        if is_determined(optimum):
            span = [max(optimum.low, float(place[0])), min(optimum.high, float(place[-1]))]
            axes.plot(span, [optimum.loss] * 2, color=colour, linewidth=4, alpha=0.3, zorder=1)
            face = "white" if optimum.status is Status.FLAT else colour
            axes.plot(
                optimum.value, optimum.loss, "o", color=colour, markerfacecolor=face, zorder=4
            )
    axes.set_xscale("log")
    if highest > lowest:
        axes.set_ylim(lowest - 0.05 * (highest - lowest), lowest + 0.5 * (highest - lowest))


def _profile(surface: LossSurface, rate: TunedRate) -> tuple[Floats, Floats]:
    """Positive values of a rate and the lowest mean loss at each, over the other rate."""
    mean = surface.change.mean(axis=-1) + surface.initial_loss.mean()
    axis = int(rate.startswith("hidden"))
    place = (surface.embedding_lrs, surface.hidden_lrs)[axis]
    loss = np.take(mean, 0, 1 - axis) if rate.endswith("_alone") else mean.min(axis=1 - axis)
    return place[place > 0], loss[place > 0]


def _optima(axes: Axes, cells: Surfaces, vocabularies: Sequence[int], rate: TunedRate) -> None:
    """Optimal rate against width by vocabulary: bars are 95 % intervals over seeds, bands hold
    all near-optimal values, lines are the fitted power."""
    anchors, slopes = [], []
    for number, vocab_size in enumerate(vocabularies):
        line = sorted(cell for cell in cells if cell[1] == vocab_size)
        found = {width: surface_optimum(cells[width, m], rate) for width, m in line}
        known = [width for width, optimum in found.items() if is_determined(optimum)]
        if not known:
            continue
        colour, marker = f"C{number % 7}", MARKERS[number % len(MARKERS)]
        values = np.array([found[width].value for width in known])
        shift = 1.04 ** (number - (len(vocabularies) - 1) / 2)  # so that bars do not hide bars
        place = np.array(known) * shift
        intervals = [optimum_interval(cells[width, vocab_size], rate) for width in known]
        bars = np.array([[one.low, one.high] for one in intervals])
        fit = rate_exponent([w for w, _ in line], [cells[cell] for cell in line], rate)
        label = f"$m$={vocab_size}"
        if np.isfinite(fit.value):
            slopes.append(fit.value)
            centre = np.exp(np.log(known).mean())
            height = np.exp(np.log(values).mean())
            axes.plot(place, height * (np.array(known) / centre) ** fit.value, color=colour)
            label += f": {_exponent_text(fit.value, fit.low, fit.high)}"
            label += " (flat)" if fit.status is Status.FLAT else ""
        _near_optimal(axes, place, [found[width] for width in known], colour)
        errors = np.abs(bars.T - values) if np.all(np.isfinite(bars)) else None
        axes.errorbar(place, values, errors, marker=marker, color=colour, label=label, **POINTS)
        anchors.append((known[0], known[-1], values[0]))
    if anchors:
        first, last = min(a[0] for a in anchors), max(a[1] for a in anchors)
        start = np.exp(np.mean([np.log(a[2]) for a in anchors]))
        sign = -1 if slopes and np.mean(slopes) < -0.1 else 1
        for exponent in (0.0, sign * 0.5, sign * 1.0) if last > first else ():
            end = start * (last / first) ** exponent
            axes.plot([first, last], [start, end], ":", color="0.45", linewidth=1, zorder=0)
            axes.annotate(
                REFERENCES[exponent],
                (last, end),
                (7, 0),
                textcoords="offset points",
                fontsize=8,
                color="0.35",
                va="center",
            )
        seeds = max(len(surface.initial_loss) for surface in cells.values())
        title = "exponent [95 % over seeds]" if seeds > 1 else "exponent (one seed)"
        axes.legend(title=title, title_fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set(xscale="log", yscale="log", xlabel="width $d$", ylabel=RATE_LABELS[rate])
    widths = sorted({width for width, _ in cells})
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()


def _near_optimal(axes: Axes, place: Floats, optima: Sequence[Optimum], colour: str) -> None:
    lows, highs = np.array([[one.low, one.high] for one in optima]).T
    highs = np.where(np.isfinite(highs), highs, [one.value * 1e3 for one in optima])
    lows = np.where(lows > 0, lows, [one.value / 1e3 for one in optima])
    axes.fill_between(place, lows, highs, color=colour, alpha=0.1, linewidth=0)


def _exponent_text(value: float, low: float, high: float) -> str:
    return f"{value:+.2f}" + (f" [{low:+.2f}, {high:+.2f}]" if np.isfinite(low) else "")
