"""Figures of learning-rate transfer: one sweep's fit and metrics, and the fit's own trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dynsim import Status, Transfer
from dynsim.transfer import TransferParameter

MOST_PANELS = 8
COLUMNS = 4
LINE = 150  # characters that fit side by side
GROUP_COLOURS = (*(f"C{number}" for number in range(7)), "0.55")
OTHER_GROUPS = "0.8"
POINTS = {"linestyle": "", "marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.5}
LAWS = {
    "learning_rate": r"optimum $\eta^*$",
    "loss": r"lowest loss $L^*$",
    "curvature": r"curvature $H$ in $\ln\eta$",
}


def transfer_metrics(
    labels: Sequence[str], fits: Sequence[Transfer], penalties: Sequence[TransferParameter]
) -> Figure:
    """Loss against learning rate by width with the joint fit, for up to eight groups, and their
    optimum, lowest loss and curvature against width; then (E, κ) of all groups with R∞ as colour,
    where there are several."""
    shown = min(len(fits), MOST_PANELS)
    widths = sorted({curve.width for fit in fits[:shown] for curve in fit.curves})
    ramp = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(widths)))
    colours = dict(zip(widths, ramp, strict=True))
    if shown == 1:
        figure = plt.figure(figsize=(12, 3.2), layout="constrained")
        first, *laws = figure.subplots(1, COLUMNS)
        curves, columns, upper = [first], COLUMNS, figure
    else:
        rows = -(-shown // COLUMNS)
        columns = -(-shown // rows)
        keys, keys_aside = _group_keys(labels)
        heights = (2.9 * rows + 0.4, 2.9 + 0.17 * -(-len(keys) // keys_aside))
        figure = plt.figure(figsize=(12, sum(heights)), layout="constrained")
        upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
        lower.legend(handles=keys, loc="outside lower center", ncols=keys_aside)
        grid = upper.subplots(rows, columns, squeeze=False)
        for axes in grid.ravel()[shown:]:
            axes.set_axis_off()
        curves = grid.ravel()[:shown]
        *laws, plane = lower.subplots(1, COLUMNS)
        _plane(plane, fits, penalties)
    for axes, label, fit in zip(curves, labels, fits, strict=False):
        _losses(axes, fit, colours)
        axes.set_title(f"{fill(label, LINE // columns)}\n{_metrics(fit)}")
    for axes, name in zip(laws, LAWS, strict=True):
        for fit, colour, label in zip(fits, GROUP_COLOURS, labels, strict=False):
            _law(axes, fit, name, colour, label)
        axes.set(xscale="log", xlabel="width $N$", ylabel=LAWS[name])
        axes.set_xticks(widths[:: -(-len(widths) // 6)])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        if name != "loss":
            axes.set_yscale("log")
    upper.legend(
        handles=[_key(colour, f"{width:g}") for width, colour in colours.items()],
        title="width",
        loc="outside upper center",
        ncols=12,
        title_fontsize=7.5,
    )
    return figure


def _metrics(fit: Transfer) -> str:
    """E and κ of a group, as its title says them."""
    if fit.surface is None:
        return "no joint fit"
    known = fit.robustness.status is not Status.UNDETERMINED
    kappa = rf"$\kappa={fit.robustness.value:.2f}$" if known else r"$\kappa$ undetermined"
    misfit = ", misfit" if fit.curvature_exponent.status is Status.MISFIT else ""
    return rf"$E$ = {100 * fit.error:.2g} %, {kappa}{misfit}"


def _key(colour: Any, label: str) -> Line2D:
    return Line2D([], [], color=colour, label=label, **POINTS)


def _group_keys(labels: Sequence[str]) -> tuple[list[Line2D], int]:
    """Legend entries of the groups in panels and of all others; how many fit side by side."""
    keys = [_key(*pair) for pair in zip(GROUP_COLOURS, labels, strict=False)]
    if others := len(labels) - len(keys):
        keys.append(_key(OTHER_GROUPS, f"others ({others}), in the last panel only"))
    longest = max(len(str(key.get_label())) for key in keys)
    return keys, max(1, min(len(keys), LINE // (longest + 6)))


def _losses(axes: Axes, fit: Transfer, colours: Mapping[float, Any]) -> None:
    """Mean losses (faint: not in the fit), each width's optimum (cross) and the joint fit."""
    heights = []
    for curve in fit.curves:
        colour = colours[curve.width]
        rates, losses, near = curve.learning_rates, curve.losses, curve.near
        used = near & curve.outcome.ok
        axes.plot(rates[~used], losses[~used], color=colour, alpha=0.35, **POINTS)
        axes.plot(rates[used], losses[used], color=colour, **POINTS)
        heights.extend(losses[near])
        if curve.outcome.ok:
            fine = np.geomspace(rates[near].min(), rates[near].max(), 60)
            if fit.surface is not None:
                axes.plot(fine, fit.predict(curve.width, fine), color=colour)
            axes.plot(curve.learning_rate.value, curve.loss.value, "x", color="black", zorder=5)
    axes.set(xscale="log", xlabel=r"base learning rate $\eta$", ylabel="loss")
    tried = np.concatenate([curve.learning_rates for curve in fit.curves])
    if tried.size:
        axes.set_xticks(*_rate_ticks(tried.min(), tried.max()))
        axes.minorticks_off()
    if heights:
        low, high = min(heights), max(heights)
        margin = 0.06 * (high - low or high)
        axes.set_ylim(low - margin, high + margin)


def _rate_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Powers of ten, else of two, of which the range holds two or more; else its ends."""
    for base in (10, 2):
        first, last = (math.log(end, base) for end in (low, high))
        powers = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
        if len(powers) > 1:
            powers = powers[:: -(-len(powers) // 4)]
            return [base**power for power in map(float, powers)], [
                f"${base}^{{{power}}}$" for power in powers
            ]
    return [low, high], [f"{low:.2g}", f"{high:.2g}"]


def _law(axes: Axes, fit: Transfer, name: str, colour: str, label: str) -> None:
    """A quantity of each width with its interval (open: of a misfit), and the power law of the
    joint fit."""
    used = [curve for curve in fit.curves if curve.outcome.ok]
    if not used:
        return
    widths = np.array([curve.width for curve in used])
    points = [getattr(curve, name) for curve in used]
    value = np.array([point.value for point in points])
    low = np.array([point.low for point in points])
    high = np.array([point.high for point in points])
    bars = np.nan_to_num(np.stack([value - low, high - value])).clip(0)
    style = {**POINTS, "color": colour, "label": label}
    if fit.curvature_exponent.status is Status.MISFIT:
        style |= {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.2}
    axes.errorbar(widths, value, bars, **style)
    if fit.surface is not None:
        fine = np.geomspace(widths[0], widths[-1], 60)
        law = {
            "learning_rate": np.exp(fit.surface.best_log_rate(np.log(fine))),
            "loss": fit.surface.lowest_loss(np.log(fine)),
            "curvature": fit.surface.curvature_at(np.log(fine)),
        }[name]
        axes.plot(fine, law, color=colour)


def _picked(colours: Sequence[str], which: NDArray[np.bool_]) -> list[str]:
    return [colour for colour, one in zip(colours, which, strict=True) if one]


def _plane(axes: Axes, fits: Sequence[Transfer], penalties: Sequence[TransferParameter]) -> None:
    """Groups in the plane of E and κ, edged in their colour and filled with R∞ (white:
    undetermined); misfits are open diamonds."""
    undetermined = [fit.robustness.status is Status.UNDETERMINED for fit in fits]
    known = [k for k, one in enumerate(undetermined) if not one]
    if not known:
        axes.set_axis_off()
        axes.text(0.5, 0.5, r"no $\kappa$ is determined", ha="center", transform=axes.transAxes)
        return
    error = 100 * np.array([fits[k].error for k in known])
    kappa = np.array([fits[k].robustness.value for k in known])
    low = np.array([fits[k].robustness.low for k in known])
    high = np.array([fits[k].robustness.high for k in known])
    bars = np.nan_to_num(np.stack([kappa - low, high - kappa])).clip(0)
    edges = [GROUP_COLOURS[k] if k < MOST_PANELS else OTHER_GROUPS for k in known]
    shown = [penalties[k] for k in known]
    colour = np.array([np.nan if one.status is Status.UNDETERMINED else one.value for one in shown])
    axes.axhline(0, color="0.6", linewidth=0.9)
    axes.vlines(error, kappa - bars[0], kappa + bars[1], colors=edges, zorder=2)
    misfit = np.array([fits[k].robustness.status is Status.MISFIT for k in known])
    open_markers = {"marker": "D", "facecolors": "white", "edgecolors": _picked(edges, misfit)}
    axes.scatter(error[misfit], kappa[misfit], 28, linewidths=1.5, zorder=3, **open_markers)
    colour = colour[~misfit]
    known_colours = colour[np.isfinite(colour)]
    points = axes.scatter(
        *(error[~misfit], kappa[~misfit], 32, colour),
        cmap=plt.get_cmap("viridis").with_extremes(bad="white"),
        vmin=0,
        vmax=known_colours.max() if len(known_colours) else 1,
        edgecolors=_picked(edges, ~misfit),
        linewidths=1.5,
        zorder=3,
        plotnonfinite=True,
    )
    if np.any(np.isfinite(colour)):
        plt.colorbar(points, ax=axes, label=r"$R_\infty$ (fill)")
    remarks = [f"without $\\kappa$, not shown: {len(fits) - len(known)}"] * (len(known) < len(fits))
    remarks += ["open diamonds: misfits"] * bool(misfit.any())
    axes.set_title("\n".join(remarks))
    axes.set(xlabel="error of the fit $E$ (%)", ylabel=r"$\kappa=\alpha-2\beta+\gamma$")
    if error.max() > 10 * error.min() > 0:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
