"""Figure of the trial of the transfer fit: how often its intervals hold the truth."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.plots.transfer import POINTS
from experiments.results import study_config

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


def penalty_intervals(study: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Of R∞ with status ok, by scenario and pairing of seeds: share of intervals that hold the
    truth, and their median half width over L∞."""
    part = study.penalty.sel(penalty_part=["truth", "status"]).to_dataset("penalty_part")
    ends = study.penalty_interval.where(part.status == 0).to_dataset("end")
    holds = (ends.low <= part.truth) & (part.truth <= ends.high)
    limit = study.truth.sel(parameter="loss_limit")
    half = (ends.high - ends.low) / 2 / limit
    return holds.where(part.status == 0).mean("trial"), half.median("trial")


def transfer_coverage(study: xr.Dataset) -> Figure:
    """Coverage of 95 % intervals by scenario, how often one is given, and what recipes cover; then
    coverage and width of the interval of R∞, with seeds paired or taken as independent."""
    scenarios = [cell["scenario"] for cell in study_config(study)["cells"]]
    scenarios.remove("no noise")
    study = study.sel(scenario=scenarios)
    figure, panels = plt.subplot_mosaic(
        "ab;cd;e.", figsize=(8, 10.5), layout="constrained", sharey=True
    )
    left, middle, right, held, width = (panels[name] for name in "abcde")
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
    shares, halves = penalty_intervals(study)
    for number, pairing in enumerate(study.pairing.values):
        style = {**POINTS, "color": f"C{number}", "label": f"seeds {pairing}"}
        held.plot(shares.sel(pairing=pairing), heights, **style)
        width.plot(100 * halves.sel(pairing=pairing), heights, **style)
    for axes, title in (
        (held, r"intervals of $R_\infty$ with status ok that hold the truth"),
        (left, "intervals with status ok that hold the truth"),
        (middle, "fits with status ok"),
        (right, "all intervals that hold the truth, mean of parameters"),
    ):
        axes.set(title=title, xlim=(-0.03, 1.03), yticks=heights, yticklabels=scenarios)
    width.set(
        title=r"median half width of intervals of $R_\infty$",
        xscale="log",
        xlabel=r"% of $L_\infty$",
    )
    left.legend(loc="center")
    for axes in (right, held):
        axes.legend(loc="center left")
    for axes in (left, right, held):
        axes.axvline(0.95, color="0.5", linewidth=0.9)
    left.invert_yaxis()
    return figure


def one_seed_intervals(study: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """With one seed, of status ok: share of intervals that hold the truth, and their median half
    width, by scenario and parameter."""
    ends = study.interval.where(study.status == 0).to_dataset("end")
    holds = (ends.low <= study.truth) & (study.truth <= ends.high)
    given = ends.low.notnull()
    return holds.where(given).mean("trial"), ((ends.high - ends.low) / 2).median("trial")


def transfer_coverage_one_seed(study: xr.Dataset, several: xr.Dataset) -> Figure:
    """Coverage of 95 % intervals from scatter with one seed, beside that of intervals over seeds,
    and how much wider they are."""
    scenarios = [cell["scenario"] for cell in study_config(study)["cells"]]
    study, several = study.sel(scenario=scenarios), several.sel(scenario=scenarios)
    share, half = one_seed_intervals(study)
    recipe = several.interval.sel(recipe="drawn out").where(several.status == 0)
    ends = recipe.to_dataset("end")
    over_seeds = ((ends.high - ends.low) / 2).median("trial")
    figure, (held, wider) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
    heights = np.arange(len(scenarios))
    labels = {**SHOWN, "transfer_cost": "cost"}
    for number, (name, label) in enumerate(labels.items()):
        style = {**POINTS, "color": f"C{number}", "label": label}
        offset = heights + 0.1 * (number - 3)
        held.plot(share.sel(parameter=name), offset, **style)
        if name in SHOWN:
            ratio = half.sel(parameter=name) / over_seeds.sel(parameter=name)
            wider.plot(ratio, offset, **style)
    over = xr.DataArray(coverage(several, "drawn out", sure=True), dims=("scenario", "parameter"))
    mean = over.mean("parameter")  # of those that have an interval
    held.plot(mean, heights, "|", color="0.3", markersize=12, label="over seeds, mean")
    held.axvline(0.95, color="0.5", linewidth=0.9)
    held.set(
        title="one seed: intervals with status ok that hold the truth",
        xlim=(0.5, 1.02),
        yticks=heights,
        yticklabels=scenarios,
    )
    wider.set(title="their median half width over that with seeds", xscale="log")
    wider.axvline(1, color="0.5", linewidth=0.9)
    held.legend(loc="lower left")
    held.invert_yaxis()
    return figure


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "transfer_coverage": (transfer_coverage, ("transfer_coverage",)),
    "transfer_coverage_one_seed": (
        transfer_coverage_one_seed,
        ("transfer_coverage_one_seed", "transfer_coverage"),
    ),
}
