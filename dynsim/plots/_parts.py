"""Parts that figures share: labels of axes, curves with bands, guides of known slope."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ._style import COLOURS, panels

Floats = NDArray[np.float64]

MARKERS = "osD^vP*"
LINES = ("-", "--", "-.", ":")
GREY = "0.45"
FRAMED: dict[str, Any] = {"frameon": True, "framealpha": 0.9, "edgecolor": "0.8", "fancybox": False}
"""of a legend that may stand on data"""
REACH_OF_LINEAR_AXIS = 30.0  # a positive curve that spans a larger factor has a log axis
MANY = 1e6  # from which on a tick is a power of ten


def label(array: xr.DataArray) -> str:
    """The label of an axis: what is shown, its symbol and its unit, from the attributes."""
    words = [array.attrs.get("long_name", str(array.name)), array.attrs.get("symbol", "")]
    units = array.attrs.get("units", "1")
    return " ".join(word for word in (*words, "" if units == "1" else f"[{units}]") if word)


def setup_of(dataset: xr.Dataset) -> dict[str, Any]:
    """The options that a dataset was computed for."""
    return json.loads(dataset.attrs["setup"])


def size_text(setup: dict[str, Any]) -> str:
    """A setup's sizes as a title: `d = 256, m = 1024, n = 1, zipf:1, sgd`."""
    symbols = {"width": "d", "vocab_size": "m", "outputs": "n", "batch_size": "B"}
    sizes = [
        f"${symbol}={setup[name]}$"
        for name, symbol in symbols.items()
        if setup.get(name) and (name, setup[name]) != ("outputs", 1)
    ]
    words = [str(setup[name]) for name in ("tokens", "optimizer") if setup.get(name)]
    return ", ".join([*sizes, *words])


def several_colours(count: int) -> list[Any]:
    """A colour for each of `count` ordered curves: of the cycle, or of a map if they are many."""
    import matplotlib.pyplot as plt

    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return list(plt.get_cmap("viridis")(np.linspace(0, 0.92, count)))


def curve(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    **options: Any,
) -> None:
    """A line and, with `low` and `high`, its band; points that are not finite are left out.

    A curve of few points has markers, so that a single one can be seen.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if np.count_nonzero(np.isfinite(y)) == 1:
        options |= {"marker": "o", "markersize": 3}
    elif np.count_nonzero(np.isfinite(y)) <= 12:
        options.setdefault("marker", "o")
        options.setdefault("markersize", 3)
    (line,) = axes.plot(x, np.where(np.isfinite(y), y, np.nan), **options)
    if low is not None and high is not None:
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        shown = np.isfinite(low) & np.isfinite(high)
        colour = line.get_color()
        axes.fill_between(
            x, low, high, where=shown.tolist(), color=colour, alpha=0.2, linewidth=0, zorder=1
        )


def bars(
    axes: Axes, x: ArrayLike, y: ArrayLike, low: ArrayLike, high: ArrayLike, **options: Any
) -> None:
    """Points with the intervals [low, high]."""
    x, y, low, high = (np.asarray(one, np.float64) for one in (x, y, low, high))
    axes.errorbar(x, y, [y - low, high - y], **{"marker": "o", "linestyle": "", **options})


def guide(axes: Axes, x: ArrayLike, start: float, power: float, text: str, **options: Any) -> None:
    """A dotted line of known power through `start` at the first x, with its name at its end."""
    x = np.asarray(x, np.float64)
    y = start * (x / x[0]) ** power
    options = {"color": GREY, "linestyle": ":", "linewidth": 1.0, "zorder": 0} | options
    axes.plot(x, y, **options)
    _name(axes, text, (x[-1], y[-1]), (3, 0), color=options["color"], va="center")


def level(axes: Axes, y: float, text: str) -> None:
    """A dotted horizontal line with its name at the right edge, outside of the data."""
    axes.axhline(y, color=GREY, linestyle=":", linewidth=1.0, zorder=0)
    _name(axes, text, (1, y), (3, 0), xycoords=("axes fraction", "data"), va="center")


def mark(axes: Axes, x: float, text: str) -> None:
    """A dashed vertical line with its name above the axes."""
    axes.axvline(x, color=GREY, linestyle="--", linewidth=1.0, zorder=0)
    coordinates = ("data", "axes fraction")
    _name(axes, text, (x, 1), (0, 2), xycoords=coordinates, ha="center", va="bottom")


def _name(
    axes: Axes, text: str, place: tuple[float, float], away: tuple[float, float], **options: Any
) -> None:
    """The name of a line, some points away from a place; it may stand outside of the axes."""
    options = {"color": GREY, "fontsize": 7.5, "annotation_clip": False} | options
    axes.annotate(text, place, away, textcoords="offset points", **options)


def fitting_scale(axes: Axes, curves: Sequence[ArrayLike]) -> None:
    """A log axis for curves that stay positive and span much, else a linear one from 0 if near."""
    values = np.concatenate([np.ravel(np.asarray(one, np.float64)) for one in curves])
    values = values[np.isfinite(values)]
    if not len(values):
        return
    lowest, highest = float(values.min()), float(values.max())
    if lowest > 0 and highest / lowest > REACH_OF_LINEAR_AXIS:
        axes.set_yscale("log")
    elif lowest >= 0 and lowest < 0.35 * highest:
        axes.set_ylim(bottom=0)


def whole_steps(axes: Axes, last: float) -> None:
    """An axis of steps has whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if last == 0:
        axes.set_xlim(-0.5, 0.5)


def ending(texts: ArrayLike) -> str:
    """How a result ended, to be added to a note: nothing if it is ok, else the first status that
    is not, such as `; diverged`."""
    statuses = [str(text).partition(":")[0] for text in np.atleast_1d(np.asarray(texts))]
    return next((f"; {status}" for status in statuses if status != "ok"), "")


def note(axes: Axes, text: str) -> None:
    """What lines and bands are, in small grey letters above the axes."""
    if text:
        axes.set_title(text, fontsize=7.5, color="0.35", loc="left")


def one_or_panels(ax: Axes | None, count: int, **options: Any) -> list[Axes]:
    """The given axes alone, for the main panel, or the panels of a new figure.

    At most two stand beside each other: more would be too small to read on a page.
    """
    if ax is not None:
        return [ax]
    _, grid = panels(-(-count // 2), min(count, 2), **options)
    for empty in grid.ravel()[count:]:
        empty.remove()
    return list(grid.ravel()[:count])


def plain_number(value: float, _: object = None) -> str:
    """A tick's number: 20000 rather than 2e+04, and 2e+06 from a million on."""
    return f"{value:.0f}" if 1e4 <= value < MANY else f"{value:.4g}"


def log_ticks(*axes_of_one: Any) -> bool:
    """Log axes (`axes.xaxis`, `axes.yaxis`) that span little have ticks at 1, 2, 5 as well.

    Returns whether one of them does.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    found = False
    for axis in axes_of_one:
        low, high = sorted(axis.get_view_interval())
        if low > 0 and high / low < 100:
            subs = (1.0, 2.0, 5.0) if high / low > 4 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
            axis.set_major_locator(LogLocator(subs=subs))
            axis.set_major_formatter(FuncFormatter(plain_number))
            axis.set_minor_formatter(NullFormatter())
            found = True
    return found
