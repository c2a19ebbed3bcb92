"""Claims: one with its verdict, and several side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from dynsim._names import name_of

from ._exponents import (
    heading,
    legend_below,
    mathematics,
    number_text,
    path_text,
    quantity_name,
    scaling_exponent,
    ticks_at,
)
from ._parts import (
    FRAMED,
    GREY,
    MARKERS,
    bars,
    fitting_scale,
    log_ticks,
    note,
    one_or_panels,
    several_colours,
)
from ._style import COLOURS, cycle_colour

THEORY, BAND = COLOURS[1], "0.5"
SIZE = (3.7, 3.0)
APART = 0.012  # of the axis's length, between the bars of neighbouring paths
VERDICTS = {"holds": 2, "undecided": 4, "fails": 1}
ROW, WIDTH = 0.24, 6.4  # inches
SHOWN = 4.5  # tolerances to either side of the prediction, at most


def finding(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """A claim: the exponent with the claim's band, or the ratio at every size with its band."""
    return (_ratio if dataset.attrs["form"] == "ratio" else scaling_exponent)(dataset, ax)


def _ratio(dataset: xr.Dataset, ax: Axes | None) -> Axes:
    """The ratio to theory at every size; and the quantity itself with the theory."""
    axes = one_or_panels(ax, 2, size=SIZE)
    _ratios(axes[0], dataset)
    if len(axes) > 1:
        _values(axes[1], dataset)
        attrs = dataset.attrs
        above = quantity_name(attrs["quantity"])
        mean = number_text(attrs, "measured_value", "measured_low", "measured_high")
        claimed = f"{attrs['claim']}: {above} over {_below(attrs)} {mean}, {attrs['verdict']}"
        legend_below(axes[0])
        heading(axes[0], claimed, path_text(dataset.assign_attrs(path=_common_path(dataset))))
    return axes[0]


def _below(attrs: dict[str, Any]) -> str:
    """The theory in words."""
    known = {"derived": "the derived value", "mean_field": "the mean-field value"}
    return known.get(attrs["against"], mathematics(attrs["against"]))


def _size_label(dataset: xr.Dataset) -> str:
    """The growing size, in words and as a symbol."""
    name = name_of(f"growing_{dataset.attrs['along']}")
    return f"{name.long_name} {name.symbol}"


def _ratios(axes: Axes, dataset: xr.Dataset) -> None:
    attrs = dataset.attrs
    predicted, tolerance = attrs["predicted"], attrs["tolerance"]
    band = predicted - tolerance, predicted + tolerance
    axes.axhspan(*band, color=BAND, alpha=0.13, linewidth=0, zorder=0)
    axes.axhline(predicted, color="k", linestyle="--", linewidth=1.0, zorder=1)
    mean = attrs["measured_value"], attrs["measured_low"], attrs["measured_high"]
    if np.isfinite(mean[1:]).all():
        axes.axhspan(*mean[1:], color=cycle_colour(0), alpha=0.2, linewidth=0, zorder=1)
    text = "geometric mean over sizes"
    axes.axhline(mean[0], color=cycle_colour(0), linewidth=1.0, zorder=2, label=text)
    _bars(axes, dataset, "measured_ratio")
    axes.set(xscale="log", xlabel=_size_label(dataset), ylabel="measured / theory")
    shown = [dataset[f"measured_ratio{end}"] for end in ("", "_low", "_high")]
    values = np.concatenate([np.ravel(np.asarray(one, float)) for one in (*shown, band, mean)])
    values = values[np.isfinite(values)]
    room = 0.12 * (values.max() - values.min())
    axes.set_ylim(values.min() - room, values.max() + room)
    ticks_at(axes, dataset["size"])
    axes.legend(**FRAMED)
    note(axes, f"bars: 95 %; grey: predicted {predicted:.4g} ± {tolerance:.4g}")


def _values(axes: Axes, dataset: xr.Dataset) -> None:
    paths = list(dict.fromkeys(dataset.path.to_numpy().tolist()))
    colours = several_colours(len(paths)) if len(paths) > 1 else [THEORY]
    for path, colour in zip(paths, colours, strict=True):
        here = dataset.isel(cell=dataset.path.to_numpy() == path)
        axes.plot(here["size"], here.theory, color=colour, linewidth=1.0, zorder=2)
    _bars(axes, dataset, "measured")
    axes.set(xscale="log", xlabel=_size_label(dataset))
    axes.set_ylabel(quantity_name(dataset.attrs["quantity"]))
    fitting_scale(axes, [dataset.measured, dataset.theory])
    if axes.get_yscale() == "log":
        log_ticks(axes.yaxis)
    ticks_at(axes, dataset["size"])
    seeds = dataset.attrs["seeds"]
    note(axes, f"points: networks, {seeds} seeds each; line: {_below(dataset.attrs)}")


def _bars(axes: Axes, dataset: xr.Dataset, name: str) -> None:
    """Points with their intervals; those of different paths stand side by side."""
    paths = list(dict.fromkeys(dataset.path.to_numpy().tolist()))
    sizes = dataset["size"].to_numpy().astype(float)
    step = APART * np.log(sizes.max() / sizes.min())
    for number, path in enumerate(paths):
        here = dataset.isel(cell=dataset.path.to_numpy() == path)
        away = np.exp((number - (len(paths) - 1) / 2) * step)
        bars(
            axes,
            here["size"] * away,
            here[name],
            here[f"{name}_low"],
            here[f"{name}_high"],
            color=several_colours(len(paths))[number],
            marker=MARKERS[number % len(MARKERS)],
            label=_own_path(path, paths) if len(paths) > 1 else "networks",
            zorder=4,
        )


def _own_path(path: str, paths: list[str]) -> str:
    """The parts of a path that not all paths have."""
    others = [set(one.split("; ")) for one in paths]
    own = [part for part in path.split("; ") if not all(part in one for one in others)]
    return ", ".join(map(mathematics, own))


def _common_path(dataset: xr.Dataset) -> str:
    """The parts that all paths have."""
    paths = [text.split("; ") for text in dict.fromkeys(dataset.path.to_numpy().tolist())]
    return "; ".join(part for part in paths[0] if all(part in one for one in paths))


def verdicts(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """A row for each claim: the measured number minus the predicted one, in its tolerances."""
    count = dataset.sizes["claim"]
    (axes,) = one_or_panels(ax, 1, size=(WIDTH, 1.0 + ROW * max(count, 2)))
    rows = np.arange(count)
    scale = dataset.tolerance.to_numpy()
    low, value, high, simulated = (
        (dataset[name].to_numpy() - dataset.predicted.to_numpy()) / scale
        for name in ("measured_low", "measured", "measured_high", "simulated")
    )
    axes.axvspan(-1, 1, color=BAND, alpha=0.13, linewidth=0, zorder=0)
    axes.axvline(0, color="k", linestyle="--", linewidth=1.0, zorder=1)
    found = dataset.verdict.to_numpy()
    ends = np.concatenate([low, high, value, [-1.5, 1.5]])
    reach = min(np.nanmax(np.abs(ends)) * 1.05, SHOWN * 1.05)
    inside = np.abs(value) <= SHOWN
    # Rows with an arrow at the right, and at the left: for the value, or for the end of its bar.
    right = np.where(inside, high > reach, value > SHOWN)
    left = np.where(inside, low < -reach, value < -SHOWN)
    for verdict, colour in VERDICTS.items():
        here = found == verdict
        if not here.any():
            continue
        style: dict[str, Any] = {"color": cycle_colour(colour), "zorder": 3}
        points = np.where(inside, value, np.nan)[here]
        bars = np.array([value - low, high - value])[:, here]
        axes.errorbar(
            points,
            rows[here],
            xerr=np.where(np.isfinite(points) & np.isfinite(bars), bars, 0),
            marker="o",
            linestyle="",
            label=verdict,
            **style,
        )
        for side, arrow, pointed in ((1, ">", right), (-1, "<", left)):
            row = rows[here & pointed]
            places = np.full(len(row), side * SHOWN)
            axes.plot(places, row, marker=arrow, markersize=6, linestyle="", **style)
    handles, labels = axes.get_legend_handles_labels()
    if np.isfinite(simulated).any():
        style = {"color": GREY, "markerfacecolor": "none", "zorder": 2}
        handles += axes.plot(simulated, rows, "d", **style)
        labels.append("theory at these sizes")
    unexpected = found != dataset.expected.to_numpy()
    names = [
        f"{name}{' (!)' if odd else ''}"
        for name, odd in zip(dataset["claim"].to_numpy(), unexpected, strict=True)
    ]
    axes.set_yticks(rows, names)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("(measured − predicted) / tolerance")
    axes.set_ylabel("claim")
    axes.grid(visible=False, axis="y")
    axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1))
    expected = count - int(unexpected.sum())
    text = f"bars: 95 % intervals; grey: band of the claim; {expected} of {count} as expected"
    text += "; arrows: beyond" if (left | right).any() else ""
    note(axes, text + ("; (!): not as expected" if unexpected.any() else ""))
    return axes
