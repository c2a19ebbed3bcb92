"""Maps of regimes: colours of theory, lines where regimes meet, trained networks as markers."""

from __future__ import annotations

import json
import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from dynsim._names import latex_path

from ._parts import MANY, log_ticks, plain_number
from ._style import panels

Floats = NDArray[np.float64]

SIZE = (4.6, 3.9)
COLOUR_MAPS = {"centred": "managua_r", "linear": "cividis", "log": "cividis"}
LINES = {"first_step": "-", "batch": "--", "restoration": "-.", "self_term": ":"}
SHORT = {
    "first_step": r"$\rho=1$",
    "batch": r"$\rho_B=1$",
    "restoration": r"$\rho(\tau)=1$",
    "self_term": r"$\kappa=1$",
}
PLACES = {"batch": 0.25, "first_step": 0.75}  # of a line's name along it
HATCH = "////"
LOG_RANGE = 1e6  # of a logarithmic colour, from its largest value down
REGIMES = {"LV": (0.5, 0.6), r"$\mu$P": (0.9, 1.01)}
MOST_INTERVALS = 25  # networks, so that their intervals are written beside them
ROOM = 0.16  # of the axes, between a name and the next network or name
EDGE = 0.09  # of the axes, from the middle of a name to their edge
LEAST_SHARE = 0.03  # of a regime's cells, to be named on the map


def regime_map(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The dataset of a `RegimeMap`, with its lines, its networks and a legend below."""
    axes = panels(size=SIZE)[1][0, 0] if ax is None else ax
    x, y = dataset[dataset.attrs["x"]], dataset[dataset.attrs["y"]]
    shown = dataset[dataset.attrs["colour"]]
    _frame(axes, x, y)
    values, norm, zero = _scaled(dataset, shown)
    colours = {"cmap": plt.get_cmap(COLOUR_MAPS[shown.attrs["scale"]]), "norm": norm}
    edges = _edges(x), _edges(y)
    _hatched(axes)
    image = axes.pcolormesh(*edges, values, shading="flat", rasterized=True, **colours)
    if zero is not None:
        axes.pcolormesh(
            *edges,
            np.where(zero, 0.0, np.nan),
            cmap="gray",
            vmin=-8,
            vmax=1,
            rasterized=True,
        )
    handles = [*_lines(axes, dataset), *_networks(axes, dataset, colours), *_missing(dataset)]
    if zero is not None:
        handles.append(Patch(facecolor="0.9", label=r"$\mu$P from the first update"))
    if shown.name == "local_exponent":
        _regime_names(axes, values, x, y, dataset)
    if handles and ax is None:
        axes.figure.legend(  # type: ignore[union-attr]
            handles=handles, loc="outside lower center", ncols=2 if len(handles) > 3 else 1
        )
    elif handles:
        axes.legend(handles=handles)
    bar = axes.figure.colorbar(image, ax=axes, label=shown.attrs["label"], pad=0.02)
    bar.outline.set_linewidth(0.5)  # type: ignore[union-attr]
    axes.set_title(_title(dataset))
    _exponent_axis(axes, dataset)
    return axes


def _frame(axes: Axes, x: xr.DataArray, y: xr.DataArray) -> None:
    scales = {"log": "log", "lin": "linear"}
    axes.set(
        xscale=scales[x.attrs["spacing"]],
        yscale=scales[y.attrs["spacing"]],
        xlim=(_edges(x)[0], _edges(x)[-1]),
        ylim=(_edges(y)[0], _edges(y)[-1]),
        xlabel=x.attrs["long_name"],
        ylabel=y.attrs["long_name"],
    )
    axes.grid(visible=False)
    logarithmic = [one for one in (axes.xaxis, axes.yaxis) if one.get_scale() == "log"]
    if log_ticks(*logarithmic):  # 1000 on one axis is not to be 10^3 on the other
        for axis in logarithmic:
            if axis.get_view_interval().max() < MANY:
                axis.set_major_formatter(FuncFormatter(plain_number))


def _edges(axis: xr.DataArray) -> Floats:
    """Edges of cells around the values: halfway, on the axis's own scale."""
    logarithmic = axis.attrs["spacing"] == "log"
    places = np.asarray(axis.values, np.float64)
    places = np.log(places) if logarithmic else places
    middle = (places[1:] + places[:-1]) / 2
    ends = 2 * places[0] - middle[0], 2 * places[-1] - middle[-1]
    edges = np.concatenate([[ends[0]], middle, [ends[1]]])
    return np.exp(edges) if logarithmic else edges


def _scaled(
    dataset: xr.Dataset, shown: xr.DataArray
) -> tuple[np.ma.MaskedArray, Normalize, NDArray[np.bool_] | None]:
    """Values to draw, their colour scale, and, on a logarithmic one, the cells that are zero."""
    values = np.asarray(shown.values, np.float64)
    measured = dataset["network_value"].values if "network_value" in dataset else np.array([])
    limits = shown.attrs.get("limits")
    if limits is not None:
        low, high = (float(one) for one in np.asarray(limits))
        return np.ma.masked_invalid(values), Normalize(low, high), None
    zero = values == 0
    every = np.concatenate([values[np.isfinite(values) & ~zero], measured[measured > 0]])
    if not every.size or every.min() <= 0:
        return np.ma.masked_invalid(values), Normalize(), None
    low, high = float(every.min()), float(every.max())
    norm = LogNorm(max(low, high / LOG_RANGE), max(high, low * (1 + 1e-9)))
    hidden = ~np.isfinite(values) | zero
    return np.ma.masked_array(values, hidden), norm, zero if zero.any() else None


def _hatched(axes: Axes) -> None:
    """A hatched ground, which shows where no cell has a value."""
    ground = Rectangle(
        (0, 0),
        1,
        1,
        transform=axes.transAxes,
        facecolor="white",
        edgecolor="0.6",
        hatch=HATCH,
        linewidth=0,
        zorder=0,
    )
    axes.add_patch(ground)


def _lines(axes: Axes, dataset: xr.Dataset) -> list[Line2D]:
    handles, taken = [], _trained(dataset)
    for variable in dataset.data_vars:
        name = str(variable).removeprefix("boundary_")
        if name == variable:
            continue
        points = dataset[variable]
        style: Any = LINES.get(name, "-")
        solid = style == "-"
        # Black dashes on a white line show that two lines lie upon each other.
        inner, outer = ("white", "black") if solid else ("black", "white")
        for colour, linewidth in ((outer, 2.6), (inner, 1.3)):
            axes.plot(
                *points.values.T,
                color=colour,
                linestyle=style,
                linewidth=linewidth,
                zorder=3 if solid else 3.1,
            )
        place = _inline(axes, points.values, SHORT.get(name, name), PLACES.get(name, 0.6), taken)
        taken = np.vstack([taken, place])
        text = f"{SHORT.get(name, name)}:  {points.attrs['drawn']}"
        handles.append(Line2D([], [], color="0.2", linestyle=style, label=text))
    return handles


def _inline(
    axes: Axes, points: Floats, text: str, part: float, taken: Floats
) -> tuple[float, float]:
    """The line's name on the line, near this part of its longest piece, away from what is `taken`.

    Returns where it is.
    """
    breaks = np.flatnonzero(np.isnan(points[:, 0]))
    pieces = [piece[np.isfinite(piece[:, 0])] for piece in np.split(points, breaks)]
    longest = max(pieces, key=len)
    parts = np.linspace(0.08, 0.92, 43)
    candidates = longest[(parts * (len(longest) - 1)).astype(int)]
    away = _room(axes, taken, candidates)
    shown = (axes.transData + axes.transAxes.inverted()).transform(candidates)
    inside = np.minimum(shown, 1 - shown).min(axis=1)  # from the nearest edge
    spilling = np.maximum(EDGE - inside, 0) / EDGE
    crowded = np.maximum(ROOM - away, 0) / ROOM
    best = np.argmin(np.abs(parts - part) + 2 * crowded + 4 * spilling)
    x, y = (float(one) for one in candidates[best])
    axes.text(
        x,
        y,
        text,
        color="white",
        fontsize=8,
        ha="center",
        va="center",
        zorder=5,
        bbox={"facecolor": "0.15", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
    )
    return x, y


def _trained(dataset: xr.Dataset) -> Floats:
    """Where the trained networks are, shape (K, 2)."""
    if "network_value" not in dataset:
        return np.empty((0, 2))
    return np.stack([dataset.network_x.values, dataset.network_y.values], axis=1).astype(float)


def _room(axes: Axes, taken: Floats, places: Floats) -> Floats:
    """How far places are from the next that is taken, in parts of the axes."""
    if not len(taken):
        return np.full(len(places), np.inf)
    shown = axes.transData + axes.transAxes.inverted()
    apart = shown.transform(places)[:, None] - shown.transform(taken)[None]
    return np.linalg.norm(apart, axis=-1).min(axis=1)


def _intervals(axes: Axes, dataset: xr.Dataset) -> None:
    """Beside each network its value and the interval, where there are few."""
    if dataset.sizes["network"] > MOST_INTERVALS:
        return
    names = ("network_x", "network_y", "network_value", "network_low", "network_high")
    for x, y, value, low, high in zip(*(dataset[name].values for name in names), strict=True):
        interval = f"\n[{_short(low)}, {_short(high)}]" if np.isfinite([low, high]).all() else ""
        axes.annotate(
            f"{_short(value)}{interval}",
            (float(x), float(y)),
            (0, -6),
            textcoords="offset points",
            color="white",
            fontsize=5.5,
            ha="center",
            va="top",
            zorder=7,
            path_effects=[patheffects.withStroke(linewidth=1.6, foreground="0.1")],
        )


def _short(value: float) -> str:
    """A number in three or four characters where that is enough."""
    return f"{value:.2f}" if 0.1 <= abs(value) < 10 else f"{value:.2g}"


def _networks(axes: Axes, dataset: xr.Dataset, colours: dict[str, Any]) -> list[Line2D]:
    if "network_value" not in dataset:
        return []
    x, y = dataset.network_x.values, dataset.network_y.values
    axes.scatter(
        x, y, c=dataset.network_value.values, s=58, edgecolors="white", linewidths=1.4, zorder=6,
        **colours,
    )  # fmt: skip
    axes.scatter(x, y, s=82, facecolors="none", edgecolors="black", linewidths=0.6, zorder=6)
    round_marker: dict[str, Any] = {"marker": "o", "linestyle": "", "markerfacecolor": "0.75"}
    seeds = int(dataset.attrs["seeds"])
    left_out = sum(json.loads(dataset.attrs["left_out"]).values())
    trained = f"{len(x)} of {len(x) + left_out}" if left_out else str(len(x))
    _intervals(axes, dataset)
    text = f"networks at {trained} points, {seeds} seeds each"
    if len(x) <= MOST_INTERVALS:
        text += ", 95 % intervals"
    handles = [Line2D([], [], color="black", markersize=6, label=text, **round_marker)]
    misses = dataset.network_misses.values.astype(bool)
    if misses.any():
        ring: Any = {"facecolors": "none", "edgecolors": "#FF2D9B", "linewidths": 1.6}
        axes.scatter(x[misses], y[misses], s=150, zorder=7, **ring)
        handles.append(
            Line2D(
                [],
                [],
                color="#FF2D9B",
                marker="o",
                linestyle="",
                markerfacecolor="none",
                markersize=9,
                label=f"95 % interval without the theory's value: {misses.sum()}",
            )
        )
    return handles


def _missing(dataset: xr.Dataset) -> list[Patch]:
    counts = json.loads(dataset.attrs["reasons"])
    cells = dataset["missing"].size
    return [
        Patch(
            facecolor="white",
            edgecolor="0.6",
            hatch=HATCH,
            label=f"{count} of {cells} cells: {reason.replace('`', '')}",
        )
        for reason, count in counts.items()
    ]


def _regime_names(
    axes: Axes, values: Floats, x: xr.DataArray, y: xr.DataArray, dataset: xr.Dataset
) -> None:
    """The names of the regimes, each near the middle of its cells, away from networks."""
    for text, (low, high) in REGIMES.items():
        cells = np.argwhere(np.ma.filled((values >= low) & (values < high), False))
        if len(cells) < LEAST_SHARE * values.size:
            continue
        middle = np.median(cells, axis=0)
        far = np.linalg.norm((cells - middle) / values.shape, axis=1)
        places = np.stack([x.values[cells[:, 1]], y.values[cells[:, 0]]], axis=1)
        away = _room(axes, _trained(dataset), places.astype(float))
        row, column = cells[np.argmin(far + np.maximum(ROOM - away, 0) / ROOM)]
        axes.text(
            float(x.values[column]),
            float(y.values[row]),
            text,
            color="white",
            fontsize=10,
            ha="center",
            va="center",
            zorder=4,
            path_effects=[patheffects.withStroke(linewidth=2, foreground="0.15")],
        )


def _title(dataset: xr.Dataset) -> str:
    """What is the same on the whole map."""
    setup = json.loads(dataset.attrs["setup"])
    axes = (dataset.attrs["x"], dataset.attrs["y"])
    symbols = {"width": "d", "vocab_size": "m", "outputs": "n", "batch_size": "B"}
    words = []
    for name, symbol in symbols.items():
        value = setup.get(name)
        if value is not None and name not in axes and (name, str(value)) != ("outputs", "1"):
            number = latex_path(str(value))
            if str(value) != "0":
                words.append(f"${symbol}={number}$")
    if not setup.get("batch_size") and "batch_size" not in axes:
        words.append("full batch")
    if "zipf" not in axes:
        words.append(str(setup.get("tokens") or "uniform"))
    if str(setup.get("steps", "1")) != "1" and not {"age", "steps"} & set(axes):
        words.append(f"$T={setup['steps']}$")
    words.append(str(setup.get("optimizer", "")))
    text = ", ".join(words)
    return text if len(text) < 70 else f"{text[:67]}..."


def _exponent_axis(axes: Axes, dataset: xr.Dataset) -> None:
    """Beside a vocabulary at one width against a Zipf exponent: mu = ln m / ln d."""
    setup = json.loads(dataset.attrs["setup"])
    if {dataset.attrs["x"], dataset.attrs["y"]} != {"zipf", "vocab_size"}:
        return
    try:
        length = math.log(float(setup["width"]))
    except (KeyError, ValueError):
        return
    functions = (lambda m: np.log(np.maximum(m, 1e-9)) / length, lambda mu: np.exp(mu * length))
    if dataset.attrs["y"] == "vocab_size":
        beside = axes.secondary_yaxis("right", functions=functions)
        beside.set_ylabel(r"$\mu=\ln m/\ln d$")
    else:
        beside = axes.secondary_xaxis("top", functions=functions)
        beside.set_xlabel(r"$\mu=\ln m/\ln d$")
    long = beside.yaxis if dataset.attrs["y"] == "vocab_size" else beside.xaxis
    long.set_major_locator(MaxNLocator(6))
    long.set_minor_locator(NullLocator())
    long.set_major_formatter(ScalarFormatter())
