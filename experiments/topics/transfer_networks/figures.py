"""Figures of learning-rate transfer in trained networks: by rule, vocabulary and weight decay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynsim import Estimate, Status
from dynsim.transfer import asymptotic_penalties

from .estimators import contrast, fitted, log2_optima, widths_of
from .study import (
    DECAYS,
    NETWORKS,
    OTHER_VOCABULARIES,
    RULES,
    SLOWER,
    SP_TO_MUP,
    VOCABULARY,
    WITH_ROOT,
    Case,
    embedding_ratio,
)

NAMES = {"mlp": "residual MLP", "transformer": "transformer"}
LABELS = {
    "sp": "SP",
    "sp, embedding x root": r"SP, embedding LR $\times\sqrt{d}$",
    "sp, embedding x width": r"SP, embedding LR $\times d$",
    "sp, mup readout": r"SP, $\mu$P readout",
    "sp, mup gains": r"SP, $\mu$P gains",
    "sp, mup hidden": r"SP, hidden LR $\times 1/d$",
    "mup": r"$\mu$P",
    "mup, embedding x root": r"$\mu$P, embedding LR $\times d^{-1/2}$",
    "mup, sp embedding": r"$\mu$P without its embedding LR",
    "mup, sp readout": r"$\mu$P, SP readout",
    "mup, sp gains": r"$\mu$P, SP gains",
    "mup, sp hidden": r"$\mu$P, hidden LR $\times d$",
}
STYLES: dict[str, dict[str, Any]] = {
    "sp": {"color": "C3", "marker": "o"},
    "sp, embedding x root": {"color": "C1", "marker": "s"},
    "sp, embedding x width": {"color": "C0", "marker": "^"},
    "mup": {"color": "black", "marker": "D"},
    "mup, sp embedding": {"color": "C4", "marker": "v"},
}
ERRORS = (1e-3, 3e-3, 1e-2, 3e-2)
PENALTY = r"$L^* - L^*_{\mu\mathrm{P}}$ (nats)"
TUNED = r"$L^* - L^*_{\mu\mathrm{P}}$, tuned (nats)"
CHANGE = r"change of $L^*$ by decay (nats)"


def _bars(found: Sequence[Estimate]) -> tuple[list[float], Any]:
    """Values and the lengths of their error bars."""
    value, low, high = np.array([(one.value, one.low, one.high) for one in found]).T
    return list(value), np.stack([value - low, high - value]).clip(0)


def _draw(axes: Axes, x: Any, found: Sequence[Estimate], rule: str, shift: float = 0.0) -> None:
    value, bars = _bars(found)
    style = {**STYLES[rule], "label": LABELS[rule], "markersize": 4.5, "capsize": 2}
    axes.errorbar(np.asarray(x) * 2.0**shift, value, bars, **style)


def _widths(axes: Axes, widths: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, map(str, widths))
    axes.set_xlabel("width $d$")
    axes.minorticks_off()


def transfer_rules(data: xr.Dataset) -> Figure:
    """Shift of the optimum, loss above muP's, error of the scaling law and R∞, by rule."""
    figure, panels = plt.subplots(
        4, 2, figsize=(8, 13), layout="constrained", height_ratios=(1, 1, 1.15, 1.15)
    )
    for number, network in enumerate(NETWORKS):
        curves, by_rule = panels[:2, number], panels[2 + number]
        _optima(curves[0], data, network)
        _penalties(curves[1], data, network)
        _by_rule(by_rule[0], by_rule[1], data, network)
        curves[0].set_title(f"{NAMES[network]}: optimum of the base rate")
        curves[1].set_title(rf"{NAMES[network]}: lowest loss above $\mu$P's")
        by_rule[0].set_title(f"{NAMES[network]}: error of the scaling law")
        by_rule[1].set_title("loss penalty at infinite width")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize="medium")
    handles, labels = panels[2, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="medium")
    return figure


def _optima(axes: Axes, data: xr.Dataset, network: str) -> None:
    """log2 of η*(d) over that of the narrowest width, the same network under every rule."""
    for place, rule in enumerate(STYLES):
        case = f"{network}; {rule}"
        widths = widths_of(data, case)
        _draw(axes, widths, log2_optima(data, case), rule, shift=0.04 * (place - 2))
    axes.axhline(0, color="0.6", linewidth=0.9)
    axes.set_ylabel(r"$\log_2\,\eta^*(d)/\eta^*(d_0)$")
    _widths(axes, widths_of(data, f"{network}; mup"))


def _penalties(axes: Axes, data: xr.Dataset, network: str) -> None:
    end = f"{network}; mup"
    widths = widths_of(data, end)
    for place, rule in enumerate(STYLES):
        if rule != "mup":
            case = f"{network}; {rule}"
            further = [contrast(data, {case: 1.0, end: -1.0}, width) for width in widths[1:]]
            found = [Estimate(0.0, 0.0, 0.0), *further]  # the narrowest is one network for all
            _draw(axes, widths, found, rule, shift=0.04 * (place - 2))
    axes.axhline(0, color="black", linewidth=0.9)
    axes.set_ylabel(PENALTY)
    _widths(axes, widths)


def _by_rule(left: Axes, right: Axes, data: xr.Dataset, network: str) -> None:
    """E, its noise and that of the widest width held out; R∞ where it is determined."""
    fits = [fitted(data, f"{network}; {rule}") for rule in RULES]
    reference, penalties = asymptotic_penalties(fits)
    places = np.arange(len(RULES))
    left.barh(
        places, [fit.noise_error for fit in fits], color="0.85", label="what seed noise alone gives"
    )
    left.plot([fit.error for fit in fits], places, "ko", markersize=4.5, label="$E$")
    left.plot(
        [fit.held_out_error for fit in fits], places, "kx", markersize=4.5, label="widest held out"
    )
    left.set_xscale("log")
    left.set_xticks(ERRORS, [f"{100 * error:g} %" for error in ERRORS])
    left.minorticks_off()
    left.set_xlim(ERRORS[0] / 1.2, None)
    left.set_xlabel("$E$")
    for place, found in zip(places, penalties, strict=True):
        if found.status is Status.UNDETERMINED:
            right.annotate(" undetermined", (0, place), fontsize=8, va="center", color="0.4")
            continue
        value, bars = _bars([found])
        sure = found.outcome.ok
        right.errorbar(
            value,
            [place],
            xerr=bars,
            marker="o",
            color="black" if sure else "0.6",
            markerfacecolor="black" if sure else "white",
            capsize=2,
        )
    right.axvline(0, color="0.6", linewidth=0.9)
    lowest = "none" if reference is None else LABELS[list(RULES)[reference]]
    right.set_xlabel(f"$R_\\infty$ above the lowest, {lowest}\n(nats; open: misfit)")
    for axes in (left, right):
        axes.set_ylim(len(RULES) - 0.4, -0.6)
    left.set_yticks(places, [LABELS[rule] for rule in RULES], fontsize=8)
    right.set_yticks(places, [""] * len(places))


def transfer_axes(data: xr.Dataset) -> Figure:
    """Loss above muP's at the widest common width: by the embedding's learning rate, by vocabulary,
    by weight decay; and by width at the same number of tokens per parameter."""
    figure, panels = plt.subplots(4, 2, figsize=(8, 12.4), layout="constrained")
    for row, network in zip(panels.T, NETWORKS, strict=True):
        width = max(widths_of(data, Case(network, "mup", OTHER_VOCABULARIES[0]).name))
        _by_ratio(row[0], data, network, width)
        _by_vocabulary(row[1], data, network, width)
        _by_decay(row[2], data, network, width)
        _by_budget(row[3], data, network)
        row[0].set_title(f"{NAMES[network]}, width {width}: what a rule chooses")
        row[1].set_title(f"{NAMES[network]}: vocabulary, width {width}")
        row[2].set_title(f"{NAMES[network]}: weight decay, width {width}")
        row[3].set_title(f"{NAMES[network]}: same tokens per parameter")
        references = (TUNED, PENALTY, CHANGE, PENALTY)
        for axes, reference in zip(row, references, strict=True):
            axes.set_ylabel(reference)
            axes.axhline(0, color="black", linewidth=0.9)
    handles = {
        label: handle
        for axes in panels[:, 0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize="medium"
    )
    return figure


def _by_ratio(axes: Axes, data: xr.Dataset, network: str, width: int) -> None:
    """Rules that differ in the embedding's learning rate alone, from two ratios at the base."""
    end = Case(network, "mup").name
    growth = width / widths_of(data, end)[0]
    for slower, filled in ((1.0, True), (SLOWER, False)):
        values = []
        for rule in WITH_ROOT[:-1]:
            case = Case(network, rule, slower=slower)
            ratio = embedding_ratio(case) * growth ** float(RULES[rule].embedding)
            found = contrast(data, {case.name: 1.0, end: -1.0}, width)
            value, bars = _bars([found])
            values.append((ratio, value[0]))
            style = {**STYLES[rule], "markersize": 5, "capsize": 2, "linestyle": ""}
            style["label"] = LABELS[rule] if filled else None
            if not filled:
                style["markerfacecolor"] = "white"
            axes.errorbar([ratio], value, bars, **style, zorder=3)
        axes.plot(*np.transpose(values), color="0.7", linewidth=1, zorder=1)
    axes.set_xscale("log", base=2)
    axes.set_xlabel(f"embedding LR / hidden LR at width {width}\n(open: tuned ratio / {SLOWER:g})")


def _by_vocabulary(axes: Axes, data: xr.Dataset, network: str, width: int) -> None:
    sizes = sorted([VOCABULARY, *OTHER_VOCABULARIES])

    def case(size: int, rule: str) -> str:
        return Case(network, rule, size).name

    for place, rule in enumerate(WITH_ROOT[:-1]):
        found = [
            contrast(data, {case(size, rule): 1.0, case(size, "mup"): -1.0}, width)
            for size in sizes
        ]
        _draw(axes, sizes, found, rule, shift=0.12 * (place - 1))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xlabel("vocabulary $m$")
    axes.minorticks_off()


def _by_decay(axes: Axes, data: xr.Dataset, network: str, width: int) -> None:
    """What weight decay changes, rule by rule."""
    decays = [(decay, rate) for decay, rates in DECAYS.items() for rate in rates]
    places = np.arange(len(decays), dtype=np.float64)
    for number, rule in enumerate(SP_TO_MUP):
        without = Case(network, rule).name
        found = []
        for decay, rate in decays:
            case = Case(network, rule, decay=decay, weight_decay=rate).name
            found.append(contrast(data, {case: 1.0, without: -1.0}, width))
        value, bars = _bars(found)
        style = {**STYLES[rule], "linestyle": "", "markersize": 4.5, "capsize": 2}
        axes.errorbar(places + 0.12 * (number - 1), value, bars, **style, label=LABELS[rule])
    short = {"coupled": "coupled", "independent": "indep."}
    axes.set_xticks(places, [f"{short[decay]}\n{rate:g}" for decay, rate in decays], fontsize=8)


def _by_budget(axes: Axes, data: xr.Dataset, network: str) -> None:
    def case(rule: str) -> str:
        return Case(network, rule, budget="tokens").name

    widths = widths_of(data, case("mup"))
    for place, rule in enumerate(SP_TO_MUP[:-1]):
        found = [contrast(data, {case(rule): 1.0, case("mup"): -1.0}, width) for width in widths]
        _draw(axes, widths, found, rule, shift=0.04 * (place - 1))
    _widths(axes, widths)


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "transfer_rules": (transfer_rules, ("transfer_networks",)),
    "transfer_axes": (transfer_axes, ("transfer_networks",)),
}
