"""Figures of the duration of the LV regime. Lines are theory, points are trained networks."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

import derivations
from derivations import symbols as s
from dynsim import (
    aged_update,
    bootstrap,
    token_law,
)
from dynsim.statistics import Resamples
from dynsim.theory._lv_lifetime import isotropic_restoration, restoration_displacements_at
from experiments.output import number
from experiments.topics._claim_study import claim_finding
from experiments.topics._parts import claim_files

from .estimators import age_cells, displacements, local_exponents, restoration_steps

LIFETIMES = "lv_lifetime_claims_full"
POINT = {"markeredgecolor": "white", "markeredgewidth": 0.4, "linestyle": "none"}


def lv_lifetime(age: xr.Dataset) -> Figure:
    """The local exponent against age, the end of the LV regime, and the map of both."""
    figure, panels = plt.subplot_mosaic("ab;cc", figsize=(8, 6.6), layout="constrained")
    curves, ends, regime = panels.values()
    found = local_exponents(age, 1)
    ratios = np.array([m / d for d, m, _, _ in found])
    order = np.array([k for k in np.argsort(ratios) if ratios[k] > 1])
    shown = order[np.unique(np.linspace(0, len(order) - 1, 6).round().astype(int))]
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.92, len(shown)))
    for k, colour in zip(shown, colours, strict=True):
        width, vocab_size, moves, slope = found[k]
        law = token_law("uniform", vocab_size)
        fine = np.geomspace(0.3 * moves[1], moves[-1], 120)
        to_age = vocab_size**0.5
        derived = aged_update(width, law, fine)
        curves.plot(fine * to_age, derived.local_exponent, color=colour)
        label = number(round(vocab_size / width, 1))
        curves.plot(moves[1:] * to_age, slope[1:], "o", color=colour, label=label, **POINT)
    curves.set(
        xscale="log",
        xlabel=r"age  $\tau=\eta_E\,t\,\sqrt{m/n}\,/\sigma_E$",
        ylabel=r"local exponent  $\partial\ln\mathrm{RMS}/\partial\ln d$",
        ylim=(0.44, 1.06),
        title="a step's update, at its age",
    )
    curves.legend(title="$m/d$", ncols=2)
    _ends(age, ends)
    _map(age, regime, figure)
    return figure


def _ends(age: xr.Dataset, axes: Axes) -> None:
    """Displacement at restoration, over sqrt(n), against width."""
    markers = {n: marker for n, marker in zip(age.outputs.values, "os^D", strict=False)}
    vocab_sizes = sorted({m for n in age.outputs.values for _, m in age_cells(age, int(n))})
    colours = dict(
        zip(
            vocab_sizes, plt.get_cmap("cividis")(np.linspace(0, 0.9, len(vocab_sizes))), strict=True
        )
    )
    fine = np.geomspace(24, 1400, 30)
    for vocab_size, colour in colours.items():
        line = _restoration(fine, vocab_size)
        axes.plot(fine, line, color=colour, label=f"{vocab_size:,}")
    for n, marker in markers.items():
        moves = displacements(age, int(n))
        for d, m in age_cells(age, int(n)):
            sample = age.mean_square.sel(width=d, vocab_size=m, outputs=n)
            seeds = sample.transpose("step", "seed").to_numpy()

            def end(chosen, axis=-1, d=d, moves=moves, n=n):
                return restoration_steps(chosen.mean(axis=axis), d, moves) * moves[1] / n**0.5

            if not np.isfinite(end(seeds)):
                continue
            value = bootstrap(end, (seeds,), resamples=Resamples.QUICK, vectorized=True)
            error = [[value.value - value.low], [value.high - value.value]]
            axes.errorbar(d, value.value, error, fmt=marker, color=colours[m], **POINT)
    for n in (n for n in markers if n > 1):
        line = isotropic_restoration(int(n)) / fine**0.5
        axes.plot(fine, line, color="0.45", linestyle="--", linewidth=0.8)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="width $d$",
        ylabel=r"$\eta_E\,t_c\,/(\sigma_E\sqrt{n})$",
        title=r"the LV regime ends at $\sqrt{n/d}$",
    )
    handles, labels = axes.get_legend_handles_labels()
    for n, marker in markers.items():
        handles.append(Line2D([], [], color="0.3", marker=marker, linestyle="none"))
        labels.append(f"$n={n}$")
    handles.append(Line2D([], [], color="0.45", linestyle="--", linewidth=1))
    labels.append(r"$K(n)\,d^{-1/2}$")
    axes.legend(handles, labels, title="$m$, $n$", ncols=2)


def _restoration(width: ArrayLike, vocab_size: ArrayLike) -> NDArray[np.float64]:
    """Displacement that restores alignment, one output; NaN where alignment is there from start."""
    values = {s.width: width, s.vocab_size: vocab_size, s.effective_outputs: 1.0}
    age = derivations.visited_age(mini_batch=False)
    displacement = restoration_displacements_at(values, age, "one")
    return np.where(displacement > 0, displacement, np.nan)


def _map(age: xr.Dataset, axes: Axes, figure: Figure) -> None:
    """Local exponent over (m/d, tau): theory as colour, networks as coloured points."""
    width = 1e3  # wide enough for only m/d and tau to count
    ratio, tau = np.geomspace(0.1, 1000, 41), np.concatenate([[0], np.geomspace(0.05, 60, 160)])
    image = np.array(
        [
            aged_update(
                width, token_law("uniform", round(x * width)), tau / (x * width) ** 0.5
            ).local_exponent
            for x in ratio
        ]
    ).T
    scale = {"cmap": "viridis", "vmin": 0.5, "vmax": 1.0}
    shade = axes.pcolormesh(ratio, np.maximum(tau, 0.045), image, rasterized=True, **scale)
    for d, m, moves, slope in local_exponents(age, 1):
        points = slice(1, None, 3)
        axes.scatter(
            np.full(len(moves), m / d)[points],
            (moves * m**0.5)[points],
            c=slope[points],
            s=16,
            edgecolors="white",
            linewidths=0.5,
            **scale,
        )
    end = _restoration(width, ratio * width) * (ratio * width) ** 0.5
    axes.plot(ratio, end, color="#D55E00", linestyle="--", label=r"$\tau_c$: exponent 3/4")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="vocabulary size / width  $m/d$",
        ylabel=r"age  $\tau$",
        ylim=(0.05, 60),
        xlim=(ratio[0], ratio[-1]),
        title="regime map (colour: theory; circles: networks)",
    )
    axes.grid(visible=False)
    axes.legend(loc="lower right", labelcolor="white")
    figure.colorbar(shade, ax=axes, label="local exponent")


def lv_entry(entry: xr.Dataset, lifetimes: xr.Dataset) -> Figure:
    """Updates while the head of a Zipf law is learned, and lifetimes of other optimizers."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    widths = entry.width.values
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.9, len(widths)))
    for rate, marker in zip(entry.embedding_lr.values, "o^", strict=True):
        for width, colour in zip(widths, colours, strict=True):
            cell = entry.sel(embedding_lr=rate, width=width)
            left.plot(entry.step, cell.mean_field / width, color=colour, linewidth=0.9)
            shown = slice(2, None, 8)
            squares = cell.mean_square.transpose("step", "seed").to_numpy()[shown] / width
            error = 2 * squares.std(axis=1, ddof=1) / squares.shape[1] ** 0.5
            steps = entry.step.values[shown]
            style = {"fmt": marker, "color": colour, "markersize": 3.5, **POINT}
            left.errorbar(steps, squares.mean(axis=1), error, **style)
    left.axhline(1, color="#D55E00", linestyle="--", linewidth=1)
    left.annotate("incoherent floor", (1, 1.05), color="#D55E00", fontsize=7.5)
    handles = [
        Line2D([], [], color=c, label=f"{d:,}") for d, c in zip(widths, colours, strict=True)
    ]
    handles += [
        Line2D([], [], color="0.4", marker=marker, linestyle="none", label=label)
        for marker, label in (("o", r"$\eta_E=0$"), ("^", r"$\eta_E=0.01$"))
    ]
    left.set(
        yscale="log",
        xlabel="step",
        ylabel=r"$\mathrm{RMS}^2$ of a step's update $/\,(\eta_W^2\,d)$",
        title=r"Zipf $\alpha=1$: the projection learns the head",
    )
    left.set_ylim(0.8, 14 * float(entry.mean_square.mean("seed").max() / widths[-1]))
    left.legend(handles=handles, title="width, embedding LR", ncols=3, loc="upper center")
    _lifetimes(lifetimes, right)
    return figure


def _lifetimes(data: xr.Dataset, axes: Axes) -> None:
    """Measured over derived lifetime in every claim about one."""
    rows = claim_files("lv_lifetime")[LIFETIMES].claims
    for place, claim in enumerate(rows):
        value = claim_finding(claim, data).evidence.measured
        error = [[value.value - value.low], [value.high - value.value]]
        axes.errorbar(value.value, place, xerr=error, fmt="o", color="#0072B2", **POINT)
        axes.plot(
            [1 - claim.tolerance, 1 + claim.tolerance], [place, place], color="0.85", lw=8, zorder=0
        )
    axes.axvline(1, color="0.4", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), [c.name.removeprefix("lv-lifetime-") for c in rows])
    axes.set_ylim(len(rows) - 0.5, -1.4)
    axes.set(
        xlabel=r"$\eta_E t_c$ over its prediction",
        title="end of the LV regime in other settings",
    )
    handles = [
        Line2D([], [], color="#0072B2", marker="o", linestyle="none", label="networks, 95 %"),
        Line2D([], [], color="0.85", lw=8, label="tolerance"),
    ]
    axes.legend(handles=handles)
    axes.grid(visible=False, axis="y")


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "lv_lifetime": (lv_lifetime, ("lv_age",)),
    "lv_entry": (lv_entry, ("lv_entry", LIFETIMES)),
}
