"""Figures of the mean-field solver. Lines are predictions, points are trained networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from .estimators import LOSS_ALLOWED, UPDATE_ALLOWED, loss_excess, particle_errors, update_excess


def mean_field_accuracy(curves: xr.Dataset, widths: xr.Dataset, particles: xr.Dataset) -> Figure:
    """Predicted and measured losses, their distance, convergence in width and in particles."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 7.4), layout="constrained")
    (left, right), (middle, convergence) = panels
    colours = dict(zip(curves.case.values, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    _convergence(particles, convergence, colours)
    width = int(curves.width.min())
    for case, colour in colours.items():
        cell = curves.sel(case=case, width=width)
        loss = cell.loss.transpose("step", "seed").to_numpy()
        first = loss[0].mean()
        error = 2 * loss.std(axis=1, ddof=1) / np.sqrt(loss.shape[1])
        left.plot(cell.step, cell.predicted / first, color=colour, label=str(case))
        left.errorbar(
            cell.step, loss.mean(axis=1) / first, error / first, fmt="o", ms=3, color=colour
        )
    left.set(xlabel="step", ylabel="loss / first loss", title=f"d = {width:,}", yscale="log")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)

    size = widths.width.to_numpy().astype(float)
    excess = widths.excess.transpose("width", "seed").to_numpy()
    error = 2 * excess.std(axis=1, ddof=1) / np.sqrt(excess.shape[1])
    middle.errorbar(size, excess.mean(axis=1), error, fmt="o", label="networks")
    middle.plot(size, widths.correction, "-", label="first-order correction")
    middle.plot(size, excess[0].mean() * size[0] / size, ":", color="0.5", label="1/d")
    middle.set(
        xlabel="width d",
        ylabel="distance from the limit",
        title="loss summed over steps",
        xscale="log",
        yscale="log",
    )
    _sizes_as_ticks(middle, size)
    middle.legend()

    for values, bar, marker in (
        (loss_excess(curves), LOSS_ALLOWED, "o"),
        (update_excess(curves), UPDATE_ALLOWED, "s"),
    ):
        for case, colour in colours.items():
            size = curves.width.to_numpy()
            share = [100 * values[str(case), int(d)] for d in size]
            right.plot(size, share, marker, color=colour, mfc="none" if marker == "s" else colour)
        right.axhline(100 * bar, color="0.5", ls="-" if marker == "o" else "--")
    right.set(
        xlabel="width d",
        ylabel="distance beyond two standard errors (%)",
        title="loss (discs), update RMS (squares)",
        xscale="log",
    )
    _sizes_as_ticks(right, curves.width.to_numpy())
    return figure


def _convergence(particles: xr.Dataset, axes: Axes, colours: Mapping[str, Any]) -> None:
    """Deviation from the most particles (points) and the error that each prediction states."""
    deviation, error = particle_errors(particles)
    numbers = particles.particles.values[:-1]
    for case, gap, stated in zip(particles.case.values, deviation, error, strict=True):
        axes.plot(numbers, 100 * np.abs(gap).max(axis=-1), "o", color=colours[case])
        axes.plot(numbers, 100 * stated.max(axis=-1), color=colours[case])
    axes.set(
        xlabel="token particles",
        ylabel="largest deviation from 8,192 (% of first loss)",
        title="convergence in particles (line: stated error)",
        xscale="log",
        yscale="log",
    )
    _sizes_as_ticks(axes, numbers)


def _sizes_as_ticks(axes: Axes, sizes: NDArray[np.float64]) -> None:
    """The sizes as the only ticks of a logarithmic axis, with room at its ends."""
    axes.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    axes.set_xticks(sizes, [f"{size:,g}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "mean_field_accuracy": (
        mean_field_accuracy,
        ("mean_field", "mean_field_widths", "mean_field_particles"),
    )
}
