"""The figure of linear hidden layers. Lines are predictions, points are trained networks."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .cases import CASES
from .estimators import LOSS_ALLOWED, UPDATE_ALLOWED, Curve, excess, loss_curves, update_curves

SHOWN = (
    "1 layer, sign",
    "1 layer, SGD, Zipf 1.2, classes",
    "2 plain layers, Adam, few tokens",
    "2 plain layers, Muon, Zipf 1, classes",
    "4 layers, sign",
    "8 plain layers, Adam",
)


def hidden_layers_accuracy(data: xr.Dataset) -> Figure:
    """Loss curves of some cases, and the distance of every case."""
    figure = plt.figure(figsize=(8, 8.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _curves(left, {one.case: one for one in loss_curves(data)})
    names = [name for name in CASES if name in data.case.values]
    places = {name: len(names) - number for number, name in enumerate(names)}
    for curves, allowed, marker in (
        (loss_curves(data), LOSS_ALLOWED, "o"),
        (update_curves(data), UPDATE_ALLOWED, "s"),
    ):
        worst: dict[str, float] = {}
        for curve in curves:
            worst[curve.case] = max(worst.get(curve.case, 0.0), excess(curve))
        share = [100 * one for one in worst.values()]
        colour, filled = ("C0", "C0") if marker == "o" else ("C1", "none")
        right.plot(share, [places[name] for name in worst], marker, color=colour, mfc=filled)
        right.axvline(100 * allowed, color=colour, ls="--", lw=0.8)
    right.set_yticks(list(places.values()), list(places), fontsize=7.5)
    right.set(
        xlabel="largest distance beyond\ntwo standard errors (%)",
        title="loss (discs), update RMS (squares)",
        xscale="symlog",
    )
    right.margins(x=0.08)
    return figure


def _curves(axes: Axes, curves: dict[str, Curve]) -> None:
    for number, case in enumerate(name for name in SHOWN if name in curves):
        curve, colour = curves[case], f"C{number}"
        steps = np.arange(len(curve.predicted))
        mean = curve.networks.mean(axis=-1)
        bar = 2 * curve.networks.std(axis=-1, ddof=1) / np.sqrt(curve.networks.shape[-1])
        axes.plot(steps, curve.predicted / curve.scale, color=colour, label=case)
        axes.errorbar(steps, mean / curve.scale, bar / curve.scale, fmt="o", ms=3, color=colour)
    axes.set(xlabel="step", ylabel="loss / first loss", yscale="log")
    axes.legend()


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "hidden_layers_accuracy": (hidden_layers_accuracy, ("hidden_layers",))
}
