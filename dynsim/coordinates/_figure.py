"""Figure of a coordinate check of recorded runs: every term against width, a row a label."""

from __future__ import annotations

from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ._verdicts import FAILURES, Slope

COLUMNS = {
    "output": r"$W\,z$",
    "initial": r"$W_0\,z_0$",
    "update_on_initial": r"$\Delta W\,z_0$",
    "initial_on_learned": r"$W_0\,\Delta z$",
    "update_on_learned": r"$\Delta W\,\Delta z$",
    "weight_update": r"entries of $\Delta W$",
}
INSTEAD = {"update_on_initial": "update"}  # of scores and outputs: the whole change
ROWS = ("embedding", "hidden", "readout", "scores", "outputs")
MAIN = "update_on_initial"


class Checked(Protocol):
    """What is drawn of a `CoordinateCheck`: the records, the judged powers, widths and steps."""

    @property
    def table(self) -> pd.DataFrame: ...
    @property
    def slopes(self) -> tuple[Slope, ...]: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def steps(self) -> tuple[int, ...]: ...


def main_panel(found: Checked, axes: Axes) -> Axes:
    """The updates of the hidden matrices (without any, of the first label), on given axes."""
    labels = labels_of(found)
    label = "hidden" if "hidden" in labels else labels[0]
    _panel(axes, found, label, MAIN)
    axes.set(xlabel="width $d$", title=f"{label}: {COLUMNS[MAIN]}")
    return axes


def labels_of(found: Checked) -> list[str]:
    """The labels of the records, in the order of the panels."""
    return [label for label in ROWS if (found.table.label == label).any()]


def recorded_figure(found: Checked) -> Figure:
    """RMS of each term against width, a line a module, a row a label.

    Solid: the last recorded step; dotted: the first. Modules that fail are red. Wedges: the powers
    that the parametrization allows, from the smallest width's value.
    """
    labels = labels_of(found)
    figure, panels = plt.subplots(
        len(labels),
        len(COLUMNS),
        figsize=(2.0 * len(COLUMNS), 1.6 * len(labels) + 0.8),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for row, label in zip(panels, labels, strict=True):
        for axes, term in zip(row, COLUMNS, strict=True):
            _panel(axes, found, label, term)
        row[0].set_ylabel(label)
    for axes, title in zip(panels[0], COLUMNS.values(), strict=True):
        axes.set_title(title)
    for axes in panels[-1]:
        axes.set_xlabel("width $d$")
    grey: dict[str, Any] = {"color": "0.4"}
    handles = [Line2D([], [], **grey, label=f"step {found.steps[-1]}")]
    if len(found.steps) > 1:
        handles.append(Line2D([], [], **grey, linestyle=":", label=f"step {found.steps[0]}"))
    handles.append(Line2D([], [], color="C3", label="fails"))
    handles.append(Line2D([], [], color="0.85", linewidth=6, label="allowed powers"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _panel(axes: Axes, found: Checked, label: str, term: str) -> None:
    wanted = [term, INSTEAD.get(term, term)]
    rows = found.table[(found.table.label == label) & found.table.term.isin(wanted)]
    failing = {s.module for s in found.slopes if s.verdict in FAILURES and s.term in wanted}
    steps = [0] if term == "initial" else list(dict.fromkeys((found.steps[0], found.steps[-1])))
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.85, max(rows.module.nunique(), 1)))
    for (module, lines), colour in zip(rows.groupby("module", sort=False), colours, strict=False):
        for step in steps:
            here = lines[(lines.step == step) & (lines.rms > 0) & np.isfinite(lines.rms)]
            for _, at in here.groupby("vocab_size"):
                means = at.groupby("width").rms.mean()
                axes.plot(
                    means.index,
                    means,
                    ":" if step == steps[0] and len(steps) > 1 else "-",
                    color="C3" if module in failing else colour,
                    marker="o",
                    markersize=2.5,
                    linewidth=0.9,
                )
    _wedge(axes, found, label, wanted, rows[rows.step == steps[-1]])
    if not axes.has_data():
        axes.set_axis_off()
        return
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(found.widths, [str(d) for d in found.widths])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    if high / low < 10:  # a flat line is to look flat
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 10**0.5, middle * 10**0.5)


def _wedge(axes: Axes, found: Checked, label: str, wanted: list[str], rows: Any) -> None:
    """Allowed powers from the geometric mean of the smallest width's sizes."""
    bands = [s.allowed for s in found.slopes if s.label == label and s.term in wanted]
    sizes = rows.rms[(rows.width == found.widths[0]) & (rows.rms > 0)]
    if not bands or sizes.empty or not np.all(np.isfinite(sizes)):
        return
    start = float(np.exp(np.log(sizes).mean()))
    widths = np.asarray(found.widths, float)
    powers = (max(bands[0].low, -1.0), bands[0].high)
    edges = [start * (widths / widths[0]) ** power for power in powers]
    axes.fill_between(widths, *edges, color="0.5", alpha=0.15, linewidth=0, zorder=0)
