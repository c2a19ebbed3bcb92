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

from .estimators import matrix_gauge, measured_squares, step_changes, trained_losses
from .networks import EDGES, UPDATES

MARKS = {"squared error": "o", "softmax": "s", "softmax, shared targets": "x"}


def muon_rows(data: xr.Dataset) -> Figure:
    """Lengths of rows by rank at two Zipf exponents. Lines are the law, marks networks."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
    for axes, exponent in zip(panels, data.exponent.values, strict=True):
        _rows(axes, data, float(exponent))
    panels[0].set_ylabel("length of its row under Muon")
    panels[0].legend(loc="lower left")
    return figure


def _rows(axes: Axes, data: xr.Dataset, exponent: float) -> None:
    vocab_size = study_config(data)["vocab_size"]
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
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=f"C{place}",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="rank $i$ of the token",
        title=f"first step, Zipf exponent {exponent:g}",
        ylim=(1e-3, 2),
        xlim=(0.8, 8000),
    )


def muon_training(data: xr.Dataset) -> Figure:
    """Excess losses over the learning rate of the embedding, widest network, mean over seeds."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained", sharey=True)
    width = int(data.width.values[-1])
    titles = {"constant": "constant rate", "linear": "rate that falls to zero"}
    for axes, (schedule, title) in zip(panels, titles.items(), strict=True):
        for place, (update, marker) in enumerate(zip(UPDATES, "osD^v", strict=True)):
            (losses,) = trained_losses(data.text, [update], schedule)
            name = update.replace("muon", "Muon").replace("adam", "Adam")
            rates = 2.0 ** data.octave.to_numpy()
            axes.plot(rates, losses[-1].mean(axis=-1), f"{marker}-", ms=4, color=f"C{place}",
                      label=name[0].upper() + name[1:])  # fmt: skip
        axes.set(xscale="log", yscale="log", title=f"{title}, $d = {width}$")
        axes.set_xlabel("learning rate, the RMS of a step of a row of full length")
    panels[0].set_ylabel("excess loss after 600 steps")
    panels[0].legend()
    return figure


MATRIX_NAMES = {
    "square": "square matrix",
    "up": "4d outputs, d inputs",
    "down": "d outputs, 4d inputs",
    "head": "1,024 outputs, d inputs",
}


def muon_scales(data: xr.Dataset) -> Figure:
    """What a step at learning rate one does to a matrix's outputs over the width, by shape factor;
    lines: the gauge, which is the largest change where a matrix has fewer outputs than inputs."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained", sharey=True)
    widths = data.width.to_numpy()
    titles = {"original": r"factor $\sqrt{\max(1, M/N)}$", "match-rms": r"$0.2\sqrt{\max(M, N)}$"}
    for axes, (rule, title) in zip(panels, titles.items(), strict=True):
        for place, (matrix, marker) in enumerate(zip(MATRIX_NAMES, "osD^", strict=True)):
            steps = step_changes(data, rule, [matrix])[:, 0].mean(axis=-1)
            style = {"ms": 10 - 2 * place, "mfc": "none", "color": f"C{place}"}
            axes.plot(widths, steps, marker, label=MATRIX_NAMES[matrix], **style)
            gauge = [matrix_gauge(data, rule, matrix, int(width)) for width in widths]
            axes.plot(widths, gauge, color=f"C{place}", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel="width $d$", title=title)
        axes.set_xticks(widths, [str(int(width)) for width in widths])
        axes.set_xticks([], minor=True)
    panels[0].set_ylabel("change of outputs over the inputs' RMS")
    panels[0].legend(title="lines: the gauge")
    return figure


FIGURES = {
    "muon_rows": (muon_rows, ("muon_rows",)),
    "muon_training": (muon_training, ("muon_training",)),
    "muon_scales": (muon_scales, ("muon_scales",)),
}
