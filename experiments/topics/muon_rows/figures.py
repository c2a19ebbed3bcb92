"""Figures of the rows of an embedding under Muon."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynsim import token_law
from dynsim.theory import muon_row_norms
from experiments.results import study_config

from .estimators import best_losses, measured_squares
from .study import EDGES

MARKS = {"squared error": "o", "softmax": "s", "softmax, shared targets": "x"}


def muon_rows(data: xr.Dataset, training: xr.Dataset) -> Figure:
    """Left: lengths of rows by rank, lines are the law. Right: losses by learning rate."""
    figure, panels = plt.subplots(1, 3, figsize=(11.5, 3.7), layout="constrained")
    _rows(panels[0], data)
    for axes, schedule in zip(panels[1:], ("constant", "linear"), strict=True):
        _losses(axes, training, schedule)
    panels[2].sharey(panels[1])
    panels[1].set_ylabel("excess loss in the text")
    panels[1].legend(loc="upper left", fontsize="small")
    return figure


def _rows(axes: Axes, data: xr.Dataset) -> None:
    exponent, vocab_size = 1.0, study_config(data)["vocab_size"]
    law = token_law(f"zipf:{exponent}", vocab_size).frequencies
    centres = [np.sqrt((low + 1) * high) for low, high in itertools.pairwise(EDGES)]
    for place, width in enumerate(data.width.values):
        ranks = np.arange(1, vocab_size + 1)
        axes.plot(ranks, muon_row_norms(law, int(width)), color=f"C{place}", linewidth=1.2)
        for head, marker in MARKS.items():
            squares = measured_squares(data, head, int(width), exponent)
            axes.plot(
                centres,
                np.sqrt(squares.mean(axis=1)),
                marker,
                color=f"C{place}",
                markersize=4 if marker != "x" else 3,
                markerfacecolor="none",
                label=head if place == 0 else None,
            )
        axes.annotate(
            f"$d = {int(width)}$",
            (ranks[-1], muon_row_norms(law, int(width))[-1]),
            xytext=(-2, 4),
            textcoords="offset points",
            ha="right",
            fontsize="small",
            color=f"C{place}",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="rank $i$ of the token",
        ylabel="length of its row under Muon",
        title="first step, Zipf exponent 1",
    )
    axes.legend(loc="lower left", fontsize="small")


def _losses(axes: Axes, data: xr.Dataset, schedule: str) -> None:
    rates = 2.0 ** data.octave.to_numpy()
    for place, update in enumerate(data.update.values):
        losses = best_losses(data, str(update), schedule)
        axes.plot(rates, losses.mean(axis=1), "o-", color=f"C{place}", label=str(update))
        axes.fill_between(
            rates, losses.min(axis=1), losses.max(axis=1), color=f"C{place}", alpha=0.2, lw=0
        )
    title = {"constant": "constant learning rate", "linear": "learning rate falling to zero"}
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="step of a frequent token's entries",
        title=title[schedule],
    )


FIGURES = {"muon_rows": (muon_rows, ("muon_rows", "muon_training"))}
