"""A quantity along a path: its values by every route, and its local exponents."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from dynsim._names import latex_path
from dynsim._summary import NINETY_FIVE

from ._parts import curve, label, log_ticks, note, one_or_panels, setup_of

NETWORKS, DERIVED, MEAN_FIELD = "C0", "C1", "C2"
SOLVED: dict[str, Any] = {
    **{"color": MEAN_FIELD, "marker": "D", "markersize": 6, "markerfacecolor": "none"},
    **{"linestyle": "", "zorder": 3},
}
MOST_TICKS = 6
LEAST_RANGE = 0.3  # of an axis of exponents
SIZE = (3.7, 3.0)


def scaling_exponent(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The quantity against the growing size, with the slope of each route; and local exponents."""
    axes = one_or_panels(ax, 2, size=SIZE)
    _values(axes[0], dataset)
    if len(axes) > 1:
        _local_exponents(axes[1], dataset)
    return axes[0]


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
        axes.errorbar(
            x, dataset.mean_field, NINETY_FIVE * dataset.mean_field_error, label=text, **SOLVED
        )
    if np.isfinite(dataset.measured).any():
        text = "networks"
        if "measured_slope" in attrs:
            ends = f"[{attrs['measured_slope_low']:.3f}, {attrs['measured_slope_high']:.3f}]"
            text += f": {attrs['measured_slope']:.3f} {ends}"
        error = [
            dataset.measured - dataset.measured_low,
            dataset.measured_high - dataset.measured,
        ]
        axes.errorbar(
            x, dataset.measured, error, color=NETWORKS, marker="o", ls="", label=text, zorder=4
        )
    name = attrs["quantity"].replace("_", " ").replace("rms", "RMS").replace(" lr", " LR")
    axes.set(xscale="log", yscale="log", xlabel=label(size), ylabel=name)
    log_ticks(axes.yaxis)
    _ticks_at(axes, x)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title="slope at these sizes", title_fontsize=7.5, alignment="left")
    note(axes, _path_text(dataset))


def _local_exponents(axes: Axes, dataset: xr.Dataset) -> None:
    attrs = dataset.attrs
    shown: list[Any] = []
    if np.isfinite(dataset.local_derived).any():
        curve(axes, dataset.local_size, dataset.local_derived, color=DERIVED, marker="", zorder=2)
        shown.append(dataset.local_derived)
    if np.isfinite(dataset.local_mean_field).any():
        axes.errorbar(
            dataset.local_size,
            dataset.local_mean_field,
            NINETY_FIVE * dataset.local_mean_field_error,
            **SOLVED,
        )
        shown.append(dataset.local_mean_field)
    if dataset.sizes["octave_size"]:
        measured = dataset.octave_measured
        error = [
            measured - dataset.octave_measured_low,
            dataset.octave_measured_high - measured,
        ]
        axes.errorbar(
            dataset.octave_size, measured, error, color=NETWORKS, marker="o", ls="", zorder=4
        )
        shown += [measured, dataset.octave_measured_low, dataset.octave_measured_high]
    if "predicted" in attrs:
        low, high = (attrs["predicted"] + sign * attrs["tolerance"] for sign in (-1, 1))
        axes.axhspan(low, high, color="0.5", alpha=0.13, linewidth=0, zorder=0)
        shown.append([low, high])
    if "asymptotic" in attrs:
        axes.axhline(attrs["asymptotic"], color="k", linestyle="--", linewidth=1.0, zorder=1)
        shown.append([attrs["asymptotic"]])
        above = _last(dataset) < attrs["asymptotic"]
        axes.annotate(
            f"asymptotic {attrs['asymptotic_text']}",
            (1, attrs["asymptotic"]),
            (-2, 3 if above else -3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7.5,
            ha="right",
            va="bottom" if above else "top",
        )
    letter = dataset[attrs["along"]].attrs["symbol"].strip("$")
    axes.set(
        xscale="log",
        xlabel=label(dataset[attrs["along"]]),
        ylabel=rf"local exponent of ${letter}$",
    )
    _range(axes, shown)
    note(axes, _verdict_text(attrs))


def _last(dataset: xr.Dataset) -> float:
    """The local exponent at the right end, where the name of the asymptotic one stands."""
    for name in ("local_derived", "local_mean_field", "octave_measured"):
        values = dataset[name].to_numpy()
        values = values[np.isfinite(values)]
        if len(values):
            return float(values[-1])
    return -np.inf


def _ticks_at(axes: Axes, sizes: np.ndarray) -> None:
    """Ticks at the sizes themselves, if they are few, else at 1, 2 and 5."""
    if len(sizes) > MOST_TICKS:
        log_ticks(axes.xaxis)
        return
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.set_xticks([], minor=True)


def _range(axes: Axes, shown: list[Any]) -> None:
    """A range around all that is shown, not so narrow that noise looks like structure."""
    values = np.concatenate([np.ravel(np.asarray(one, float)) for one in shown] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    if len(values):
        middle = (values.max() + values.min()) / 2
        half = max(0.6 * (values.max() - values.min()), LEAST_RANGE / 2)
        axes.set_ylim(middle - half, middle + half)


def _path_text(dataset: xr.Dataset) -> str:
    """What else holds along the path: `m = d^0.7, zipf:0.8, sign`."""
    setup = setup_of(dataset)
    words = [f"${latex_path(part)}$" for part in dataset.attrs["path"].split("; ") if part]
    words += [str(setup[name]) for name in ("network", "tokens", "optimizer") if setup.get(name)]
    return ", ".join(word for word in words if word)


def _verdict_text(attrs: dict[str, Any]) -> str:
    if "predicted" not in attrs:
        return "bars: 95 % intervals"
    text = f"bars: 95 %; grey: predicted {attrs['predicted']:.4g} ± {attrs['tolerance']:.4g}"
    return text + (f": {attrs['verdict']}" if "verdict" in attrs else "")
