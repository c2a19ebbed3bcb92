"""Figures of optimal learning rates. Lines are mean-field theory, points are trained networks."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dynsim import Estimate, bootstrap, optimal_learning_rates
from dynsim.statistics import Optimum, Resamples, joint_optimum, optima_ratio, rate_optimum

from .estimators import (
    family_widths,
    horizons,
    joint_losses,
    layer_curves,
    layer_exponent,
    log_layer_ratio,
    predicted_layerwise,
)
from .study import FAMILIES

LABELS = {"fixed": "$m=16$", "proportional": "$m=4d$", "superlinear": "$m=d^{3/2}$"}
MARKERS = dict(zip(LABELS, "osD", strict=True))
COLOURS = {family: f"C{number}" for number, family in enumerate(LABELS)}
POINTS = {"linestyle": "", "markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 4}

Floats = NDArray[np.float64]


def optimal_ratio(layers: xr.Dataset, joint: xr.Dataset) -> Figure:
    """Optimal LR ratio against width, layer by layer and joint, and its exponent against steps."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 6.8), layout="constrained")
    late = max(horizons(layers))
    for axes, horizon in zip(panels[0], (1, late), strict=True):
        for family in LABELS:
            _layerwise(axes, layers, family, horizon)
        _guides(axes, 1400, (60, 350))
        _ratio_axes(axes, (9, 2e4))
        steps = "one step" if horizon == 1 else f"{horizon} steps"
        axes.set_title(rf"each layer alone, {steps} ($\mu$P init)")
    panels[0, 0].plot([], [], ":", color="black", label="closed form")
    panels[0, 0].legend()
    _joint(panels[1, 0], joint)
    _exponents(panels[1, 1], layers)
    return figure


def _ratio_axes(axes: Axes, limits: tuple[float, float]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="width $d$", ylabel=r"$\eta_E^*/\eta_W^*$")
    axes.set(xlim=(50, 21000), ylim=limits)


def _guides(axes: Axes, start: float, heights: tuple[float, float]) -> None:
    """Slopes 1 and 1/2 from one point."""
    span = np.array([start, 8 * start])
    for exponent, text in ((1.0, "$d$"), (0.5, r"$\sqrt{d}$")):
        height = heights[exponent == 1.0]
        axes.plot(span, height * (span / start) ** exponent, color="0.55", linewidth=0.9, zorder=1)
        axes.text(span[1] * 1.06, height * 8**exponent, text, fontsize=8, color="0.35", va="center")


def _layerwise(axes: Axes, data: xr.Dataset, family: str, horizon: int) -> None:
    colour = COLOURS[family]
    widths = family_widths(data, family, "theory")
    optima = [_layer_optimum(data, family, width, horizon) for width in widths]
    values, lows, highs = np.array([[one.value, one.low, one.high] for one in optima]).T
    axes.plot(widths, values, color=colour)
    axes.fill_between(widths, lows, highs, color=colour, alpha=0.15, linewidth=0)
    if horizon == 1:
        fine = np.unique(np.geomspace(widths[0], widths[-1], 24).round().astype(int))
        closed = [_closed_ratio(family, int(width)) for width in fine]
        axes.plot(fine, closed, ":", color="black", linewidth=1, zorder=3)
    widths = family_widths(data, family, "networks")
    points = [_measured(data, family, width, horizon) for width in widths]
    value, low, high = np.exp([[one.value, one.low, one.high] for one in points]).T
    axes.errorbar(
        widths,
        value,
        [value - low, high - value],
        marker=MARKERS[family],
        color=colour,
        label=LABELS[family],
        **POINTS,
    )


def _layer_optimum(data: xr.Dataset, family: str, width: int, horizon: int) -> Optimum:
    rates, losses = layer_curves(data, family, "theory", width, horizon)
    means = losses.mean(axis=-1)
    return optima_ratio(
        *(rate_optimum(*one, initial_loss=1.0) for one in zip(rates, means, strict=True))
    )


def _closed_ratio(family: str, width: int) -> float:
    setup = FAMILIES[family].setup(width, 2)
    embedding, projection = optimal_learning_rates(
        width, setup.law(), init=setup.init, targets="gaussian"
    )
    return float(embedding / projection)


def _measured(data: xr.Dataset, family: str, width: int, horizon: int) -> Estimate:
    """log(eta_E*/eta_W*) of networks with its bootstrap interval."""
    rates, losses = layer_curves(data, family, "networks", width, horizon)

    def log_ratio(sample: Floats, axis: int = -1) -> Floats:
        resamples_first = np.moveaxis(sample, (0, 1), (-3, -2))
        return np.asarray(log_layer_ratio(rates, resamples_first, axis))

    return bootstrap(log_ratio, [losses], resamples=Resamples.QUICK, vectorized=True)


def _joint(axes: Axes, data: xr.Dataset) -> None:
    """Near-optimal joint ratios along m = 4d: bands are theory, bars are networks."""
    top = 3e5
    cases = (
        ("proportional", 1, "C5", "s"),
        ("proportional", 4, "C1", "o"),
        ("proportional-sp", 4, "C3", "D"),
    )
    for number, (family, horizon, colour, marker) in enumerate(cases):
        widths = family_widths(data, family, "theory")
        lows, highs = np.transpose(
            [_joint_interval(data, family, "theory", width, horizon) for width in widths]
        )
        axes.fill_between(
            widths, lows, np.minimum(highs, top), color=colour, alpha=0.15, linewidth=0
        )
        axes.plot(widths, lows, color=colour)
        if np.all(np.isfinite(highs)):
            axes.plot(widths, highs, color=colour)
        widths = np.array(family_widths(data, family, "networks"))
        place = widths * 1.07 ** (number - 1)
        lows, highs = np.transpose(
            [_joint_interval(data, family, "networks", int(width), horizon) for width in widths]
        )
        axes.vlines(place, lows, np.minimum(highs, top), color=colour, linewidth=1.1, zorder=3)
        axes.plot(place, lows, marker=marker, color=colour, **POINTS)
    _guides(axes, 1700, (900, 5500))
    _ratio_axes(axes, (1, top))
    axes.set_title("both layers, $m=4d$: all ratios within 1 % of the best")
    axes.text(560, 1.3e5, r"$\mu$P init, 4 steps: no upper end", fontsize=8, color="C1")
    axes.text(1500, 190, r"$\mu$P init, one step", fontsize=8, color="C5")
    axes.text(1500, 11, "SP init, 4 steps", fontsize=8, color="C3")


def _joint_interval(
    data: xr.Dataset, family: str, source: str, width: int, horizon: int
) -> tuple[float, float]:
    embedding, projection, losses = joint_losses(data, family, source, width, horizon)
    ratio = joint_optimum(embedding, projection, losses.mean(axis=-1), initial_loss=1.0).ratio
    return ratio.low, ratio.high


def _exponents(axes: Axes, data: xr.Dataset) -> None:
    """Exponent of the layer-wise ratio against the number of steps."""
    steps = horizons(data)
    cases = {**{family: COLOURS[family] for family in LABELS}, "proportional-sp": "C3"}
    for number, (family, colour) in enumerate(cases.items()):
        found = [layer_exponent(data, family, horizon=horizon) for horizon in steps]
        place = np.array(steps) * 1.03 ** (number - 1.5)
        value, low, high = np.transpose(
            [(e.measured.value, e.measured.low, e.measured.high) for e in found]
        )
        axes.errorbar(
            place,
            value,
            [value - low, high - value],
            marker=MARKERS.get(family, "^"),
            color=colour,
            **POINTS,
        )
        axes.plot(place, np.array([e.simulated for e in found], float), color=colour)
        derived = predicted_layerwise(family)
        axes.plot([0.8, steps[-1] * 1.15], [derived, derived], ":", color=colour, linewidth=1)
        label = LABELS.get(family, "$m=4d$, SP init")
        axes.text(
            steps[-1] * 1.25,
            derived,
            label,
            color=colour,
            va="center",
            fontsize=8,
        )
    axes.set(
        xscale="log",
        xlabel="training steps $T$",
        ylabel=r"exponent of $d$ in $\eta_E^*/\eta_W^*$",
        title="each layer alone: exponent by training steps",
        xlim=(0.8, steps[-1] * 3.2),
        ylim=(-0.25, 1.2),
        xticks=steps,
        xticklabels=[str(step) for step in steps],
    )
    axes.minorticks_off()
    handles = [
        Line2D([], [], color="0.3", label="mean-field theory"),
        Line2D([], [], color="0.3", linestyle=":", label="derived, one step"),
        Line2D([], [], color="0.3", marker="o", linestyle="", label="trained networks"),
    ]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(0, 0.37))


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "optimal_ratio": (optimal_ratio, ("optimal_rates", "joint_rates")),
}
