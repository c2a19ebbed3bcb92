"""Figure of transfer in the linear model. Lines are mean-field theory, points trained networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dynsim.statistics import jackknife

from .estimators import (
    LIMIT_WIDTH,
    best_rule,
    cell,
    least_squares_floor,
    log_optimum,
    optima,
    penalty,
    stacked,
)
from .study import (
    BASE_WIDTH,
    CASES,
    LAYERS,
    MOST_FINITE_WIDTH,
    NETWORK_WIDTHS,
    RULES,
    THEORY_WIDTHS,
)

TITLES = {
    "fixed": r"$\mu$P init, $m=16$",
    "proportional": r"$\mu$P init, $m=4d$",
    "fixed-sp": "SP init, $m=16$",
    "proportional-sp": "SP init, $m=4d$",
}
NAMES = {
    "width": r"$\times d$ ($x=0$)",
    "root": r"$\times\sqrt{d}$ ($x=-1/2$)",
    "none": "no rule ($x=-1$)",
}
COLOURS = {rule: f"C{number}" for number, rule in enumerate(RULES)}
SHADES = dict(zip((f"frozen {layer}" for layer in LAYERS), ("0.1", "0.55"), strict=True))
POINTS = {"linestyle": "", "marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.5}

Floats = NDArray[np.float64]


def transfer_theory(data: xr.Dataset, ratios: xr.Dataset) -> Figure:
    """Lowest loss and best base rate against width, case by case, and the limits against m/d."""
    figure, panels = plt.subplots(len(CASES) + 1, 2, figsize=(8, 13), layout="constrained")
    for (left, right), case in zip(panels, CASES, strict=False):
        _lowest_losses(left, data, case)
        _best_rates(right, data, case)
    _ratios(panels[-1, 0], ratios)
    panels[-1, 1].axis("off")
    panels[-1, 1].legend(*_entries(panels[0, 0]), loc="center", fontsize="medium")
    return figure


def _entries(axes: Axes) -> tuple[list[Artist], list[str]]:
    lines, labels = axes.get_legend_handles_labels()
    others = {
        "networks": Line2D([], [], color="0.4", **POINTS),
        "derived slope": Line2D([], [], color="black", linestyle=":"),
        "least squares, $1-d/m$": Line2D([], [], color="black", linestyle="-."),
    }
    return [*lines, *others.values()], [*labels, *others]


def _optimum(data: xr.Dataset, case: str, source: str, width: int, curve: str) -> Floats:
    """ln eta* and L*."""
    one = [cell(data, case, source, width, curve)]
    return optima(one, stacked(one))[:, 0]


def _log_rate(data: xr.Dataset, case: str, source: str, width: int, rule: str) -> Floats:
    """ln eta* with its interval over tasks."""
    one = [cell(data, case, source, width, rule)]

    def statistic(losses: Floats, axis: int = -1) -> Floats:
        return np.asarray(optima(one, losses, axis)[0, 0])

    found = jackknife(statistic, [stacked(one)])
    return np.array([found.value, found.low, found.high])


def _lowest_losses(axes: Axes, data: xr.Dataset, case: str) -> None:
    best = best_rule(data, case)

    def interval(source: str, width: int, rule: str) -> Floats:
        """L* with the interval of its distance from the best rule's."""
        lowest = _optimum(data, case, source, width, best)[1]
        return lowest * (1 + penalty(data, case, source, width, rule, best))

    _curves(axes, lambda source, widths, rule: [interval(source, d, rule) for d in widths])
    low, high = axes.get_ylim()
    for curve, shade in SHADES.items():
        frozen = _optimum(data, case, "theory", LIMIT_WIDTH, curve)[1]
        above = frozen > high + (high - low) / 4
        if above:
            note = rf"{curve}: {frozen:.2f} $\uparrow$"
            axes.text(0.97, 0.97, note, ha="right", va="top", transform=axes.transAxes)
        else:
            axes.axhline(frozen, color=shade, linestyle="--", label=f"{curve}, $d=2^{{20}}$")
    top = max(high, axes.get_ylim()[1])
    axes.set(title=TITLES[case], ylabel=r"lowest loss $L^*$", ylim=(low, top + 0.12 * (top - low)))


def _best_rates(axes: Axes, data: xr.Dataset, case: str) -> None:
    def intervals(source: str, widths: Sequence[int], rule: str) -> list[Floats]:
        logs = [_log_rate(data, case, source, width, rule) for width in widths]
        return [np.exp(log - logs[0][0]) for log in logs]

    _curves(axes, intervals)
    widths = np.array([MOST_FINITE_WIDTH, LIMIT_WIDTH])
    for rule in RULES:
        start, end = (
            _optimum(data, case, "theory", width, rule)[0] for width in (BASE_WIDTH, LIMIT_WIDTH)
        )
        slope = float(CASES[case].base_rate(rule).exponent)
        line = np.exp(end - start) * (widths / LIMIT_WIDTH) ** slope
        axes.plot(widths, line, ":", color="black", zorder=5)
    axes.set(title=TITLES[case], yscale="log", ylabel=r"best base rate $\eta^*/\eta^*(64)$")


def _curves(axes: Axes, intervals: Callable[[str, Sequence[int], str], list[Floats]]) -> None:
    """Every rule's values with their intervals, each of shape (3,), at the widths of a source."""
    for number, rule in enumerate(RULES):
        value, low, high = np.array(intervals("theory", THEORY_WIDTHS, rule)).T
        axes.plot(THEORY_WIDTHS, value, color=COLOURS[rule], label=NAMES[rule])
        band = {"color": COLOURS[rule], "alpha": 0.12, "linewidth": 0}
        axes.fill_between(THEORY_WIDTHS, low, high, **band)
        value, low, high = np.array(intervals("networks", NETWORK_WIDTHS, rule)).T
        place = np.array(NETWORK_WIDTHS) * 1.08 ** (number - 1)
        bars = [value - low, high - value]
        axes.errorbar(place, value, bars, color=COLOURS[rule], zorder=4, elinewidth=0.8, **POINTS)
    axes.set(xscale="log", xlabel="width $d$", xlim=(BASE_WIDTH / 1.4, LIMIT_WIDTH * 1.4))


def _ratios(axes: Axes, data: xr.Dataset) -> None:
    """Limits of the rules and of networks with a frozen layer against m/d, under muP init."""
    ratio = data.ratio.to_numpy()
    for curve, colour in {**COLOURS, **SHADES}.items():
        one = data.sel(curve=curve)
        losses = one.loss.mean("seed").transpose("ratio", "octave").to_numpy()
        rates = one.rate.transpose("ratio", "octave").to_numpy()
        lowest = [log_optimum(*pair)[1] for pair in zip(rates, losses, strict=True)]
        axes.plot(ratio, lowest, "o-" if curve in RULES else "o--", color=colour)
    fine = np.geomspace(ratio[0], ratio[-1], 200)
    axes.plot(fine, least_squares_floor(fine), "-.", color="black")
    axes.set(xscale="log", xlabel="$m/d$", ylabel=r"lowest loss $L^*$", ylim=(0, 1))
    axes.set_title(r"$\mu$P init, $m\propto d$, $d=2^{16}$")


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "transfer_theory": (transfer_theory, ("transfer_theory", "transfer_ratio")),
}
