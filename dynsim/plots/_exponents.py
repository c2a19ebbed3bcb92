"""A quantity along a path: its values by every route, and its local exponents."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from dynsim._names import latex_path
from dynsim._summary import NINETY_FIVE

from ._parts import FRAMED, bars, curve, label, log_ticks, note, one_or_panels
from ._style import COLOURS

NETWORKS, DERIVED, MEAN_FIELD = COLOURS[:3]
SOLVED: dict[str, Any] = {
    **{"color": MEAN_FIELD, "marker": "D", "markersize": 6, "markerfacecolor": "none"},
    **{"linestyle": "", "zorder": 3},
}
MOST_TICKS = 6
LEAST_STEP = 0.15  # of the axis, between two ticks with numbers
TITLE_WIDTH = 110  # characters of a line
LEGEND_WIDTH = 110  # characters of a row
RATES = {
    **{"embedding_lr": r"\eta_E", "projection_lr": r"\eta_W", "hidden_lr": r"\eta_H"},
    "epsilon": r"\epsilon",
}
LEAST_RANGE = 0.3  # of an axis of exponents
SIZE = (3.7, 3.0)


def scaling_exponent(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The quantity against the growing size, with the slope of each route; and local exponents."""
    axes = one_or_panels(ax, 2, size=SIZE)
    _values(axes[0], dataset)
    if len(axes) > 1:
        _local_exponents(axes[1], dataset)
        heading(axes[0], quantity_text(dataset), path_text(dataset))
        legend_below(axes[0])
    return axes[0]


def heading(axes: Axes, *lines: str) -> None:
    """The title of a whole figure, at the left."""
    title = "\n".join(line for line in lines if line)
    axes.figure.suptitle(title, x=0.01, ha="left", fontsize=9)  # type: ignore[union-attr]


def legend_below(axes: Axes) -> None:
    """Moves the legend of a panel below the figure, where no data are."""
    legend = axes.get_legend()
    if legend is None:
        return
    handles, labels = axes.get_legend_handles_labels()
    title = legend.get_title().get_text()
    if title == "None":
        title = None
    legend.remove()
    columns = max(1, min(len(labels), int(LEGEND_WIDTH / max(map(len, labels)))))
    axes.figure.legend(  # type: ignore[union-attr]
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        title=title,
        title_fontsize=7.5,
    )


def quantity_text(dataset: xr.Dataset) -> str:
    """The quantity and, of a claim, its name, its numbers and its verdict."""
    attrs = dataset.attrs
    name = quantity_name(attrs["quantity"])
    if "claim" not in attrs:
        return name
    letter = dataset[attrs["along"]].attrs["symbol"]
    power = number_text(attrs, "measured_slope", "measured_slope_low", "measured_slope_high")
    return f"{attrs['claim']}: power of {letter} in {name} {power}, {attrs['verdict']}"


def number_text(attrs: dict[str, Any], value: str, low: str, high: str) -> str:
    """`0.853 [0.841, 0.866]`, and the value alone where there is no interval."""
    if value not in attrs:
        return "no number"
    ends = attrs[low], attrs[high]
    interval = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if np.isfinite(ends).all() else ""
    return f"{attrs[value]:.3f}{interval}"


def quantity_name(quantity: str) -> str:
    """A quantity in words: `projection update RMS`."""
    return quantity.replace("_", " ").replace("rms", "RMS").replace(" lr", " LR")


def _values(axes: Axes, dataset: xr.Dataset) -> None:
    attrs = dataset.attrs
    size = dataset[attrs["along"]]
    x = size.to_numpy().astype(float)
    if np.isfinite(dataset.derived).any():
        text = f"derived formula: {attrs['derived_slope']:.3f}" if "derived_slope" in attrs else ""
        axes.plot(x, dataset.derived, color=DERIVED, label=text or "derived formula", zorder=2)
    if np.isfinite(dataset.mean_field).any():
        text = "mean field"
        if "mean_field_slope" in attrs:
            slope, error = attrs["mean_field_slope"], attrs["mean_field_slope_error"]
            text += f": {slope:.3f}" + (f" ± {NINETY_FIVE * error:.1g}" if error else "")
        error = NINETY_FIVE * dataset.mean_field_error
        ends = dataset.mean_field - error, dataset.mean_field + error
        bars(axes, x, dataset.mean_field, *ends, label=text, **SOLVED)
    if np.isfinite(dataset.measured).any():
        text = "networks"
        if "measured_slope" in attrs:
            ends = ("measured_slope_low", "measured_slope_high")
            text += f": {number_text(attrs, 'measured_slope', *ends)}"
        ends = dataset.measured_low, dataset.measured_high
        bars(axes, x, dataset.measured, *ends, color=NETWORKS, label=text, zorder=4)
    axes.set(
        xscale="log", yscale="log", xlabel=label(size), ylabel=quantity_name(attrs["quantity"])
    )
    log_ticks(axes.yaxis)
    ticks_at(axes, x)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title="slope at these sizes", title_fontsize=7.5, alignment="left", **FRAMED)
    measured = bool(np.isfinite(dataset.measured).any())
    count = dataset.sizes["seed"]
    each = f"networks: {count} seed{'s' if count > 1 else ''} each; " if measured else ""
    note(axes, f"{each}bars: 95 % intervals")


def _local_exponents(axes: Axes, dataset: xr.Dataset) -> None:
    attrs = dataset.attrs
    shown: list[Any] = []
    if np.isfinite(dataset.local_derived).any():
        curve(axes, dataset.local_size, dataset.local_derived, color=DERIVED, marker="", zorder=2)
        shown.append(dataset.local_derived)
    if np.isfinite(dataset.local_mean_field).any():
        error = NINETY_FIVE * dataset.local_mean_field_error
        ends = dataset.local_mean_field - error, dataset.local_mean_field + error
        bars(axes, dataset.local_size, dataset.local_mean_field, *ends, **SOLVED)
        shown.append(dataset.local_mean_field)
    if dataset.sizes["octave_size"]:
        measured = dataset.octave_measured
        ends = dataset.octave_measured_low, dataset.octave_measured_high
        bars(axes, dataset.octave_size, measured, *ends, color=NETWORKS, zorder=4)
        shown += [measured, dataset.octave_measured_low, dataset.octave_measured_high]
    if "predicted" in attrs:
        low, high = (attrs["predicted"] + sign * attrs["tolerance"] for sign in (-1, 1))
        axes.axhspan(low, high, color="0.5", alpha=0.13, linewidth=0, zorder=0)
        shown.append([low, high])
    if "asymptotic" in attrs:
        axes.axhline(attrs["asymptotic"], color="k", linestyle="--", linewidth=1.0, zorder=1)
        shown.append([attrs["asymptotic"]])
        axes.annotate(
            f"asymptotic\n{attrs['asymptotic_text']}",  # beside the axes, where no bar crosses it
            (1, attrs["asymptotic"]),
            (3, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7.5,
            va="center",
        )
    letter = dataset[attrs["along"]].attrs["symbol"].strip("$")
    axes.set(
        xscale="log",
        xlabel=label(dataset[attrs["along"]]),
        ylabel=rf"local exponent of ${letter}$",
    )
    _range(axes, shown)
    ticks_at(axes, dataset.local_size if dataset.sizes["local_size"] else dataset.octave_size)
    note(axes, _verdict_text(attrs))


def ticks_at(axes: Axes, sizes: ArrayLike) -> None:
    """Ticks at the sizes themselves, if they are few and far apart, else at 1, 2 and 5."""
    places = np.unique(np.asarray(sizes, np.float64))
    steps = np.diff(np.log(places))
    if len(places) > MOST_TICKS or (steps < LEAST_STEP * np.log(places[-1] / places[0])).any():
        log_ticks(axes.xaxis)
        return
    axes.set_xticks(places, [f"{size:.0f}" for size in places])
    axes.set_xticks([], minor=True)


def _range(axes: Axes, shown: list[Any]) -> None:
    """A range around all that is shown, not so narrow that noise looks like structure."""
    values = np.concatenate([np.ravel(np.asarray(one, float)) for one in shown] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    if len(values):
        middle = (values.max() + values.min()) / 2
        half = max(0.6 * (values.max() - values.min()), LEAST_RANGE / 2)
        axes.set_ylim(middle - half, middle + half)


def path_text(dataset: xr.Dataset) -> str:
    """What holds along the path: `m = d^0.7, zipf:0.8, sign, T = 8, targets sign`."""
    setup = json.loads(dataset.attrs["options"])
    words = [mathematics(part) for part in dataset.attrs["path"].split("; ") if part]
    words += [str(setup[name]) for name in ("network", "tokens", "optimizer") if name in setup]
    if dataset.attrs["along"] != "steps" and str(setup.get("steps", 1)) != "1":
        words.append(mathematics(f"T = {setup['steps']}"))
    words += [mathematics(f"{RATES[name]} = {setup[name]}") for name in RATES if name in setup]
    words += [
        f"{name.replace('_', ' ')} {setup[name]}"
        for name in ("targets", "target_rank", "loss", "parametrization", "readout")
        if name in setup
    ]
    return textwrap.fill(", ".join(words), TITLE_WIDTH, break_long_words=False)


def mathematics(path: str) -> str:
    """`m = d^(3/2)/8` with raised powers."""
    return f"${latex_path(path)}$"


def _verdict_text(attrs: dict[str, Any]) -> str:
    if "predicted" not in attrs:
        return "bars: 95 % intervals"
    text = f"bars: 95 %; grey: predicted {attrs['predicted']:.4g} ± {attrs['tolerance']:.4g}"
    in_title = "claim" in attrs
    return text + (f": {attrs['verdict']}" if "verdict" in attrs and not in_title else "")
