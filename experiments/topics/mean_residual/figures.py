"""Figure of the first update of a readout, by activation and normalisation."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .estimators import derived_rms, rms_intervals, widths

Line = tuple[str, str, str, str, str]  # activation, normalisation, residuals, colour, marker
PANELS: dict[str, tuple[Line, ...]] = {
    "residuals as chance leaves them": (
        ("relu", "none", "raw", "C0", "o"),
        ("gelu", "none", "raw", "C1", "s"),
        ("tanh", "none", "raw", "C2", "D"),
    ),
    "residuals centred over tokens": (
        ("relu", "none", "centred", "C0", "o"),
        ("gelu", "none", "centred", "C1", "s"),
        ("tanh", "none", "centred", "C2", "D"),
    ),
    "ReLU with a normalisation": (
        ("relu", "rms", "raw", "C3", "o"),
        ("relu", "layer before", "raw", "C4", "s"),
        ("relu", "layer", "raw", "C5", "D"),
    ),
}
NAMES = {
    "none": {"relu": "ReLU", "gelu": "GELU", "tanh": "tanh"},
    "rms": {"relu": "ReLU, then RMSNorm"},
    "layer": {"relu": "ReLU, then LayerNorm"},
    "layer before": {"relu": "LayerNorm, then ReLU"},
}


def mean_residual(data: xr.Dataset) -> Figure:
    """The update's RMS over that of the features against the width. Lines are theory."""
    figure, panels = plt.subplots(1, 3, figsize=(8, 3.4), layout="constrained", sharey=True)
    for axes, (title, lines) in zip(panels, PANELS.items(), strict=True):
        _theory(axes, data, {line[0] for line in lines if line[2] == "raw"})
        for offset, line in zip((-1, 0, 1), lines, strict=True):
            _measured(axes, data, line, 1 + 0.03 * offset)
        axes.set(xscale="log", yscale="log", xlabel="width $d$", title=title)
        axes.set_xticks(widths(data), [str(width) for width in widths(data)])
        axes.minorticks_off()
        axes.legend(loc="upper left")
    panels[0].set_ylabel(r"$\mathrm{RMS}(\Delta W\,z)\,/\,(\eta\,\mathrm{RMS}\,z)$")
    return figure


def _theory(axes: Axes, data: xr.Dataset, with_mean: set[str]) -> None:
    fine = np.geomspace(widths(data)[0], widths(data)[-1], 40).round()
    colours = {"relu": "C0", "gelu": "C1"}
    axes.plot(fine, derived_rms(data, "tanh", False, fine), color="0.4", linewidth=1.2)
    for activation in sorted(with_mean & set(colours)):
        derived = derived_rms(data, activation, True, fine)
        axes.plot(fine, derived, color=colours[activation], linewidth=1.2)


def _measured(axes: Axes, data: xr.Dataset, line: Line, shift: float) -> None:
    activation, normalisation, residuals, colour, marker = line
    found = rms_intervals(data, activation, normalisation, residuals)
    value, low, high = np.array([[one.value, one.low, one.high] for one in found]).T
    axes.errorbar(
        np.array(widths(data)) * shift,
        value,
        [value - low, high - value],
        linestyle="",
        marker=marker,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.4,
        label=NAMES[normalisation][activation],
        zorder=3,
    )


FIGURES = {"mean_residual": (mean_residual, ("mean_residual",))}
