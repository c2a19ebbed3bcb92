"""Figure of nonlinear hidden layers. Lines are predictions, points are trained networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.topics.mean_field.estimators import loss_excess

from .estimators import ALLOWED


def nonlinear_layers_accuracy(many: xr.Dataset, few: xr.Dataset) -> Figure:
    """Losses of networks and predictions, and their distance beyond two standard errors, which also
    names the colours of the cases."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 7.5), layout="constrained")
    for data, (curves, distances), title in (
        (many, panels[0], "tokens in proportion, d = 256"),
        (few, panels[1], "few tokens, d = 512"),
    ):
        _curves(data, curves)
        curves.set_title(title)
        _distances(data, distances)
    return figure


def _colours(data: xr.Dataset) -> dict[str, Any]:
    """The colour of each case, in its curve and in its row of distances."""
    cycle = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    return dict(zip(data.case.values.tolist(), cycle, strict=False))


def _curves(data: xr.Dataset, panel: Axes) -> None:
    for case, colour in _colours(data).items():
        cell = data.sel(case=case).isel(width=0)
        loss = cell.loss.transpose("step", "seed").to_numpy()
        first = loss[0].mean()
        error = 2 * loss.std(axis=1, ddof=1) / np.sqrt(loss.shape[1])
        panel.plot(cell.step, cell.predicted / first, color=colour)
        panel.errorbar(
            cell.step, loss.mean(axis=1) / first, error / first, fmt="o", ms=3, color=colour
        )
        if np.isfinite(cell.without_noise).all():
            panel.plot(cell.step, cell.without_noise / first, ":", color=colour)
    panel.set(xlabel="step", ylabel="loss / first loss", yscale="log")


def _distances(data: xr.Dataset, panel: Axes) -> None:
    cases = [str(case) for case in data.case.values]
    width = int(data.width.values[0])
    place = np.arange(len(cases))
    for prediction, marker, label in (
        ("predicted", "o", "mean field"),
        ("without_noise", "x", "without the neurons' own noise"),
    ):
        excess = loss_excess(data, prediction)
        share = np.array([100 * excess[case, width] for case in cases])
        if np.isfinite(share).any():
            panel.scatter(share, place, marker=marker, c=list(_colours(data).values()), zorder=3)
            panel.plot([], [], marker, color="0.4", label=label)
    panel.axvline(100 * ALLOWED, color="0.5", ls=":", label="allowed root mean square")
    panel.set_yticks(place, cases, fontsize=7.5)
    panel.set(xlabel="distance beyond two standard errors,\n% of the first loss")
    panel.legend()


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "nonlinear_layers_accuracy": (
        nonlinear_layers_accuracy,
        ("nonlinear_layers", "nonlinear_few_tokens"),
    )
}
