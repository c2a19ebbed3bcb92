"""What the formulas say: first updates against width, aged updates, token laws."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from dynsim._seed_means import seed_rms

from ._parts import (
    LINES,
    curve,
    fitting_scale,
    guide,
    label,
    level,
    log_ticks,
    mark,
    note,
    one_or_panels,
    setup_of,
    size_text,
)
from ._style import cycle_colour

MUP, LV, MIDDLE = "μP", "LV", "3/4"
EXPONENT_RANGE = (0.4, 1.1)


def first_step(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """RMS of the first update against width, and the local power of the width.

    A dataset with the attribute `marked_width` has this width marked.
    """
    ordered = dataset.sortby("width")
    widths = ordered.width.to_numpy()
    axes = one_or_panels(ax, 2)
    setup = setup_of(dataset)
    curve(axes[0], widths, ordered.rms, color=cycle_colour(0), zorder=3)
    axes[0].set(xscale="log", yscale="log", xlabel=label(ordered.width), ylabel=label(ordered.rms))
    if len(widths) > 1:
        slopes = ordered.local_exponent.to_numpy()
        for power, text in ((0.5, "$d^{1/2}$"), (1.0, "$d$")):
            if slopes.min() > 0.3:  # of an update that grows with the width in one of two ways
                guide(axes[0], widths, float(ordered.rms[0]), power, text)
    note(axes[0], f"first {setup['optimizer']} step of the {setup['layer']}")
    if len(axes) > 1:
        curve(axes[1], widths, ordered.local_exponent, color=cycle_colour(0), zorder=3)
        axes[1].set(xscale="log", xlabel=label(ordered.width), ylabel=label(ordered.local_exponent))
        _exponent_levels(axes[1], ordered.local_exponent.to_numpy())
        if "marked_width" not in dataset.attrs:
            note(axes[1], size_text({**setup, "optimizer": None}))
    for panel in axes:
        if "marked_width" in dataset.attrs and len(widths) > 1:
            text = f"$d={dataset.attrs['marked_width']:g}$"
            if panel is axes[0]:
                panel.axvline(dataset.attrs["marked_width"], color="0.45", ls="--", lw=1, zorder=0)
            else:
                mark(panel, dataset.attrs["marked_width"], text)
    return axes[0]


def head_step(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """RMS of a head's first update against width, target and other logits, and local exponents.

    A dataset with the attribute `marked_width` has this width marked.
    """
    ordered = dataset.sortby("width")
    widths = ordered.width.to_numpy()
    axes = one_or_panels(ax, 2)
    setup = setup_of(dataset)
    shown = [
        str(kind)
        for kind in ordered.logits.values
        if kind != "all" or ordered.rms.sel(logits="other").isnull().all()
    ]
    for number, kind in enumerate(shown):
        one = ordered.sel(logits=kind)
        if one.rms.isnull().all():
            continue
        for panel, name in zip(axes, ("rms", "local_exponent"), strict=False):
            curve(panel, widths, one[name], color=cycle_colour(number), label=f"{kind} logits")
    labels = (label(ordered.rms), label(ordered.local_exponent))
    for panel, text in zip(axes, labels, strict=False):
        panel.set(xscale="log", xlabel=label(ordered.width), ylabel=text)
    axes[0].set_yscale("log")
    axes[0].legend()
    note(axes[0], f"first {setup['optimizer']} step of the {setup['layer']}")
    if len(axes) > 1:
        note(axes[1], size_text({**setup, "optimizer": None}))
    if "marked_width" in dataset.attrs and len(widths) > 1:
        for panel in axes:
            panel.axvline(dataset.attrs["marked_width"], color="0.45", ls="--", lw=1, zorder=0)
    return axes[0]


def _exponent_levels(axes: Axes, exponents: np.ndarray) -> None:
    """Names for the powers 1/2 and 1 where the exponents lie between, and a range around them."""
    if not (exponents.min() >= 0.45 and exponents.max() <= 1.05):
        spread = max(float(np.ptp(exponents)), 0.1)
        axes.set_ylim(exponents.min() - 0.3 * spread, exponents.max() + 0.3 * spread)
        return
    axes.set_ylim(*EXPONENT_RANGE)
    level(axes, 0.5, LV)
    level(axes, 1.0, MUP)


def aged_update(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The local exponent of a step as the embedding moves, and the step's size.

    Against the displacement, or against the width where the displacement is the same everywhere.
    A dataset with the attribute `lifetime_displacement` has the end of the LV regime marked.
    """
    axes = one_or_panels(ax, 2)
    varies = np.ptp(dataset.displacement.to_numpy()) > 0
    x = dataset.displacement if varies else dataset.width
    others = dataset.width if varies else dataset.displacement
    for number, other in enumerate(np.unique(others.to_numpy())):
        own = dataset.isel(point=np.flatnonzero(others.to_numpy() == other)).sortby(str(x.name))
        symbol = others.attrs["symbol"].strip("$")
        text = f"${symbol}={other:.4g}$"
        line = {"color": cycle_colour(number), "linestyle": LINES[number % 4], "label": text}
        marker = {"marker": "" if len(own.point) > 8 else "o"}
        curve(axes[0], own[str(x.name)], own.local_exponent, **line, **marker)
        if len(axes) > 1:
            curve(axes[1], own[str(x.name)], own.rms, **line, **marker)
    axes[0].set(xlabel=label(x), ylabel=label(dataset.local_exponent))
    _exponent_levels(axes[0], dataset.local_exponent.to_numpy())
    several = len(np.unique(others.to_numpy())) > 1
    if several:
        axes[0].legend()
    for panel in axes:
        if not varies:
            panel.set_xscale("log")
    if len(axes) > 1:
        axes[1].set(xlabel=label(x), ylabel=label(dataset.rms))
        fitting_scale(axes[1], [dataset.rms])
        if not varies:
            axes[1].set_yscale("log")
    end = dataset.attrs.get("lifetime_displacement", 0.0)
    if varies and end:
        axes[0].plot([end], [0.75], "o", color=cycle_colour(1), zorder=4)
        for panel in axes:
            panel.axvline(end, color="0.45", linestyle="--", linewidth=1.0, zorder=0)
        axes[0].annotate(
            rf"end of LV: $\eta_E t_c = {end:.3g}$",
            (end, 0.75),
            (6, -4),
            textcoords="offset points",
            fontsize=7.5,
            va="top",
        )
    setup = setup_of(dataset)
    sizes = {**setup, "width": None if several or not varies else float(others[0])}
    note(axes[0], _aged_text(sizes))
    return axes[0]


def _aged_text(setup: dict) -> str:
    directions = setup["effective_outputs"]
    many = "" if directions == 1 else rf", $n_{{\mathrm{{eff}}}}={directions:g}$"
    width = setup["width"]
    return size_text({**setup, "width": None if width is None else f"{width:g}"}) + many


def token_law(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Frequencies by rank, and effective vocabularies or, at a width, coherences.

    A dataset with an array `coherence` and the attribute `marked_width` shows which tokens are in
    which regime at that width.
    """
    axes = one_or_panels(ax, 2)
    occurring = dataset.where(dataset.frequency > 0, drop=True)
    shown = occurring.isel(rank=_spaced(occurring.sizes["rank"]))
    thin = {"marker": "" if shown.sizes["rank"] > 40 else "o"}
    curve(axes[0], shown["rank"], shown.frequency, color=cycle_colour(0), **thin)
    scales = {"xscale": "log", "yscale": "log", "xlabel": label(dataset["rank"])}
    axes[0].set(**scales, ylabel=label(dataset.frequency))
    log_ticks(axes[0].xaxis, axes[0].yaxis)
    note(axes[0], size_text(setup_of(dataset)))
    if len(axes) == 1:
        return axes[0]
    if "coherence" not in dataset:
        curve(axes[1], shown["rank"], shown.effective_vocab_size, color=cycle_colour(0), **thin)
        axes[1].set(**scales, ylabel=label(dataset.effective_vocab_size))
        return axes[0]
    rho = shown.coherence.to_numpy()
    curve(axes[1], shown["rank"], rho, color=cycle_colour(0), **thin)
    axes[1].set(**scales, ylabel=label(dataset.coherence))
    axes[1].axhline(1, color="0.45", linestyle=":", linewidth=1.0, zorder=0)
    for above, text, colour in ((True, MUP, cycle_colour(2)), (False, LV, cycle_colour(1))):
        bounds = (1, max(rho.max() * 2, 2)) if above else (min(rho.min() / 2, 0.5), 1)
        axes[1].axhspan(*bounds, color=colour, alpha=0.08, linewidth=0, zorder=0)
        share = float(occurring.frequency.where((occurring.coherence > 1) == above).sum())
        place = (0.97, 0.95) if above else (0.03, 0.05)
        axes[1].annotate(
            f"{text}: {100 * share:.0f} % of token occurrences",
            place,
            xycoords="axes fraction",
            ha="right" if above else "left",
            va="top" if above else "bottom",
            fontsize=7.5,
        )
    low, high = min(rho.min() / 2, 0.5), max(rho.max() * 2, 2)
    axes[1].set_ylim(low, high)
    note(axes[1], f"at width $d={dataset.attrs['marked_width']:g}$")
    return axes[0]


def _spaced(count: int) -> np.ndarray:
    """At most some hundred ranks, evenly spaced in their logarithm."""
    return np.unique(np.geomspace(1, count, 400).round().astype(int)) - 1


def token_updates(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The first step's update of every token, against its rank."""
    (axes,) = one_or_panels(ax, 1, size=(4.6, 2.7))
    rank = dataset.token.to_numpy() + 1
    parts = {
        "projection": r"projection: $\Delta W\,e$",
        "embedding": r"embedding: $W_0\,\Delta e$",
        "cross": r"cross term: $\Delta W\,\Delta e$",
    }
    for number, (part, text) in enumerate(parts.items()):
        squares = dataset[f"{part}_mean_square"].transpose("seed", "token").to_numpy()
        mean = seed_rms(np.sqrt(squares), axis=0).mean
        style = {"color": cycle_colour(number), "marker": "osD"[number], "markersize": 2.5}
        curve(axes, rank, mean, linestyle="", label=text, **style)
    axes.set(xscale="log", yscale="log", xlabel="token rank $i$", ylabel="first update, RMS")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    note(axes, f"root mean square over {dataset.sizes['seed']} seeds")
    return axes
