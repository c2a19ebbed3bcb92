"""Figure of transfer in the linear model. Lines are mean-field theory, points trained networks."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dynsim import Estimate, bootstrap
from experiments.claims.transfer_theory import (
    LIMIT_WIDTH,
    cell,
    least_squares_floor,
    log_optimum,
    optima,
    stacked,
)
from experiments.studies.transfer_theory import (
    BASE_WIDTH,
    CASES,
    LAYERS,
    NETWORK_WIDTHS,
    RULES,
    THEORY_WIDTHS,
)

TITLES = {
    "fixed": r"$\mu$P init, $m=16$",
    "proportional": r"$\mu$P init, $m=4d$",
    "fixed-sp": "SP init, $m=16$",
    "proportional-sp": "SP init, $m=4d$",
}
NAMES = {
    "width": r"$\times d$ ($x=0$)",
    "root": r"$\times\sqrt{d}$ ($x=-1/2$)",
    "none": "no rule ($x=-1$)",
}
COLOURS = {rule: f"C{number}" for number, rule in enumerate(RULES)}
SHADES = dict(zip((f"frozen {layer}" for layer in LAYERS), ("0.1", "0.55"), strict=True))
POINTS = {"linestyle": "", "marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.5}
RESAMPLES = 200

Floats = NDArray[np.float64]


def transfer_theory(data: xr.Dataset, ratios: xr.Dataset) -> Figure:
    """Lowest loss and best base rate against width, case by case, and the limits against m/d."""
    figure, panels = plt.subplots(2, 4, figsize=(12, 5.8), layout="constrained")
    for axes, case in zip(panels[0], CASES, strict=True):
        _curves(axes, data, case, 1)
        for curve, shade in SHADES.items():
            frozen = _optimum(data, case, "theory", LIMIT_WIDTH, curve, 1).value
            axes.axhline(frozen, color=shade, linestyle=":", label=f"{curve}, $d=2^{{20}}$")
        axes.set(title=TITLES[case], ylabel=r"lowest loss $L^*$", ylim=(0, None))
    panels[0, 1].legend(loc="center", bbox_to_anchor=(0.55, 0.6))
    for axes, case in zip(panels[1], list(CASES)[1:], strict=False):
        _curves(axes, data, case, 0)
        widths = np.array([2**12, LIMIT_WIDTH])
        for rule in RULES:
            start, end = (
                _optimum(data, case, "theory", width, rule, 0).value
                for width in (BASE_WIDTH, LIMIT_WIDTH)
            )
            slope = float(CASES[case].base_rate(rule).exponent)
            line = np.exp(end - start) * (widths / LIMIT_WIDTH) ** slope
            axes.plot(widths, line, ":", color="black", zorder=5)
        axes.set(title=TITLES[case], yscale="log", ylabel=r"best base rate $\eta^*/\eta^*(64)$")
    _ratios(panels[1, 3], ratios)
    return figure


def _optimum(
    data: xr.Dataset, case: str, source: str, width: int, curve: str, part: int
) -> Estimate:
    """ln eta* (part 0) or L* (part 1) with its interval over tasks."""
    one = [cell(data, case, source, width, curve)]

    def statistic(losses: Floats, axis: int = -1) -> Floats:
        return np.asarray(optima(one, losses, axis)[part, 0])

    return bootstrap(statistic, [stacked(one)], resamples=RESAMPLES)


def _curves(axes: Axes, data: xr.Dataset, case: str, part: int) -> None:
    for number, rule in enumerate(RULES):
        for source, widths in (("theory", THEORY_WIDTHS), ("networks", NETWORK_WIDTHS)):
            found = [_optimum(data, case, source, width, rule, part) for width in widths]
            value, low, high = np.array([[one.value, one.low, one.high] for one in found]).T
            if part == 0:
                value, low, high = np.exp([value, low, high] - value[0])
            colour = COLOURS[rule]
            if source == "theory":
                axes.plot(widths, value, color=colour, label=NAMES[rule])
                if part == 1:
                    axes.fill_between(widths, low, high, color=colour, alpha=0.08, linewidth=0)
            else:
                place = np.array(widths) * 1.05 ** (number - 1)
                bars = np.clip([value - low, high - value], 0, None)
                axes.errorbar(place, value, bars, color=colour, zorder=4, **POINTS)
    axes.set(xscale="log", xlabel="width $d$", xlim=(BASE_WIDTH / 1.4, LIMIT_WIDTH * 1.4))


def _ratios(axes: Axes, data: xr.Dataset) -> None:
    """Limits of the rules and of the frozen embedding against m/d, under muP init."""
    ratio = data.ratio.to_numpy()
    for curve, colour in {**COLOURS, "frozen embedding": SHADES["frozen embedding"]}.items():
        one = data.sel(curve=curve)
        losses = one.loss.mean("seed").transpose("ratio", "octave").to_numpy()
        rates = one.rate.transpose("ratio", "octave").to_numpy()
        lowest = [log_optimum(*pair)[1] for pair in zip(rates, losses, strict=True)]
        label = None if curve in RULES else curve
        axes.plot(ratio, lowest, "o-", color=colour, label=label)
    fine = np.geomspace(ratio[0], ratio[-1], 200)
    axes.plot(fine, least_squares_floor(fine), ":", color="black", label="least squares, $1-d/m$")
    axes.set(xscale="log", xlabel="$m/d$", ylabel=r"limit of $L^*$", ylim=(0, 1))
    axes.set_title(r"$\mu$P init, $m\propto d$, $d=2^{16}$")
    axes.legend(loc="lower right")


TRANSFER_THEORY_FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "transfer_theory": (transfer_theory, ("transfer_theory", "transfer_ratio")),
}
