"""Curves over steps: of trained networks, of theory in their place, and of both together."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dynsim._seed_means import Band, seed_mean, seed_rms

from ._parts import (
    GREY,
    LINES,
    MARKERS,
    curve,
    ending,
    fitting_scale,
    label,
    level,
    note,
    one_or_panels,
    setup_of,
    several_colours,
    size_text,
    whole_steps,
)
from ._style import PANEL_SIZE, cycle_colour

Floats = NDArray[np.float64]

UPDATES = {
    "projection_update_rms": r"projection, total: $\Delta W\,e$",
    "embedding_update_rms": r"embedding, total: $W_0\,\Delta e$",
    "projection_step_rms": r"projection, one step: $\delta W\,e$",
}
OF_READOUT = {  # what reads the last hidden layer in place of the embedding
    "projection_update_rms": r"readout, total: $\Delta W\,h$",
    "projection_step_rms": r"readout, one step: $\delta W\,h$",
}
BOTH_UPDATES = "update of the output, RMS"
ROUTES = ("networks", "mean field", "flow", "linearised")  # a colour each, whichever are there
MOST_IN_A_LEGEND = 8
MOST_WITHIN_A_PANEL = 3  # lines of a legend that leave room for as many curves
LEGEND_WIDTH = 2.4  # inches, of a legend beside the panels
LEGEND_HEIGHT = 0.45  # inches, of a legend below the panels


def training(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Loss and updates of finite networks, means over seeds."""
    axes = one_or_panels(ax, _panel_count(dataset), size=_panel_size(dataset))
    seeds = dataset.sizes["seed"]
    bands = {
        name: (seed_mean if name == "loss" else seed_rms)(
            dataset[name].transpose("rates", "seed", "step").to_numpy(), axis=1
        )
        for name in ("loss", *UPDATES)
    }
    _panels(axes, dataset, bands)
    text = f"mean of {seeds} seeds, band: 95 % interval" if seeds > 1 else "one network"
    lost = int(dataset.diverged.sum())
    note(axes[0], text + (f"; {lost} of {dataset.diverged.size} diverged" if lost else ""))
    _note_setup(axes, dataset)
    return axes[0]


def prediction(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Mean-field loss and updates, with the numerical error as a band."""
    axes = one_or_panels(ax, _panel_count(dataset), size=_panel_size(dataset))
    bands = {}
    for name in ("loss", *UPDATES):
        value = dataset[name].transpose("rates", "step").to_numpy()
        error = dataset[f"{name}_error"].transpose("rates", "step").to_numpy()
        bands[name] = Band(value, value - error, value + error)
    for layer in range(dataset.sizes.get("layer", 0)):
        own = dataset.isel(layer=layer)
        value = own.hidden_update_rms.transpose("rates", "step").to_numpy()
        error = own.hidden_update_rms_error.transpose("rates", "step").to_numpy()
        bands[hidden_update(layer)] = Band(value, value - error, value + error)
    _panels(axes, dataset, bands)
    if dataset.sizes["rates"] == 1:
        limit = (dataset.loss - dataset.finite_width_correction).isel(rates=0)
        axes[0].lines[0].set_label(f"width $d={setup_of(dataset)['width']}$")
        axes[0].plot(
            dataset.step, limit, color=GREY, linestyle="--", linewidth=1.0, label="infinite width"
        )
        axes[0].legend()
    note(axes[0], "mean field, band: numerical error" + ending(dataset.status))
    _note_setup(axes, dataset)
    return axes[0]


def flow(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Loss and updates along a flow."""
    layers = dataset.sizes.get("layer", 0)
    axes = one_or_panels(ax, 2, size=(_panel_width(2 + layers), PANEL_SIZE[1]))
    value, error = dataset.loss.to_numpy(), np.nan_to_num(dataset.loss_error.to_numpy())
    curve(
        axes[0], dataset.time, value, value - error, value + error, color=cycle_colour(0), marker=""
    )
    fitting_scale(axes[0], [value])
    axes[0].set(xlabel=label(dataset.time), ylabel=label(dataset.loss))
    kind = "smoothed sign" if setup_of(dataset)["optimizer"] == "smoothed-sign" else "gradient"
    if dataset.attrs["linearised"]:
        kind = "linearised"
    text = f"{kind} flow, limit: {dataset.attrs['limit']}; band: numerical error"
    note(axes[0], text + ending(dataset.attrs["outcome"]))
    if len(axes) > 1:
        shown = {_update_text(dataset, name): dataset[name] for name in list(UPDATES)[:2]}
        for layer in range(layers):
            shown[hidden_update(layer)] = dataset.hidden_update_rms.isel(layer=layer)
        for number, (text, values) in enumerate(shown.items()):
            options: dict[str, Any] = {
                "color": cycle_colour(number),
                "linestyle": LINES[number % len(LINES)],
            }
            curve(axes[1], dataset.time, values, label=text, marker="", **options)
        _update_axes(axes[1], dataset, list(shown.values()), label(dataset.time))
    _note_setup(axes, dataset)
    return axes[0]


def _update_text(dataset: xr.Dataset, name: str) -> str:
    """Label of an update; the matrix before the output is the readout where layers are hidden."""
    own = OF_READOUT if "layer" in dataset.sizes else {}
    return own.get(name, UPDATES.get(name, name))


def hidden_update(layer: int) -> str:
    """Label of what a hidden layer has learned; counted from 0."""
    return rf"hidden layer {layer + 1}, total: $\Delta A\,h$"


def _note_setup(axes: list[Axes], dataset: xr.Dataset) -> None:
    """What was trained or solved, above the second panel."""
    if len(axes) > 1:
        note(axes[1], size_text(setup_of(dataset)))


def linearized(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Loss of a linearised network; an infinite time is a dotted line."""
    (axes,) = one_or_panels(ax, 1)
    finite = np.isfinite(dataset.time.to_numpy())
    times, loss = dataset.time.to_numpy()[finite], dataset.loss.to_numpy()[finite]
    gaps = np.diff(times)
    if len(gaps) > 1 and gaps.max() > 5 * gaps.min():  # times that are spread over decades
        axes.set_xscale("symlog", linthresh=max(times[times > 0].min(), 1e-300))
    curve(axes, times, loss, color=cycle_colour(0))
    shown = [loss]
    if not finite.all():
        last = float(dataset.loss.to_numpy()[~finite][-1])
        level(axes, last, r"$t=\infty$")
        shown.append(np.array([last]))
    fitting_scale(axes, shown)
    axes.set(xlabel=label(dataset.time), ylabel=label(dataset.loss))
    note(axes, f"linearised network, {dataset.attrs['method']}" + ending(dataset.attrs["outcome"]))
    return axes


def network_training(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Evaluation losses over steps, and where they are few the losses of the batches below them."""
    (axes,) = one_or_panels(ax, 1)
    groups = _groups(dataset)
    colours = several_colours(len(groups))
    horizons = np.append(0, dataset.horizon.to_numpy())
    few = len(horizons) < 6
    shown, counts = [], set()
    for (text, runs), colour in zip(groups, colours, strict=True):
        own = dataset.isel(run=runs)
        loss = np.hstack([own.initial_loss.to_numpy()[:, None], own.loss.to_numpy()])
        band = seed_mean(loss, axis=0)
        counts.add(len(runs))
        if few:
            batches = np.mean(own.train_loss.transpose("run", "step").to_numpy(), axis=0)
            curve(axes, dataset.step, batches, color=colour, alpha=0.5, linewidth=0.9, marker="")
            shown.append(batches)
        curve(axes, horizons, *band, color=colour, label=text, linestyle="" if few else "-")
        shown.append(band.mean)
    fitting_scale(axes, shown)
    whole_steps(axes, float(horizons[-1]))
    axes.set(xlabel=label(dataset.step), ylabel=label(dataset.loss))
    if 1 < len(groups) <= MOST_IN_A_LEGEND:
        axes.legend()
    seeds = max(counts)
    text = f"mean of {seeds} seeds, band: 95 % interval" if seeds > 1 else "one network each"
    note(axes, text + ("; thin: loss of the batch" if few else ""))
    return axes


def _groups(dataset: xr.Dataset) -> list[tuple[str, list[int]]]:
    """Runs of the same rates, with these as text."""
    found: dict[tuple[float, ...], list[int]] = {}
    for run in range(dataset.sizes["run"]):
        rates = tuple(float(dataset[name][run]) for name in ("embedding_lr", "hidden_lr"))
        found.setdefault(rates, []).append(run)
    return [
        (rf"$\eta_E={rates[0]:.3g}$, $\eta_W={rates[1]:.3g}$", runs)
        for rates, runs in found.items()
    ]


def coordinates(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """How large the update of every matrix's output is, step by step."""
    (axes,) = one_or_panels(ax, 1)
    squares = dataset.mean_square.sel(quantity="update").where(dataset.step > 0, drop=True)
    matrices = [str(name) for name in dataset.matrix.values]
    colours = several_colours(len(matrices))
    for number, (name, colour) in enumerate(zip(matrices, colours, strict=True)):
        own = squares.sel(matrix=name).transpose("seed", "step").to_numpy()
        band = seed_rms(np.sqrt(own), axis=0)
        marker = MARKERS[number % len(MARKERS)]
        curve(axes, squares.step, *band, color=colour, marker=marker, markersize=3.5, label=name)
    axes.set(yscale="log", xlabel=label(dataset.step), ylabel="update of the output, RMS")
    whole_steps(axes, float(squares.step[-1]))
    beside = len(matrices) > 4
    axes.legend(**({"loc": "upper left", "bbox_to_anchor": (1.01, 1)} if beside else {}))
    seeds = dataset.sizes["seed"]
    note(axes, f"mean of {seeds} seeds, band: 95 % interval" if seeds > 1 else "one network")
    return axes


def comparison(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Networks, mean field, flow and linearised dynamics of one setup; loss alone on `ax`."""
    names = ["loss", "projection_update_rms", "embedding_update_rms"]
    layers = dataset.sizes.get("layer", 0)
    axes = one_or_panels(ax, 3 + (layers > 0))
    routes = [str(route) for route in dataset.route.values]
    for panel, name in zip(axes, names, strict=False):
        for route in routes:
            number = ROUTES.index(route)
            own = dataset.sel(route=route)
            band = (own[f"{name}_low"], own[f"{name}_high"])
            line: dict[str, Any] = {"color": cycle_colour(number), "linestyle": LINES[number]}
            curve(panel, dataset.step, own[name], *band, label=route, marker="", **line)
        values = [dataset[name].sel(route=route).to_numpy() for route in routes]
        fitting_scale(panel, values)
        panel.set(xlabel=label(dataset.step), ylabel=_value_label(dataset, name))
        whole_steps(panel, float(dataset.step[-1]))
    if ax is not None:
        ax.legend()
        return ax
    if layers:
        _hidden_panel(axes[3], dataset, routes)
    figure = axes[0].figure
    handles, texts = axes[0].get_legend_handles_labels()
    if layers:
        figure.legend(handles, texts, loc="outside lower center", ncols=len(routes))
    else:  # where the fourth panel would stand
        figure.legend(handles, texts, loc="center", bbox_to_anchor=(0.75, 0.25))
    note(axes[0], size_text(setup_of(dataset)))
    count = len(setup_of(dataset)["seeds"])
    note(axes[1], f"networks: mean of {count} seeds, band: 95 % interval")
    note(axes[2], "other bands: numerical error")
    return axes[0]


def _value_label(dataset: xr.Dataset, name: str) -> str:
    """Of an axis: loss, or an update by the name of its matrix in this network."""
    if name in OF_READOUT and "layer" in dataset.sizes:
        return "readout update RMS" if name == "projection_update_rms" else "readout step RMS"
    return label(dataset[name])


def _hidden_panel(axes: Axes, dataset: xr.Dataset, routes: list[str]) -> None:
    """Updates of all hidden layers, a line style a route, the first layer lightest."""
    layers = dataset.sizes["layer"]
    for route in routes:
        number = ROUTES.index(route)
        for layer in range(layers):
            own = dataset.sel(route=route).isel(layer=layer)
            line: dict[str, Any] = {"color": cycle_colour(number), "linestyle": LINES[number]}
            band = own.hidden_update_rms_low, own.hidden_update_rms_high
            options = {"alpha": (layer + 1) / layers, "marker": "", **line}
            curve(axes, dataset.step, own.hidden_update_rms, *band, **options)
    fitting_scale(axes, [dataset.hidden_update_rms.to_numpy()])
    axes.set(xlabel=label(dataset.step), ylabel=label(dataset.hidden_update_rms))
    whole_steps(axes, float(dataset.step[-1]))
    if layers > 1:
        note(axes, "light to dark: first to last hidden layer")


def _panel_size(dataset: xr.Dataset) -> tuple[float, float]:
    """Of the panels: higher where a legend of learning rates stands below them."""
    below = 1 < dataset.sizes["rates"] <= MOST_IN_A_LEGEND
    curves = len(UPDATES) + dataset.sizes.get("layer", 0)
    return (_panel_width(curves), PANEL_SIZE[1] + LEGEND_HEIGHT * below)


def _panel_width(curves: int) -> float:
    """Of one of two panels: wider where a legend of many curves stands beside the second."""
    return PANEL_SIZE[0] + LEGEND_WIDTH / 2 * (curves > MOST_WITHIN_A_PANEL)


def _panel_count(dataset: xr.Dataset) -> int:
    return 2 if dataset.sizes["rates"] == 1 else 3


def _panels(axes: list[Axes], dataset: xr.Dataset, bands: dict[str, Band]) -> None:
    """Loss, and one panel of all updates, or for several rates one of each layer's total."""
    _rate_curves(axes[0], dataset, "loss", bands["loss"])
    if len(axes) == 2:
        shown = []
        for number, name in enumerate(name for name in bands if name != "loss"):
            one = Band(*(part[0] for part in bands[name]))
            if np.isfinite(one.mean).any():
                options: dict[str, Any] = {
                    "color": cycle_colour(number),
                    "linestyle": LINES[number % len(LINES)],
                }
                text = _update_text(dataset, name)
                curve(axes[1], dataset.step, *one, label=text, marker="", **options)
                shown.append(one.mean)
        _update_axes(axes[1], dataset, shown, label(dataset.step))
        whole_steps(axes[1], float(dataset.step[-1]))
    elif len(axes) == 3:
        for panel, name in zip(axes[1:], UPDATES, strict=False):
            _rate_curves(panel, dataset, name, bands[name])
    count = dataset.sizes["rates"]
    if 1 < count <= MOST_IN_A_LEGEND:
        handles, texts = axes[0].get_legend_handles_labels()
        if len(axes) > 1:
            axes[0].figure.legend(handles, texts, loc="outside lower center", ncols=min(count, 4))
        else:
            axes[0].legend()
    elif count > MOST_IN_A_LEGEND:
        note(axes[-1], "dark to light: first to last pair of rates")


def _rate_curves(axes: Axes, dataset: xr.Dataset, name: str, band: Band) -> None:
    """One quantity, a line a pair of learning rates."""
    count = dataset.sizes["rates"]
    for number, colour in enumerate(several_colours(count)):
        rates = [float(dataset[one][number]) for one in ("embedding_lr", "projection_lr")]
        text = rf"$\eta_E={rates[0]:.3g}$, $\eta_W={rates[1]:.3g}$"
        own = (part[number] for part in band)
        style = LINES[number % 4] if count <= MOST_IN_A_LEGEND else "-"
        curve(axes, dataset.step, *own, color=colour, linestyle=style, label=text, marker="")
    fitting_scale(axes, [band.mean])
    axes.set(xlabel=label(dataset.step), ylabel=_value_label(dataset, name))
    whole_steps(axes, float(dataset.step[-1]))


def _update_axes(axes: Axes, dataset: xr.Dataset, shown: list[Any], x_label: str) -> None:
    axes.set(xlabel=x_label, ylabel=BOTH_UPDATES)
    fitting_scale(axes, shown)
    beside = len(shown) > MOST_WITHIN_A_PANEL
    axes.legend(**({"loc": "upper left", "bbox_to_anchor": (1.01, 1)} if beside else {}))
