"""Learning rates: optimal ones, losses over them, what rules say, exponents of the width."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from ._parts import (
    FRAMED,
    GREY,
    LINES,
    MARKERS,
    label,
    log_ticks,
    note,
    one_or_panels,
    setup_of,
    several_colours,
    size_text,
)
from ._style import cycle_colour

POINTS: dict[str, Any] = {"linestyle": "", "markeredgecolor": "white", "markeredgewidth": 0.5}
MANY_MARKERS = "osD^vP*X<>p"  # more than colours, so that no pair of both comes twice
RULES = {"mup": "μP", "lv": "LV", "interpolated": "interpolated"}
SHIFTS = (-0.5, 0.5, 0.0)  # so that bars do not hide bars
INTERVAL_NOTE = "bars: near-optimal rates, open: not sharp"


def optimal_rates(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Optimal rates, and their ratio, against the number of training steps."""
    axes = one_or_panels(ax, 2)
    layers = {"embedding_optimal_lr": "embedding", "projection_optimal_lr": "projection"}
    for number, (name, text) in enumerate(layers.items()):
        symbol = dataset[name].attrs["symbol"]
        _with_interval(axes[0], dataset, name, cycle_colour(number), number, f"{text} {symbol}")
    axes[0].set(xscale="log", yscale="log", xlabel=label(dataset.horizon), ylabel="optimal LR")
    axes[0].legend()
    how = {"layerwise": "each layer alone", "joint": "both layers together"}[dataset.attrs["how"]]
    source = dataset.attrs["source"]
    note(axes[0], f"{how}, {source}; {INTERVAL_NOTE}")
    if len(axes) > 1:
        _with_interval(axes[1], dataset, "optimal_rate_ratio", cycle_colour(2), 2, "")
        ratio = label(dataset.optimal_rate_ratio)
        axes[1].set(xscale="log", yscale="log", xlabel=label(dataset.horizon), ylabel=ratio)
        note(axes[1], size_text(setup_of(dataset)))
    for panel in axes:
        _whole_numbers(panel, dataset.horizon.to_numpy())
        log_ticks(panel.yaxis)
    return axes[0]


def _with_interval(
    axes: Axes, dataset: xr.Dataset, name: str, colour: str, number: int, text: str
) -> None:
    """Optima with their near-optimal intervals; open where the optimum is not sharp."""
    x, y = dataset.horizon.to_numpy() * 1.03 ** SHIFTS[number], dataset[name].to_numpy()
    low, high = dataset[f"{name}_low"].to_numpy(), dataset[f"{name}_high"].to_numpy()
    usable = np.isfinite(y) & (y > 0)
    low = np.where(np.isfinite(low) & (low > 0), low, y / 4)
    high = np.where(np.isfinite(high), high, y * 4)
    sharp = dataset[f"{name}_status"].to_numpy() == "ok"
    bars = np.abs(np.stack([y - low, high - y]))[:, usable]
    marker = MARKERS[number % len(MARKERS)]
    axes.errorbar(x[usable], y[usable], bars, color=colour, linestyle="", zorder=2)
    axes.plot(x[usable], y[usable], color=colour, linewidth=0.8, alpha=0.5, zorder=2)
    for chosen, face in ((usable & sharp, colour), (usable & ~sharp, "white")):
        label_here = text if chosen.any() and text and not (face == "white" and sharp.any()) else ""
        axes.plot(
            x[chosen],
            y[chosen],
            marker,
            color=colour,
            markerfacecolor=face,
            label=label_here or None,
            zorder=3,
        )


def _whole_numbers(axes: Axes, values: np.ndarray) -> None:
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off() if len(values) > 1 else None


def loss_surface(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The share of the initial loss that is left, over both learning rates; means over seeds."""
    (axes,) = one_or_panels(ax, 1, size=(3.9, 2.9))
    loss = dataset.loss.mean("seed") / float(dataset.initial_loss.mean())
    left = loss.where((loss.embedding_lr > 0) & (loss.hidden_lr > 0), drop=True)
    left = left.where(np.isfinite(left), 1.0).clip(max=1.0).transpose("embedding_lr", "hidden_lr")
    mesh = axes.pcolormesh(
        left.hidden_lr,
        left.embedding_lr,
        left,
        shading="nearest",
        cmap="viridis_r",
        rasterized=True,
    )
    axes.set(xscale="log", yscale="log", xlabel=label(dataset.hidden_lr))
    axes.set_ylabel(label(dataset.embedding_lr))
    axes.figure.colorbar(mesh, ax=axes, label="loss / initial loss")
    best = left.argmin(...)
    place = [float(left[name][int(best[name])]) for name in ("hidden_lr", "embedding_lr")]
    axes.plot(*place, "*", color=cycle_colour(1), markeredgecolor="white", markersize=10)
    axes.grid(False)
    note(axes, f"mean of {dataset.sizes['seed']} seeds; star: lowest")
    return axes


def width_curve(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Loss against the learning rate at one width, and the parabola near its optimum."""
    (axes,) = one_or_panels(ax, 1)
    near = dataset.near.to_numpy()
    rates, loss = dataset.learning_rate.to_numpy(), dataset.loss.to_numpy()
    axes.plot(rates[~near], loss[~near], "o", color=cycle_colour(0), markerfacecolor="white")
    axes.plot(rates[near], loss[near], "o", color=cycle_colour(0))
    best, lowest = float(dataset.optimal_rate), float(dataset.optimal_loss)
    if np.isfinite(best) and near.any():
        x = np.geomspace(rates[near].min(), rates[near].max(), 100)
        parabola = lowest + float(dataset.curvature) / 2 * np.log(x / best) ** 2
        axes.plot(x, parabola, color=cycle_colour(1), zorder=1)
        axes.plot(best, lowest, "*", color=cycle_colour(1), markersize=9, zorder=4)
    axes.set(xscale="log", xlabel=label(dataset.learning_rate), ylabel=label(dataset.loss))
    note(axes, f"width {dataset.attrs['width']:g}; filled: near the optimum, line: parabola")
    return axes


def transfer(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Loss against the learning rate by width with the joint fit, and the optimum against width."""
    axes = one_or_panels(ax, 2)
    widths = dataset.width.to_numpy()
    shades = several_colours(max(len(widths), 8))[:: -1 if len(widths) < 8 else 1]
    shades = shades[: len(widths)] if len(widths) < 8 else shades
    for width, colour in zip(widths, shades, strict=True):
        own = dataset.isel(point=np.flatnonzero(dataset.point_width.to_numpy() == width))
        rates, loss, near = (own[name].to_numpy() for name in ("learning_rate", "loss", "near"))
        axes[0].plot(rates[~near], loss[~near], ".", color=colour, markersize=3, alpha=0.6)
        axes[0].plot(rates[near], loss[near], "o", color=colour, markersize=3, label=f"{width:g}")
        if near.any():
            axes[0].plot(rates[near], own.fitted_loss.to_numpy()[near], color=colour, linewidth=1)
        best = dataset.sel(width=width)
        axes[0].plot(
            best.optimal_rate, best.optimal_loss, "*", color=cycle_colour(1), markersize=7, zorder=4
        )
    axes[0].set(xscale="log", xlabel=label(dataset.learning_rate), ylabel=label(dataset.loss))
    axes[0].legend(title="width", ncols=2 if len(widths) > 4 else 1, title_fontsize=7.5)
    note(axes[0], "lines: joint fit near the optima, stars: optima")
    if len(axes) > 1:
        best = dataset.optimal_rate.to_numpy()
        known = np.isfinite(best)
        bars = np.stack([best - dataset.optimal_rate_low, dataset.optimal_rate_high - best])
        bars = np.where(np.isfinite(bars), np.maximum(bars, 0), 0)[:, known]
        axes[1].errorbar(
            widths[known], best[known], bars, marker="o", color=cycle_colour(0), **POINTS
        )
        x = label(dataset.width)
        axes[1].set(xscale="log", yscale="log", xlabel=x, ylabel=label(dataset.optimal_rate))
        _whole_numbers(axes[1], widths)
        log_ticks(axes[1].yaxis)
        note(axes[1], "bars: 95 % intervals over seeds")
    return axes[0]


def recommendation(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Learning rates of the three rules by layer, and how the ratio grows from the base width.

    With base rates of 1 these are factors, and are called so.
    """
    axes = one_or_panels(ax, 2)
    setup = setup_of(dataset)
    layers = [str(layer) for layer in dataset.layer.values]
    rules = [str(rule) for rule in dataset.rule.values]
    factors = np.allclose(dataset.learning_rate, dataset.factor)
    for number, rule in enumerate(rules):
        x = np.arange(len(layers)) + 0.17 * (number - 1)
        values = dataset.learning_rate.sel(rule=rule)
        style: dict[str, Any] = {"color": cycle_colour(number), "marker": MARKERS[number]}
        axes[0].plot(x, values, linestyle="", label=RULES[rule], **style)
        if len(axes) > 1:
            sizes, curve = dataset.curve_width, dataset.growth_curve.sel(rule=rule)
            axes[1].plot(
                sizes, curve, LINES[number], color=style["color"], label=RULES[rule], zorder=2
            )
            axes[1].plot(setup["width"], dataset.ratio_growth.sel(rule=rule), zorder=3, **style)
    axes[0].set(yscale="log", ylabel=label(dataset.factor if factors else dataset.learning_rate))
    if setup.get("tied"):
        layers[layers.index("readout")] = "readout\n(tied)"
    axes[0].set_xticks(np.arange(len(layers)), layers)
    axes[0].set_xlim(-0.5, len(layers) - 0.5)
    axes[0].margins(y=0.12)
    log_ticks(axes[0].yaxis)
    axes[0].legend()
    by = float(dataset.attrs["readout_multiplier"])
    logits = "" if by == 1 else f"; logits times {by:.3g}"
    at = f"at width {setup['width']}{logits}"
    note(axes[0], f"{setup['parametrization']}, {setup['optimizer']}, {at}")
    if len(axes) > 1:
        axes[1].set(xscale="log", yscale="log", xlabel="width $d$")
        axes[1].set_ylabel(r"growth of $\eta_E/\eta_W$")
        log_ticks(axes[1].xaxis, axes[1].yaxis)
        _mark_model(axes[1], dataset, setup)
    return axes[0]


def _mark_model(axes: Axes, dataset: xr.Dataset, setup: dict[str, Any]) -> None:
    """The base width, the model's, and the one at which this token law's coherence is 1."""
    ratio, crossing = (float(dataset.attrs[one]) for one in ("coherence_ratio", "crossing_width"))
    named: list[tuple[float, str, dict[str, Any]]] = [
        (setup["base_width"], f"base width {setup['base_width']}", {"color": "0.7"}),
        (setup["width"], f"this model, {setup['width']} (points)", {"color": "0.3"}),
        (crossing, rf"$\rho=1$, width {crossing:,.0f}", {"color": "0.3", "linestyle": ":"}),
    ]
    shown = float(dataset.curve_width[0]), float(dataset.curve_width[-1])
    lines = [
        axes.axvline(width, linewidth=1.0, zorder=0, label=text, **style)
        for width, text, style in named
        if shown[0] <= width <= shown[1]
    ]
    axes.legend(handles=lines, loc="upper left", **FRAMED)  # where no rule is: ratios grow
    note(axes, rf"$m={setup['vocab_size']}$, {setup['tokens']}: $\rho={ratio:.2g}$ at this width")


def parametrization(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Powers of the width in initial weights, multiplier and learning rate of every layer."""
    (axes,) = one_or_panels(ax, 1, size=(4.2, 2.7))
    setup = setup_of(dataset)
    names = {
        "init_std_exponent": "initial std",
        "multiplier_exponent": "multiplier",
        "lr_exponent": "learning rate",
        "epsilon_exponent": "epsilon",
        "weight_decay_exponent": "weight decay",
    }
    shown = [name for name in names if np.isfinite(dataset[name]).any()]
    _layer_points(axes, dataset.layer, [(names[name], dataset[name].to_numpy()) for name in shown])
    axes.set_ylabel("power of the width")
    note(axes, f"{setup['parametrization']}, {setup['optimizer']}, alignment: {setup['alignment']}")
    return axes


def published_rules(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Powers of the width in the learning rates that published rules prescribe, in one gauge.

    Dashes: the largest stable powers at full alignment.
    """
    (axes,) = one_or_panels(ax, 1, size=(7.4, 3.0))
    setup = setup_of(dataset)
    columns = xr.concat(
        [dataset.lr_exponent, dataset.ratio_exponent.expand_dims(layer=["embedding /\nhidden"])],
        "layer",
    )
    rules = [(str(rule), columns.sel(rule=rule).to_numpy()) for rule in dataset.rule.values]
    _layer_points(axes, columns.layer, rules)
    for place, power in enumerate(dataset.derived.to_numpy()):
        label = "derived, full alignment" if place == 0 else None
        axes.plot([place - 0.4, place + 0.4], [power, power], "--", color="0.3", label=label)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7)
    axes.set_ylabel("LR, power of the width")
    tied = ", readout tied" if setup["tied"] else ""
    note(axes, f"{setup['optimizer']}, all multipliers one{tied}")
    return axes


def _layer_points(axes: Axes, layers: xr.DataArray, series: list[tuple[str, np.ndarray]]) -> None:
    """A point for each of the series at every layer, side by side, with a legend beside."""
    count = len(series)
    for number, (text, values) in enumerate(series):
        x = np.arange(len(layers)) + 0.7 * ((number + 0.5) / count - 0.5)
        marker = MANY_MARKERS[number % len(MANY_MARKERS)]
        axes.plot(x, values, marker, color=cycle_colour(number), label=text)
    for edge in np.arange(len(layers) - 1) + 0.5:
        axes.axvline(edge, color="0.85", linewidth=0.8, zorder=0)
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set_xticks(np.arange(len(layers)), [str(layer) for layer in layers.values])
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_locator(_halves())
    axes.yaxis.set_major_formatter(lambda value, _: _fraction(value))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))


def _halves() -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(0.5)


def _fraction(value: float) -> str:
    from fractions import Fraction

    return str(Fraction(value).limit_denominator(8)).replace("-", "\N{MINUS SIGN}")
