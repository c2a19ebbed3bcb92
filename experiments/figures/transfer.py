"""Figures of learning-rate transfer: one sweep's fit and metrics, and the fit's own trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dynsim import Transfer, TransferParameter
from experiments.results import study_config

MOST_PANELS = 8
COLUMNS = 4
POINTS = {"linestyle": "", "marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.5}
LAWS = {
    "learning_rate": r"optimum $\eta^*$",
    "loss": r"lowest loss $L^*$",
    "curvature": r"curvature $H$",
}


def transfer_metrics(
    labels: Sequence[str], fits: Sequence[Transfer], penalties: Sequence[TransferParameter]
) -> Figure:
    """Loss against learning rate by width with the joint fit, for up to eight groups; then the
    optimum, the lowest loss and the curvature against width, and (E, κ) with R∞ as colour."""
    rows = -(-min(len(fits), MOST_PANELS) // COLUMNS)
    figure, panels = plt.subplots(
        rows + 1, COLUMNS, figsize=(12, 2.9 * (rows + 1)), layout="constrained", squeeze=False
    )
    curves = panels[:rows].ravel()
    for axes, label, fit in zip(curves, labels, fits, strict=False):
        _losses(axes, fit)
        axes.set_title(label)
    for axes in curves[len(fits) :]:
        axes.set_axis_off()
    shown = min(len(fits), MOST_PANELS)
    for axes, name in zip(panels[-1], LAWS, strict=False):
        for number in range(shown):
            _law(axes, fits[number], name, f"C{number % 7}", labels[number])
        axes.set(xscale="log", xlabel="width $N$", ylabel=LAWS[name])
        if name != "loss":
            axes.set_yscale("log")
    if shown > 1:
        panels[-1, 0].legend()
    _plane(figure, panels[-1, 3], labels, fits, penalties)
    return figure


def _losses(axes: Axes, fit: Transfer) -> None:
    """Mean losses (faint: not in the fit), each width's optimum (cross) and the joint fit."""
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(fit.curves)))
    heights = []
    for colour, curve in zip(colours, fit.curves, strict=True):
        rates, losses, near = curve.learning_rates, curve.losses, curve.near
        used = near & (curve.status == "ok")
        axes.plot(rates[~used], losses[~used], color=colour, alpha=0.35, **POINTS)
        axes.plot(rates[used], losses[used], color=colour, label=f"{curve.width:g}", **POINTS)
        heights.extend(losses[near])
        if curve.status == "ok":
            fine = np.geomspace(rates[near].min(), rates[near].max(), 60)
            if fit.surface is not None:
                axes.plot(fine, fit.predict(curve.width, fine), color=colour)
            axes.plot(curve.learning_rate.value, curve.loss.value, "x", color="black", zorder=5)
    axes.set(xscale="log", xlabel=r"base learning rate $\eta$", ylabel="loss")
    if heights:
        low, high = min(heights), max(heights)
        axes.set_ylim(low - 0.06 * (high - low), high + 0.1 * (high - low))
    axes.legend(title="width", ncols=2, title_fontsize=7.5)


def _law(axes: Axes, fit: Transfer, name: str, colour: str, label: str) -> None:
    """A quantity of each width with its interval, and the power law of the joint fit."""
    used = [curve for curve in fit.curves if curve.status == "ok"]
    if not used:
        return
    widths = np.array([curve.width for curve in used])
    points = [getattr(curve, name) for curve in used]
    value = np.array([point.value for point in points])
    low = np.array([point.low for point in points])
    high = np.array([point.high for point in points])
    bars = np.nan_to_num(np.stack([value - low, high - value])).clip(0)
    axes.errorbar(widths, value, bars, color=colour, label=label, **POINTS)
    if fit.surface is not None:
        fine = np.geomspace(widths[0], widths[-1], 60)
        law = {
            "learning_rate": np.exp(fit.surface.best_log_rate(np.log(fine))),
            "loss": fit.surface.lowest_loss(np.log(fine)),
            "curvature": fit.surface.curvature_at(np.log(fine)),
        }[name]
        axes.plot(fine, law, color=colour)


def _plane(
    figure: Figure,
    axes: Axes,
    labels: Sequence[str],
    fits: Sequence[Transfer],
    penalties: Sequence[TransferParameter],
) -> None:
    """Groups in the plane of E and κ; colour is R∞ (white: undetermined)."""
    known = [k for k, fit in enumerate(fits) if not fit.robustness.status.startswith("undet")]
    axes.set(xlabel="error of the fit $E$", ylabel=r"$\kappa=\alpha-2\beta+\gamma$")
    axes.axhline(0, color="0.6", linewidth=0.9)
    if not known:
        axes.text(0.5, 0.6, r"no $\kappa$ is determined", ha="center", transform=axes.transAxes)
        return
    error = np.array([fits[k].error for k in known])
    kappa = np.array([fits[k].robustness.value for k in known])
    low = np.array([fits[k].robustness.low for k in known])
    high = np.array([fits[k].robustness.high for k in known])
    bars = np.nan_to_num(np.stack([kappa - low, high - kappa])).clip(0)
    axes.errorbar(error, kappa, bars, linestyle="", color="0.5", zorder=2)
    colour = np.array(
        [np.nan if penalties[k].status.startswith("undet") else penalties[k].value for k in known]
    )
    points = axes.scatter(
        error, kappa, c=colour, cmap="viridis", edgecolors="black", zorder=3, plotnonfinite=True
    )
    figure.colorbar(points, ax=axes, label=r"$R_\infty$")
    for x, y, k in zip(error, kappa, known, strict=True):
        axes.annotate(labels[k], (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")


SHOWN = {
    "loss_exponent": r"$\alpha$",
    "rate_exponent": r"$\beta$",
    "curvature_exponent": r"$\gamma$",
    "robustness": r"$\kappa$",
    "loss_limit": r"$L_\infty$",
    "rate_limit": r"$\eta_\infty$",
}


def coverage(study: xr.Dataset, recipe: str, sure: bool) -> NDArray[np.float64]:
    """Share of intervals that hold the truth, shape (scenarios, SHOWN); `sure`: status ok only."""
    picked = study.sel(parameter=list(SHOWN))
    interval = picked.interval.sel(recipe=recipe)
    holds = (interval.sel(end="low") <= picked.truth) & (picked.truth <= interval.sel(end="high"))
    if sure:
        holds = holds.where(picked.status == 0)
    return holds.mean("trial").transpose("scenario", "parameter").values


def transfer_coverage(study: xr.Dataset) -> Figure:
    """Coverage of 95 % intervals by scenario, how often one is given, and what recipes cover."""
    scenarios = [cell["scenario"] for cell in study_config(study)["cells"]]
    scenarios.remove("no noise")
    study = study.sel(scenario=scenarios)
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(12, 4.6), layout="constrained", sharey="row"
    )
    heights = np.arange(len(scenarios))
    determined = (study.status == 0).sel(parameter=list(SHOWN)).mean("trial")
    shares = determined.transpose("scenario", "parameter").values
    for number, label in enumerate(SHOWN.values()):
        offset = heights + 0.1 * (number - 2.5)
        style = {**POINTS, "color": f"C{number}", "label": label}
        left.plot(coverage(study, "drawn out", sure=True)[:, number], offset, **style)
        middle.plot(shares[:, number], offset, **style)
    for number, recipe in enumerate(study.recipe.values):
        mean = np.nanmean(coverage(study, str(recipe), sure=False), axis=1)
        right.plot(mean, heights, color=f"C{number}", label=str(recipe), **POINTS)
    for axes, title in (
        (left, "intervals with status ok that hold the truth"),
        (middle, "fits with status ok"),
        (right, "all intervals that hold the truth, mean of parameters"),
    ):
        axes.set(title=title, xlim=(-0.03, 1.03), yticks=heights, yticklabels=scenarios)
    left.legend(loc="center")
    right.legend(loc="center left")
    for axes in (left, right):
        axes.axvline(0.95, color="0.5", linewidth=0.9)
    left.invert_yaxis()
    return figure


TRANSFER_FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "transfer_coverage": (transfer_coverage, ("transfer_coverage",)),
}
