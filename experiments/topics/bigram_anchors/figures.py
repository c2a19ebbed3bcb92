"""Figure of the steps that bigram tasks take, against the vocabulary."""

from __future__ import annotations

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from .study import BEYOND, TASKS

TITLES = {"sgd": "gradient descent", "sign": "sign descent"}


def bigram_steps(data: xr.Dataset) -> Figure:
    """Steps to a tenth of the loss: networks (points), closed forms (lines, to m = 10^6)."""
    figure, panels = plt.subplots(
        1, 2, figsize=(8, 3.6), layout="constrained", sharex=True, sharey=True
    )
    for axes, optimizer in zip(panels, TITLES, strict=True):
        chosen = [name for name, task in TASKS.items() if task.optimizer == optimizer]
        for number, name in enumerate(chosen):
            row, sizes = data.sel(descent=name), data.vocab_size.to_numpy()
            label = r"$\alpha = $" + name.partition(" ")[2]
            axes.plot(sizes, row.steps.mean("seed"), "o", color=f"C{number}", label=label)
            axes.plot(sizes, row.theory, color=f"C{number}")
            axes.plot(BEYOND * sizes, row.beyond, color=f"C{number}", linestyle="--")
        axes.set(xscale="log", yscale="log", xlabel="vocabulary $m$", title=TITLES[optimizer])
        axes.legend(fontsize=8)
    panels[0].set_ylabel("steps to a tenth of the initial loss")
    return figure


FIGURES = {"bigram_steps": (bigram_steps, ("bigram_steps",))}
