"""Figure of embedding LR / hidden LR in trained networks: points are measured, lines are theory."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynsim.laboratory import grid_factors
from dynsim.statistics import (
    RateExponent,
    Resamples,
    is_determined,
    optimum_interval,
    surface_optimum,
)

from .estimators import LATE, Tuned, case_widths, first_step_theory, ratio_exponent, surface
from .study import CASES

SYNTHETIC = {
    "fixed": "$m=16$",
    "proportional": "$m=4d$",
    "superlinear": "$m=d^2/8$",
}
VARIANTS = {**SYNTHETIC, "structured": "$m=4d$, rank 1", "sign": "$m=4d$, sign", "muon": "Muon"}
COLOURS = {case: f"C{place}" for place, case in enumerate(VARIANTS)}
MARKERS = dict(zip(VARIANTS, "osD^vP", strict=True))
GUIDES = {1.0: r"$d$", 0.5: r"$\sqrt{d}$"}


def optimal_ratio_in_networks(data: xr.Dataset) -> Figure:
    """Layer-wise optimal ratio against width; its exponent by case; real text by vocabulary."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 7), layout="constrained")
    _against_width(panels[0, 0], data)
    _by_case(panels[0, 1], data)
    _by_vocabulary(panels[1, 0], data, "corpus", "MLP on real text, 100 steps")
    _by_vocabulary(panels[1, 1], data, "transformer", "transformer on real text, 50 steps")
    _legend(figure)
    return figure


def _actual(data: xr.Dataset, case: str, width: int) -> float:
    embedding, hidden = grid_factors(CASES[case].setup(width))
    return embedding / hidden


def _against_width(axes: Axes, data: xr.Dataset) -> None:
    for case, label in SYNTHETIC.items():
        widths = case_widths(data, case)
        values = []
        for width in widths:
            cell = surface(data, case, width, LATE)
            optimum = surface_optimum(cell, "ratio_alone")
            interval = optimum_interval(cell, "ratio_alone", resamples=Resamples.QUICK)
            known = is_determined(optimum)
            found = (interval.value, interval.low, interval.high, optimum.low, optimum.high)
            scale = _actual(data, case, width)
            values.append([scale * value if known else np.nan for value in found])
        value, low, high, flat_low, flat_high = np.array(values).T
        style: dict[str, Any] = {"color": COLOURS[case], "marker": MARKERS[case], "linestyle": ""}
        axes.errorbar(widths, value, [value - low, high - value], label=label, zorder=4, **style)
        axes.vlines(widths, flat_low, flat_high, color=COLOURS[case], alpha=0.2, linewidth=5)
        centre = np.nanmean(np.log(value))
        slope = first_step_theory(case, widths)
        line = np.exp(centre + slope * (np.log(widths) - np.mean(np.log(widths))))
        axes.plot(widths, line, color=COLOURS[case], zorder=3)
    axes.set(xscale="log", yscale="log", xlabel="width $d$")
    axes.set_ylabel(r"$\eta_\mathrm{embedding}^*/\eta_\mathrm{hidden}^*$, layer by layer")
    axes.set_title("hidden layer, each layer alone,\n16 steps (line: theory's slope)")
    widths = sorted({width for case in SYNTHETIC for width in case_widths(data, case)})
    axes.set_xticks(widths, map(str, widths))
    axes.minorticks_off()
    axes.set_ylim(bottom=0.02)
    axes.legend(loc="lower right")


READINGS: tuple[tuple[Tuned, str, str], ...] = (
    ("ratio_alone", "o", "layer by layer"),
    ("ratio", "D", "jointly"),
)


def _reading(axes: Axes, place: float, found: RateExponent, number: int) -> None:
    """Value and interval; pale bar: every exponent that near-optimal ratios allow."""
    colour = f"C{number}"
    marker = READINGS[number][1]
    low, high = found.compatible_low + found.rule, found.compatible_high + found.rule
    ends = np.clip([low, high], -1, 3)
    if np.isfinite(ends).all():
        axes.vlines(place, *ends, color=colour, alpha=0.2, linewidth=5)
    actual = found.actual
    error = np.abs([[actual.value - actual.low], [actual.high - actual.value]])
    face = "white" if found.excluded else colour
    axes.errorbar(
        place, actual.value, error, color=colour, marker=marker, markerfacecolor=face, zorder=4
    )


def _exponent_axes(axes: Axes) -> None:
    for value, text in GUIDES.items():
        axes.axhline(value, color="0.6", linewidth=0.9, zorder=1)
        axes.annotate(
            text,
            (1.0, value),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            va="bottom",
            ha="right",
            color="0.35",
        )
    axes.set(ylim=(-1, 2.6), ylabel="exponent of $d$ in the ratio")


def _by_case(axes: Axes, data: xr.Dataset) -> None:
    for place, case in enumerate(VARIANTS):
        for number, (tuned, *_) in enumerate(READINGS):
            found = ratio_exponent(data, case, tuned, LATE)
            _reading(axes, place + 0.3 * (number - 0.5), found, number)
        theory = first_step_theory(case, case_widths(data, case))
        axes.hlines(theory, place - 0.4, place + 0.4, color="black", linestyle=":", zorder=5)
    axes.set_xticks(range(len(VARIANTS)), VARIANTS.values(), rotation=20, ha="right", fontsize=7.5)
    _exponent_axes(axes)
    axes.set_title("Gaussian targets, 16 steps\n(dotted: first-step theory)")


def _by_vocabulary(axes: Axes, data: xr.Dataset, network: str, title: str) -> None:
    cases = [case for case in CASES if case.startswith(network)]
    sizes = [int(case.rpartition("-")[2]) for case in cases]
    for number, (tuned, *_) in enumerate(READINGS):
        for size, case in zip(sizes, cases, strict=True):
            found = ratio_exponent(data, case, tuned, LATE)
            _reading(axes, size * 2 ** (0.4 * (number - 0.5)), found, number)
    theory = [first_step_theory(case, case_widths(data, case)) for case in cases]
    axes.plot(sizes, theory, ":", color="black", zorder=5)
    axes.set(xscale="log", xlabel="vocabulary size $m$")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7.5)
    axes.minorticks_off()
    _exponent_axes(axes)
    axes.set_title(f"{title}\n(dotted: first-step theory)")


def _legend(figure: Figure) -> None:
    """Of the exponents' three panels, below all: bars fill their height."""
    handles = [
        Line2D([], [], color=f"C{number}", marker=marker, linestyle="", label=label)
        for number, (_, marker, label) in enumerate(READINGS)
    ]
    handles.append(
        Line2D([], [], color="0.8", linewidth=5, label="all that near-optimal ratios allow")
    )
    figure.legend(handles=handles, loc="outside lower right", ncols=len(handles))


FIGURES = {
    "optimal_ratio_networks": (optimal_ratio_in_networks, ("optimal_ratio",)),
}
