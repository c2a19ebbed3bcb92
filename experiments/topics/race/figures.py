"""Figure of the race: what each rule costs at the large width, by task."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.results import study_config

from .estimators import regret
from .study import RULES, SMALL, TASKS

NAMES = {
    "mup": r"$\times$width ($\mu$P)",
    "lv": r"$\sqrt{d}$, slower embedding (= u-$\mu$P)",
    "lv-hidden": r"$\sqrt{d}$, faster hidden",
    "interpolated": "interpolated, slower embedding",
    "interpolated-hidden": "interpolated, faster hidden",
    "global": "no rule",
}
LINEAR = 0.005  # below, the axis is linear; beyond, logarithmic


def race(data: xr.Dataset) -> Figure:
    """Loss above muP's as a share of what muP's training removes, with its interval over seeds."""
    figure, grid = plt.subplots(
        2, 2, figsize=(8, 4.8), layout="constrained", sharey=True, sharex=True
    )
    panels = grid.ravel()
    rules = [rule for rule in RULES if rule != "mup"]
    for axes, task in zip(panels, TASKS, strict=True):
        for place, rule in enumerate(rules):
            found = regret(data, task, rule, "mup")
            error = np.abs([[found.value - found.low], [found.high - found.value]])
            axes.errorbar(found.value, place, xerr=error, marker="o", color="C0", capsize=3)
        axes.set_xscale("symlog", linthresh=LINEAR)
        axes.set_xticks([0, LINEAR, 0.05, 0.5], ["0", "0.5 %", "5 %", "50 %"])
        axes.minorticks_off()
        axes.axvline(0, color="0.4", linewidth=0.9)
        axes.set_title(task.replace("-", ", "))
    panels[0].set_yticks(range(len(rules)), [NAMES[rule] for rule in rules])
    panels[0].set_ylim(len(rules) - 0.5, -0.5)
    width = study_config(data)["width"]
    figure.supxlabel(
        f"(loss at width {width} $-$ $\\mu$P's) / ($\\mu$P's decrease), rates tuned at width "
        f"{SMALL}; right: worse than $\\mu$P.\n"
        "Bars: 95 % intervals over seeds. The axis is linear from $-$0.5 to 0.5 %.",
        fontsize=8.5,
    )
    return figure


FIGURES = {"race": (race, ("race",))}
