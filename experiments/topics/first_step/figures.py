"""Figures of the first step. Lines are theory, points are trained networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim import (
    Estimate,
    bootstrap,
    coherence,
    crossover_rank,
    evaluate,
    first_step,
    token_law,
)
from dynsim.statistics import Resamples, unit_crossing
from dynsim.theory._first_step import first_step_at, optimal_rates_at
from experiments.topics._claim_study import claim_networks
from experiments.topics._parts import claim_files

from .estimators import rank_law, update_cells
from .study import ZIPF_MAP_WIDTH

RATIOS = "first_step_claims"

Floats = NDArray[np.float64]

EXPONENT_SCALE = {"cmap": "viridis", "vmin": 0.5, "vmax": 1.0}


def _mean_and_error(samples: Floats) -> tuple[float, float]:
    """RMS over seeds of mean squares and twice its standard error."""
    mean = float(samples.mean())
    error = float(samples.std(ddof=1) / np.sqrt(len(samples))) if len(samples) > 1 else 0.0
    return mean**0.5, error / mean**0.5  # 2 (standard error of the mean) / (2 root)


def _projection(data: xr.Dataset, width: int, vocab_size: int) -> Floats:
    layer = data.mean_square.sel(layer="projection")
    return layer.sel(width=width, vocab_size=vocab_size).to_numpy()


def regime_interpolation(updates: xr.Dataset) -> Figure:
    """Projection update against width, its collapse on d/m and the local exponent's collapse."""
    figure, (raw, collapse, slope) = plt.subplots(1, 3, figsize=(8, 3.4), layout="constrained")
    cells = update_cells(updates)
    vocab_sizes = sorted({m for _, m in cells if sum(n == m for _, n in cells) >= 4})
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.92, len(vocab_sizes)))
    for vocab_size, colour in zip(vocab_sizes, colours, strict=True):
        widths = np.array(sorted(d for d, m in cells if m == vocab_size))
        rms, error = np.transpose(
            [_mean_and_error(_projection(updates, d, vocab_size)) for d in widths]
        )
        law = token_law("uniform", vocab_size)
        fine = np.geomspace(widths[0], widths[-1], 60)
        raw.plot(fine, first_step("projection", "sign", fine, law).rms, color=colour)
        style = {"fmt": "o", "color": colour, "markeredgecolor": "white", "markeredgewidth": 0.4}
        raw.errorbar(widths, rms, error, label=f"{vocab_size:,}", **style)
        root = np.sqrt(widths)
        collapse.errorbar(widths / vocab_size, rms / root, error / root, **style)
        middle, local, low, high = _local_exponents(updates, widths, vocab_size)
        slope.errorbar(middle / vocab_size, local, [local - low, high - local], **style)

    ratio = np.geomspace(1e-3, 1024, 300)
    universal = _universal_curve(ratio)
    collapse.plot(ratio, universal["rms"], color="black", zorder=3)
    slope.plot(ratio, universal["exponent"], color="black", zorder=3)
    crossover = 1e6 / _crossover_vocab(1e6)
    for axes in (collapse, slope):
        axes.axvline(crossover, color="0.5", linestyle=":")
        axes.set(xscale="log", xlabel="width / vocabulary size  $d/m$")
    raw.plot([], [], color="black", label="theory")
    raw.set(
        xscale="log",
        yscale="log",
        xlabel="width $d$",
        ylabel=r"$\mathrm{RMS}(\Delta W\,e_i)/\eta_W$",
        title="first-step projection update",
    )
    handles, labels = raw.get_legend_handles_labels()
    figure.legend(
        handles, labels, title="vocabulary size $m$", loc="outside lower center", ncols=len(labels)
    )
    collapse.set(
        yscale="log",
        ylabel=r"$\mathrm{RMS}(\Delta W\,e_i)/(\eta_W\sqrt{d})$",
        title=r"collapse on $\sqrt{1+\frac{2}{\pi}\,d/m}$",
    )
    slope.set(
        ylabel=r"local exponent  $\partial\ln\mathrm{RMS}/\partial\ln d$",
        ylim=(0.44, 1.06),
        title="one universal exponent",
    )
    slope.axhline(0.5, color="0.75", linewidth=0.8, zorder=0)
    slope.axhline(1.0, color="0.75", linewidth=0.8, zorder=0)
    slope.text(1.2e-3, 0.525, "LV", fontsize=8)
    slope.text(900, 0.955, r"$\mu$P", fontsize=8, ha="right")
    return figure


def _universal_curve(ratio: Floats) -> Mapping[str, Floats]:
    """RMS / sqrt(d) and local exponent as functions of d/m alone, from the derived moments.

    The moments at a width so large that d - 1 = d to figure precision.
    """
    width = 1e6
    values = {s.width: width, s.frequency_square_sum: 1.0, s.frequency_cube_sum: ratio / width}
    _, rms = derivations.first_step("projection", "sign")
    exponent = derivations.local_exponent(rms.expression)
    return {
        "rms": np.asarray(evaluate(rms, values)) / width**0.5,
        "exponent": np.asarray(evaluate(exponent, values)),
    }


def _crossover_vocab(width: float) -> float:
    return float(evaluate(derivations.crossover_vocab_size(), {s.width: width}))


def _local_exponents(
    updates: xr.Dataset, widths: NDArray[np.int64], vocab_size: int
) -> tuple[Floats, ...]:
    """Exponent between neighbouring widths with its bootstrap interval, at their middle."""
    rows = []
    for left, right in itertools.pairwise(widths):

        def slope(
            a: Floats,
            b: Floats,
            axis: int = -1,
            octave: float = np.log(right / left),
        ) -> Floats:
            return np.asarray(0.5 * np.log(np.mean(b, axis=axis) / np.mean(a, axis=axis)) / octave)

        samples = [_projection(updates, d, vocab_size) for d in (left, right)]
        estimate = bootstrap(slope, samples, resamples=Resamples.QUICK, vectorized=True)
        rows.append(((left * right) ** 0.5, estimate.value, estimate.low, estimate.high))
    return tuple(np.array(rows).T)


def regime_map(zipf_map: xr.Dataset, updates: xr.Dataset) -> Figure:
    """Local exponent over (mu, alpha) and over (d, m); squares are measured, the rest theory."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
    low, high = ZIPF_MAP_WIDTH // 2, ZIPF_MAP_WIDTH * 2
    alphas, mus = np.linspace(0, 1.35, 60), np.linspace(0.15, 1.6, 60)
    theory = _two_width_exponents(low, high, alphas, mus)
    left.pcolormesh(mus, alphas, theory, shading="nearest", rasterized=True, **EXPONENT_SCALE)
    left.contour(mus, alphas, theory, levels=[0.75], colors="white", linewidths=1)
    fine = np.linspace(0, 0.95, 200)
    boundary = derivations.critical_vocab_exponent()
    critical = np.asarray(evaluate(boundary, {s.zipf_exponent: fine}))
    left.plot(critical, fine, color="white", linestyle="--")
    for alpha in zipf_map.alpha.values:
        values = zipf_map.mean_square.sel(alpha=alpha, layer="projection").mean("seed")
        local = (
            0.5 * np.log(values.sel(side="wide") / values.sel(side="narrow")) / np.log(high / low)
        )
        _measured_squares(left, zipf_map.mu.values, np.full(zipf_map.sizes["mu"], alpha), local)
    left.set(
        xlim=(mus[0], mus[-1]),
        ylim=(-0.06, alphas[-1]),
        xlabel=r"$\mu=\log m/\log d$",
        ylabel=r"Zipf exponent $\alpha$",
        title=f"$d={low}\\to{high}$, $m={ZIPF_MAP_WIDTH}^\\mu$, frequency-weighted",
    )
    left.grid(visible=False)

    widths, vocab_sizes = np.geomspace(24, 3000, 80), np.geomspace(3, 24000, 80)
    d, m = np.meshgrid(widths, vocab_sizes)
    _, rms = derivations.first_step("projection", "sign")
    exponent = derivations.local_exponent(rms.expression)
    values = {s.width: d, s.frequency_square_sum: 1 / m, s.frequency_cube_sum: 1 / m**2}
    image = right.pcolormesh(
        widths,
        vocab_sizes,
        evaluate(exponent, values),
        shading="nearest",
        rasterized=True,
        **EXPONENT_SCALE,
    )
    crossover = np.array([_crossover_vocab(width) for width in widths])
    right.plot(widths, crossover, color="white", linestyle="--")
    cells = update_cells(updates)
    for vocab_size in sorted({m for _, m in cells}):
        chosen = np.array(sorted(d for d, m in cells if m == vocab_size))
        if len(chosen) < 4:
            continue
        middle, local, *_ = _local_exponents(updates, chosen, vocab_size)
        _measured_squares(right, middle, np.full(len(middle), vocab_size), local)
    right.set(
        xscale="log",
        yscale="log",
        xlabel="width $d$",
        ylabel="vocabulary size $m$",
        title="uniform tokens",
        xlim=(widths[0], widths[-1]),
        ylim=(vocab_sizes[0], vocab_sizes[-1]),
    )
    right.grid(visible=False)
    handles = [
        Line2D([], [], color="0.3", linestyle="--", label="theory boundary (asymptotic)"),
        Line2D([], [], color="0.3", linewidth=1, label="exponent 0.75 (theory, this size)"),
        Line2D(
            [],
            [],
            color="0.3",
            marker="s",
            linestyle="",
            markerfacecolor="white",
            label="trained networks",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.colorbar(
        image, ax=right, label=r"local exponent $\partial\ln\mathrm{RMS}/\partial\ln d$"
    )
    return figure


def _measured_squares(axes: Axes, x: NDArray, y: NDArray, exponent: NDArray | xr.DataArray) -> None:
    axes.scatter(
        x,
        y,
        c=np.asarray(exponent),
        marker="s",
        s=42,
        edgecolors="white",
        linewidths=0.9,
        zorder=4,
        **EXPONENT_SCALE,
    )


def _two_width_exponents(low: int, high: int, alphas: Floats, mus: Floats) -> Floats:
    """Theory's exponent of the RMS between two widths at m = ZIPF_MAP_WIDTH^mu, (alpha, mu)."""
    laws = [
        [token_law(f"zipf:{alpha}", round(ZIPF_MAP_WIDTH**mu)) for mu in mus] for alpha in alphas
    ]
    squares, cubes = (
        np.array([[law.power_sum(power) for law in row] for row in laws]) for power in (2, 3)
    )
    values = {s.frequency_square_sum: squares, s.frequency_cube_sum: cubes}
    narrow, wide = (
        np.asarray(first_step_at(values | {s.width: float(width)}, "projection", "sign")[1])
        for width in (low, high)
    )
    return np.log(wide / narrow) / np.log(high / low)


def rank_crossover(ranks: xr.Dataset) -> Figure:
    """Update by token rank on Zipf and on the corpus, and the crossover rank against width."""
    figure, panels = plt.subplots(1, 3, figsize=(8, 3.3), layout="constrained")
    titles = {"zipf:1": r"Zipf, $\alpha=1$", "corpus": "corpus (Python standard library)"}
    rank = ranks["rank"].to_numpy().astype(float)
    edges = np.unique(np.geomspace(1, len(rank) + 1, 26).round())
    bins = np.digitize(rank, edges)
    widths = ranks.width.values
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.85, len(widths)))
    for number, (tokens, axes) in enumerate(zip(titles, panels, strict=False)):
        law = rank_law(ranks, tokens)
        crossings = []
        for width, colour in zip(widths, colours, strict=True):
            squares = ranks.mean_square.sel(tokens=tokens, width=width)
            squares = squares.transpose("seed", "rank").to_numpy().astype(float) / width
            used = np.unique(bins)
            binned = np.array([squares[:, bins == b].mean(axis=1) for b in used])
            centre = [np.exp(np.log(rank[bins == b]).mean()) for b in used]
            error = 2 * binned.std(axis=1, ddof=1) / np.sqrt(binned.shape[1])
            mean = binned.mean(axis=1)
            axes.errorbar(
                centre,
                mean,
                [np.minimum(error, 0.9 * mean), error],
                fmt="o",
                color=colour,
                markersize=3,
                label=f"{width:,}",
                elinewidth=0.8,
            )
            axes.plot(rank, 1 + coherence(width, law), color=colour)
            crossings.append(_measured_crossing(rank, squares))
        axes.axhline(2, color="0.5", linestyle=":")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="token rank $i$",
            title=titles[tokens],
            ylabel=r"$\mathrm{RMS}_i^2/(\eta_W^2 d)$",
        )
        fine = np.geomspace(widths[0] / 1.3, widths[-1] * 1.3, 40)
        theory = [crossover_rank(width, law) for width in fine]
        panels[2].plot(fine, theory, color=f"C{number}")
        panels[2].errorbar(
            widths,
            [c.value for c in crossings],
            [[c.value - c.low for c in crossings], [c.high - c.value for c in crossings]],
            fmt="os"[number],
            color=f"C{number}",
            label=tokens.partition(":")[0].replace("zipf", "Zipf"),
        )
    panels[0].plot([], [], color="black", label="theory")
    panels[0].legend(title="width $d$")
    panels[2].set(
        xscale="log",
        yscale="log",
        xlabel="width $d$",
        ylabel=r"crossover rank $i_*$",
        title=r"$i_*\sim d^{1/2\alpha}$ (lines: theory)",
    )
    panels[2].legend()
    return figure


def _measured_crossing(rank: Floats, squares: Floats) -> Estimate:
    """Rank at which a token's mean square over d, shape (seed, rank), passes 2."""

    def crossing(sample: Floats, axis: int = -1) -> Floats:
        return np.asarray(unit_crossing(rank, np.mean(sample, axis=axis) - 1))

    return bootstrap(crossing, [squares.T], resamples=Resamples.QUICK)


def learning_rate_ratio(data: xr.Dataset) -> Figure:
    """One-step optimal LR ratio against width: fixed m, m proportional to d, large m."""
    figure, axes = plt.subplots(figsize=(4.8, 3.7), layout="constrained")
    vocab_of: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
        "lr-ratio-fixed-vocab": ("$m=4$", lambda d: np.full_like(d, 4.0)),
        "lr-ratio-proportional": ("$m=4d$", lambda d: 4 * d),
        "lr-ratio-self-term": ("$m=1024$", lambda d: np.full_like(d, 1024.0)),
    }
    claims = {one.name: one for one in claim_files("first_step")[RATIOS].claims}
    for number, (name, (label, vocab_size)) in enumerate(vocab_of.items()):
        found = claim_networks(claims[name], data)
        bars = [found.values - found.low, found.high - found.values]
        marker = "osD"[number]
        axes.errorbar(found.sizes, found.values, bars, fmt=marker, color=f"C{number}", label=label)
        fine = np.geomspace(found.sizes[0], found.sizes[-1], 40)
        for self_term, line in ((True, "-"), (False, ":")):
            theory = _theory_ratio(fine, vocab_size(fine), self_term=self_term)
            axes.plot(fine, theory, line, color=f"C{number}")
    axes.plot([], [], "-", color="0.3", label="theory")
    axes.plot([], [], ":", color="0.3", label="theory, $m\\ll d^2$")
    guide = np.array([150.0, 900.0])
    for exponent, anchor in ((1.0, 6.0), (0.5, 6.0)):
        axes.plot(guide, anchor * (guide / guide[0]) ** exponent, color="0.6", linewidth=0.9)
        axes.text(
            guide[1] * 1.05,
            anchor * 6**exponent,
            f"$d^{{{exponent:g}}}$",
            fontsize=8,
            color="0.4",
            va="center",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="width $d$",
        ylabel=r"$\eta_E^*/\eta_W^*$",
        title=r"layer-wise one-step optima, $\mu$P init",
    )
    axes.legend(ncols=2)
    return figure


def _theory_ratio(width: Floats, vocab_size: Floats, *, self_term: bool) -> Floats:
    """The derived eta_E*/eta_W* of uniform tokens."""
    values = {
        s.width: width,
        s.frequency_square_sum: 1 / vocab_size,
        s.frequency_cube_sum: 1 / vocab_size**2,
    }
    embedding, projection = optimal_rates_at(values, "mup", self_term=self_term)
    return np.asarray(embedding / projection)


def learning_rate_phases() -> Figure:
    """Hidden LR exponent over (mu, alpha): full batch, B = sqrt(d), and the batch's own tokens."""
    figure, panels = plt.subplots(1, 3, figsize=(8, 3), sharey=True, layout="constrained")
    mus = [Fraction(k, 24) for k in range(61)]
    alphas = [Fraction(k, 24) for k in range(33)]
    x, y = np.array(mus, dtype=float), np.array(alphas, dtype=float)
    cases: dict[str, tuple[Fraction | None, derivations.AveragedOver]] = {
        "full batch": (None, "law"),
        r"$B=\sqrt{d}$, all tokens": (Fraction(1, 2), "law"),
        r"$B=\sqrt{d}$, the batch's own tokens": (Fraction(1, 2), "batch"),
    }
    scale = {"cmap": "viridis_r", "vmin": -1, "vmax": -0.5}
    image = None
    for axes, (title, (batch, averaged_over)) in zip(panels, cases.items(), strict=True):
        diagram = derivations.phase_diagram(mus, alphas, batch, averaged_over=averaged_over)
        exponents = np.array(diagram.hidden_lr_exponents, dtype=float)
        image = axes.pcolormesh(x, y, exponents, shading="nearest", rasterized=True, **scale)
        levels = [-0.9, -0.8, -0.7, -0.6]
        axes.contour(x, y, exponents, levels=levels, colors="white", linewidths=0.6)
        fine = np.linspace(0, y[-1], 300)
        values = {s.zipf_exponent: fine, s.batch_exponent: np.full_like(fine, float(batch or 0))}
        with np.errstate(divide="ignore"):
            boundary = np.asarray(evaluate(diagram.boundary, values)) * np.ones_like(fine)
        axes.plot(boundary, fine, color="#D55E00", linestyle="--")
        axes.set(title=title, xlabel=r"$\mu=\log m/\log d$", xlim=(0, x[-1]), ylim=(0, y[-1]))
        axes.grid(visible=False)
    panels[0].set_ylabel(r"Zipf exponent $\alpha$")
    handle = Line2D([], [], color="#D55E00", linestyle="--", label=r"boundary $\mu_*$ (symbolic)")
    panels[0].legend(handles=[handle], loc="upper right")
    assert image is not None
    figure.colorbar(
        image, ax=panels, label="exponent of the largest stable\nhidden LR at the first step"
    )
    return figure


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "regime_interpolation": (regime_interpolation, ("updates",)),
    "regime_map": (regime_map, ("zipf_map", "updates")),
    "rank_crossover": (rank_crossover, ("ranks",)),
    "learning_rate_ratio": (learning_rate_ratio, (RATIOS,)),
    "learning_rate_phases": (learning_rate_phases, ()),
}
