"""Figure of the update magnitude in three networks. Lines are theory, points are networks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynsim import fit_exponent

from .estimators import NAMES, NETWORKS, derived_rms, large_cells, magnitude_cells, magnitudes

MARKERS = dict(zip(NETWORKS, "osD", strict=True))
POINT = {"markeredgecolor": "white", "markeredgewidth": 0.4, "linestyle": "none"}


def update_magnitude(data: xr.Dataset) -> Figure:
    """First-step RMS by network, its collapse on d/m, the exponent during training."""
    figure, axes = plt.subplot_mosaic(
        [[*NETWORKS[:2]], [NETWORKS[2], "collapse"], ["ratio", "age"]],
        figsize=(8, 8.8),
        layout="constrained",
    )
    vocab_sizes = [int(m) for m in data.vocab_size.values]
    colours = dict(
        zip(
            vocab_sizes,
            plt.get_cmap("cividis")(np.linspace(0, 0.92, len(vocab_sizes))),
            strict=True,
        )
    )
    for network in NETWORKS:
        panel = axes[network]
        for m, colour in colours.items():
            cells = [cell for cell in magnitude_cells(data, network) if cell[1] == m]
            widths = np.array([d for d, _ in cells], float)
            fine = np.geomspace(widths[0], widths[-1], 50)
            panel.plot(fine, derived_rms(fine, m), color=colour)
            rms, error = _rms_and_error(data, network, cells)
            panel.errorbar(
                widths, rms, error, fmt=MARKERS[network], color=colour, label=str(m), **POINT
            )
            scaled = rms / widths**0.5
            style = {"fmt": MARKERS[network], "color": colour, **POINT}
            axes["collapse"].errorbar(widths / m, scaled, error / widths**0.5, **style)
            derived = derived_rms(*np.transpose(cells))
            axes["ratio"].errorbar(widths / m, rms / derived, error / derived, **style)
        panel.set(
            xscale="log",
            yscale="log",
            xlabel="width $d$",
            ylabel=r"$\mathrm{RMS}(\Delta W\,z)/\eta$",
            title=f"{NAMES[network]}, first step",
        )
        sizes = sorted({d for d, _ in magnitude_cells(data, network)})
        panel.set_xticks(sizes, [str(d) for d in sizes])
        panel.minorticks_off()
    axes["linear"].plot([], [], color="black", label="theory")
    axes["linear"].legend(title="vocabulary $m$")
    ratio = np.geomspace(1e-2, 100, 200)
    width = 4096.0
    curve = derived_rms(width, (width / ratio).round()) / width**0.5
    axes["collapse"].plot(ratio, curve, color="black", zorder=0)
    axes["collapse"].set(
        xscale="log",
        yscale="log",
        xlabel="$d/m$",
        ylabel=r"$\mathrm{RMS}(\Delta W\,z)/(\eta\sqrt{d})$",
        title="all networks on one curve",
    )
    axes["collapse"].minorticks_off()
    axes["collapse"].set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes["ratio"].axhline(1, color="black", zorder=0)
    axes["ratio"].set(
        xscale="log", xlabel="$d/m$", ylabel="measured / derived RMS", title="nothing fitted"
    )
    _ages(axes["age"], data)
    figure.legend(
        handles=[
            Line2D([], [], marker=MARKERS[n], color="0.4", label=NAMES[n], linestyle="none")
            for n in NETWORKS
        ],
        loc="outside lower center",
        ncols=3,
    )
    return figure


def _rms_and_error(data: xr.Dataset, network: str, cells: list[tuple[int, int]]):
    """RMS over seeds and two standard errors of it, by cell."""
    values = np.array([magnitudes(data, network, cell) for cell in cells])
    rms = np.sqrt(values.mean(axis=1))
    return rms, values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]) / rms


def _ages(axes: Axes, data: xr.Dataset) -> None:
    """Exponent at m >> d against the step, with a trained (filled) and a frozen embedding."""
    steps = [int(t) for t in data.step.values]
    for number, network in enumerate(NETWORKS):
        cells = large_cells(data, network)
        widths = [d for d, _ in cells]
        for frozen in (False, True):
            fits = [
                fit_exponent(
                    widths,
                    [magnitudes(data, network, cell, step=t, frozen=frozen) for cell in cells],
                    power=0.5,
                )
                for t in steps
            ]
            value = np.array([fit.value for fit in fits])
            bars = [value - [fit.low for fit in fits], [fit.high for fit in fits] - value]
            axes.errorbar(
                np.array(steps) * (1 + 0.03 * (number - 1)),
                value,
                bars,
                fmt=MARKERS[network] + (":" if frozen else "-"),
                color=f"C{number}",
                markerfacecolor="white" if frozen else f"C{number}",
                linewidth=1,
                label=None if frozen else NAMES[network],
            )
    axes.plot([], [], ":", color="0.4", label="frozen embedding")
    axes.axhline(0.5, color="0.75", linewidth=0.8, zorder=0)
    axes.axhline(1.0, color="0.75", linewidth=0.8, zorder=0)
    axes.set(
        xscale="log",
        xlabel="step",
        ylabel="exponent of $d$",
        ylim=(0.4, 1.25),
        title=f"during training, $m={int(data.vocab_size.max())}\\gg d$",
    )
    axes.set_xticks(steps, [str(t) for t in steps])
    axes.minorticks_off()
    axes.legend()


FIGURES = {"update_magnitude": (update_magnitude, ("update_magnitude",))}
