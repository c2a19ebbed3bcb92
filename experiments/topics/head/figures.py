"""Figures of language-model heads: sizes of steps and best rates against the width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dynsim.statistics import Estimate

from .estimators import (
    CORRECTION,
    JOINT,
    best_rates,
    line,
    log_optima,
    log_rates,
    log_rates_alone,
    rate_exponent_alone,
    step_exponent,
    step_samples,
)
from .networks import LAYERS

NAMES = {
    "hidden": "hidden matrix, its outputs",
    "head_target": "head, logits of next tokens",
    "head_all": "head, all logits",
}


def head_steps(data: xr.Dataset) -> Figure:
    """RMS of the first step at constant rates, with lines d and sqrt(d) through the widest."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
    for panel, (head, title) in zip(
        panels, (("untied", "n = m outputs"), ("few", "16 outputs")), strict=True
    ):
        panel.set(xscale="log", yscale="log")
        for update, name in NAMES.items():
            widths, samples = step_samples(line(data, "proportional", "adam", head), update, 0)
            sizes = np.sqrt([np.mean(one) for one in samples])
            points = panel.plot(widths, sizes, "o", label=name)
            colour = points[0].get_color()
            for power, style in ((1.0, "-"), (0.5, ":")):
                guide = sizes[-1] * (np.array(widths) / widths[-1]) ** power
                panel.plot(widths, guide, style, color=colour, linewidth=1)
            panel.set_xticks(widths, [str(int(width)) for width in widths])
        panel.set(xlabel="width $d$, $m = 8d$", title=title)
        panel.set_xticks([], minor=True)
    panels[0].set_ylabel("RMS of the first step over the rate")
    panels[0].legend(title=r"solid: as $d$; dotted: as $\sqrt{d}$")
    return figure


def head_rates(data: xr.Dataset) -> Figure:
    """Losses over each layer's rate at muP's scale, the other rates at their best."""
    paths = [str(path) for path in data.path.values]
    figure, panels = plt.subplots(
        len(paths),
        len(LAYERS),
        figsize=(8, 3.2 * len(paths)),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for row, path in zip(panels, paths, strict=True):
        for panel, layer in zip(row, LAYERS, strict=True):
            cells = line(data, path, "adam", "untied")
            rates, losses = log_rates(cells, layer, JOINT)
            mean = losses.mean(axis=-1)
            best = np.exp(log_optima(rates, mean))
            for width, rate, loss, at in zip(cells.width.values, rates, mean, best, strict=True):
                lines = panel.plot(np.exp(rate), loss, "o-", ms=3, label=f"$d = {int(width)}$")
                panel.axvline(at, color=lines[0].get_color(), ls=":")
            size = "$m = 8d$" if path == "proportional" else "$m = 1024$"
            panel.set(xscale="log", title=f"{layer}, {size}", xlabel="LR over muP's scale")
        row[0].set_ylabel("validation loss / initial loss")
        row[0].legend()
    return figure


RATES_OF = {
    "head": ("head", "o", "C0"),
    "head, long": ("head, 192 steps", "s", "C1"),
    "head, muon": ("head, Muon below", "D", "C2"),
    "embedding, muon": ("embedding, Muon above", "v", "C3"),
    "tied, muon": ("one matrix for both, Muon between", "X", "C4"),
    "tied, muon, hidden": ("Muon's hidden matrix, tied head", "h", "C5"),
}


def head_fixed_rates(data: xr.Dataset, more: xr.Dataset) -> Figure:
    """Best rates at muP's scale over the width, with 95 % intervals; heads left, others right.

    `more` holds the case that was measured again. Lines through the narrowest width: constant
    (muP), and d^0.23 for heads, d^-1/2 for others.
    """
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharex=True)
    widths = data.width.to_numpy()
    for case, (name, marker, colour) in RATES_OF.items():
        head = case.startswith("head")
        axes = panels[0 if head else 1]
        measured = more if case in more.case.values else data
        rates, losses = log_rates_alone(measured.sel(case=case))
        best = best_rates(rates, losses)
        middle, ends = _with_ends(best)
        ends = np.exp(middle) * np.abs(np.expm1(np.array([-ends[0], ends[1]])))
        axes.errorbar(
            widths, np.exp(middle), ends, fmt=marker, ms=5, color=colour, capsize=2, label=name
        )
        rival = CORRECTION if head else -0.5
        for power, style in ((0.0, "-"), (rival, ":"))[: 1 if case.endswith("hidden") else 2]:
            guide = np.exp(middle[0]) * (widths / widths[0]) ** power
            axes.plot(widths, guide, style, color=colour, linewidth=1)
    other = {0: f"dotted: as $d^{{{CORRECTION}}}$", 1: r"dotted: as $d^{-1/2}$"}
    for place, axes in enumerate(panels):
        axes.set(xscale="log", yscale="log", xlabel="width $d$, $m = n = 1024$")
        axes.set_xticks(widths, [str(int(width)) for width in widths])
        axes.set_xticks([], minor=True)
        axes.legend(title=f"solid: constant; {other[place]}")
    panels[0].set_yticks([2.5, 3, 3.5, 4], ["2.5", "3", "3.5", "4"])
    panels[0].set_yticks([], minor=True)
    panels[1].set_ylim(0.08, 12)
    panels[0].set_ylabel("best learning rate over muP's scale")
    return figure


VOCABULARIES = {
    "m 1024": (1024, "1,024 types", "o", "C0"),
    "m 4096": (4096, "4,096 types", "s", "C1"),
    "m 16384": (16384, "16,384 types", "D", "C2"),
    "m 4096, long": (4096, "4,096 types, 192 steps", "v", "C3"),
}


def head_vocabulary_rates(data: xr.Dataset) -> Figure:
    """The head's best rate at muP's scale over the width, and its power of the width over the
    vocabulary, with 95 % intervals."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
    widths = data.width.to_numpy()
    for case, (types, name, marker, colour) in VOCABULARIES.items():
        best = best_rates(*log_rates_alone(data.sel(case=case)))
        style = {"fmt": marker, "ms": 5, "color": colour, "capsize": 2, "label": name}
        middle, ends = _with_ends(best)
        size = np.exp(middle)
        left.errorbar(widths, size, size * np.abs(np.expm1([-ends[0], ends[1]])), **style)
        fit = np.polynomial.Polynomial.fit(np.log(widths), middle, 1)
        left.plot(widths, np.exp(fit(np.log(widths))), "-", color=colour, linewidth=1)
        power, ends = _with_ends([rate_exponent_alone(data, case).measured])
        aside = 1.15 if case.endswith("long") else 1.0  # beside the other of this vocabulary
        right.errorbar([types * aside], power, ends, **style)
    left.set(xscale="log", yscale="log", xlabel="width $d$, $m = n$")
    left.set_xticks(widths, [str(int(width)) for width in widths])
    left.set_ylabel("best learning rate over muP's scale")
    right.axhline(0.0, color="k", linewidth=1)
    right.axhline(CORRECTION, color="k", linewidth=1, linestyle=":")
    right.set(xscale="log", xlabel="vocabulary $m = n$", ylabel="power of $d$ beyond muP's")
    types = sorted({one[0] for one in VOCABULARIES.values()})
    right.set_xticks(types, [f"{one:,}" for one in types])
    right.set_xlim(700, 24_000)
    for axes in (left, right):
        axes.xaxis.minorticks_off()
    left.set_yticks([2, 2.5, 3], ["2", "2.5", "3"])
    left.set_yticks([], minor=True)
    left.set_title("lines: fitted powers")
    right.legend(loc="upper left", bbox_to_anchor=(0, 0.94))
    right.set_title("solid: muP; dotted: $d^{0.23}$")
    return figure


def _with_ends(estimates: Sequence[Estimate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values, and how far the intervals reach below and above them."""
    middle = np.array([one.value for one in estimates])
    return middle, np.array([[one.value - one.low, one.high - one.value] for one in estimates]).T


def head_fixed_steps(data: xr.Dataset) -> Figure:
    """Power of the width in the RMS of single steps by age, Adam."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
    lines = (
        (0, "head_target", "untied", "head, logits of next tokens", "o"),
        (0, "head_all", "untied", "head, all logits", "s"),
        (1, "hidden", "untied", "hidden matrix, n = m outputs", "D"),
        (1, "hidden", "few", "hidden matrix, 16 outputs", "^"),
    )
    ages = [int(moment) for moment in data.moment.values]
    for place, (panel, update, head, name, marker) in enumerate(lines):
        powers = [
            step_exponent(data, "fixed", update, moment, head=head).measured for moment in ages
        ]
        middle, ends = _with_ends(powers)
        panels[panel].errorbar(
            ages, middle, ends, fmt=f"{marker}-", ms=4, color=f"C{place}", capsize=2, label=name
        )
    for axes in panels:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(ages, [str(age) for age in ages])
        axes.set_xticks([], minor=True)
        axes.set_xlim(-0.2, 1.2 * ages[-1])
        axes.set_xlabel("steps before")
        axes.legend()
    panels[0].set_ylabel("power of $d$ in the step's RMS, $m = 1024$")
    return figure


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "head_steps": (head_steps, ("head_updates",)),
    "head_rates": (head_rates, ("head_rates",)),
    "head_fixed_steps": (head_fixed_steps, ("head_fixed_updates",)),
    "head_fixed_rates": (head_fixed_rates, ("head_fixed_rates", "head_long_rates")),
    "head_vocabulary_rates": (head_vocabulary_rates, ("head_vocabulary_rates",)),
}
