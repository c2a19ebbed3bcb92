"""Evidence about optimal learning rates: layer by layer and joint, after one step and later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal

import numpy as np
import sympy as sp
import xarray as xr
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim import bootstrap
from dynsim.claims import Evidence
from dynsim.statistics import exponent_of, log_slope, parabola_minimum
from experiments.results import study_config

VOCAB_EXPONENTS = {"fixed": 0.0, "proportional": 1.0, "superlinear": 1.5}
RESAMPLES = 300  # of intervals that are stored with their verdicts; new claims take `Resamples`
SOURCES = ("networks", "theory")
TOLERATED = 0.2  # of what the embedding alone removes; an edge is sharp where the loss is steep

Floats = NDArray[np.float64]


def _init(family: str) -> Literal["mup", "sp"]:
    return "sp" if family.endswith("-sp") else "mup"


@cache
def predicted_layerwise(family: str) -> float:
    """The derived exponent of d in the one-step ratio eta_E*/eta_W* along a family."""
    uniform = derivations.optimal_ratio().specialise(derivations.UNIFORM_LAW, "uniform tokens")
    ratio = uniform.specialise(derivations.initial_std(_init(family)), "initialisation").expression
    mu = sp.Float(VOCAB_EXPONENTS[family.removesuffix("-sp")])
    orders = {s.width: sp.Integer(1), s.vocab_size: mu}
    return float(derivations.leading_order(sp.simplify(ratio), orders))


def predicted_tolerated(family: str) -> float:
    """Exponent of eta_E*/eta_W at the largest eta_W that the embedding's optimum tolerates.

    On what the embedding has learned, eta_E*, shared between tokens, the projection is aligned as
    for m << d: its step changes the output by eta_W eta_E* d^a, a = 1. That this stays of order
    one gives d^a eta_E*^2.
    """
    embedding = derivations.optimal_learning_rate("embedding").specialise(
        derivations.initial_std(_init(family)), "initialisation"
    )
    rate = derivations.leading_order(embedding.expression, {s.width: sp.Integer(1)})
    aligned = derivations.exponent("projection", "sign").subs(s.zipf_exponent, 0)
    return float(aligned.subs(s.vocab_exponent, 0) + 2 * rate)


def family_widths(data: xr.Dataset, family: str, source: str) -> list[int]:
    sizes = data.vocab_size.sel(family=family, source=source)
    return [int(width) for width in sizes.width.values[sizes.notnull().values]]


def horizons(data: xr.Dataset) -> list[int]:
    return study_config(data)["horizons"]


def layer_curves(
    data: xr.Dataset, family: str, source: str, width: int, horizon: int
) -> tuple[Floats, Floats]:
    """Rates (layer, octave) and losses (layer, octave, seed) of a cell."""
    cell = data.sel(family=family, source=source, width=width)
    losses = cell.loss.isel(horizon=horizons(data).index(horizon))
    order = ("layer", "octave", "seed")
    return cell.rate.transpose(*order[:2]).to_numpy(), losses.transpose(*order).to_numpy()


def log_layer_ratio(rates: Floats, losses: Floats, axis: int = -1) -> Floats:
    """log(eta_E*/eta_W*) from losses (..., layer, octave, seed); NaN at the grid's end."""
    best = parabola_minimum(np.log(rates), losses.mean(axis=axis))
    return best[..., 0] - best[..., 1]


def layer_exponent(data: xr.Dataset, family: str, *, horizon: int | None = None) -> Evidence:
    """Exponent of the layer-wise optimal ratio at a horizon, by default the longest."""
    horizon = horizon or max(horizons(data))
    widths = family_widths(data, family, "networks")
    if family.startswith("fixed"):
        widths = [width for width in widths if width >= 256]  # m = 16 << d

    def log_ratios(losses: Floats, axis: int = -1) -> Floats:
        by_rate = np.moveaxis(losses.mean(axis=axis), 2, -1)  # (width, layer, ..., octave)
        places = np.expand_dims(np.log(rates), tuple(range(2, by_rate.ndim - 1)))
        best = parabola_minimum(places, by_rate)
        return best[:, 0] - best[:, 1]

    theory, networks = (
        [layer_curves(data, family, source, width, horizon) for width in widths]
        for source in ("theory", "networks")
    )
    rates = np.stack([rate for rate, _ in networks])
    # A seed is one task at every width, so its losses at all widths are resampled together.
    losses = np.stack([loss for _, loss in networks])
    measured = exponent_of(widths, [losses], log_ratios, resamples=RESAMPLES, vectorized=True)
    simulated = log_slope(np.log(widths), log_ratios(np.stack([loss for _, loss in theory])))
    predicted = predicted_layerwise(family)
    return Evidence.of_fit(measured, predicted=predicted, simulated=float(simulated))


def mean_field_optima(data: xr.Dataset, *, first_step: bool = False) -> Evidence:
    """RMS of ln(networks' over mean-field theory's layer-wise optimal ratio), up to four steps.

    As a control, over theory's ratio after the first step, at the later horizons.
    """
    cells = [
        layer_curves(
            data,
            str(family),
            source,
            width,
            1 if first_step and source == "theory" else horizon,
        )
        for family in data.family.values
        for width in family_widths(data, str(family), "networks")
        for horizon in horizons(data)
        if (2 if first_step else 1) <= horizon <= 4
        for source in SOURCES
    ]

    def distance(losses: Floats, axis: int = -1) -> Floats:
        logs = log_layer_ratio(rates, losses, axis)
        gaps = np.subtract(logs[::2], logs[1::2])
        return np.asarray(np.sqrt(np.mean(gaps**2)), dtype=np.float64)

    rates, losses = (np.stack(part) for part in zip(*cells, strict=True))
    return Evidence(
        predicted=0.0, simulated=None, measured=bootstrap(distance, [losses], resamples=RESAMPLES)
    )


JointCell = tuple[Floats, Floats, Floats]


def joint_losses(data: xr.Dataset, family: str, source: str, width: int, horizon: int) -> JointCell:
    """Both layers' rates and the losses (K_E, K_W, seed) of a cell."""
    cell = data.sel(family=family, source=source, width=width)
    losses = cell.loss.isel(horizon=horizons(data).index(horizon))
    return (
        cell.embedding_rate.to_numpy(),
        cell.projection_rate.to_numpy(),
        losses.transpose("embedding_octave", "projection_octave", "seed").to_numpy(),
    )


def log_tolerated_ratios(cells: Sequence[JointCell], losses: Floats, axis: int = -1) -> Floats:
    """log(eta_E*/eta_W) at the largest eta_W that costs no more than `TOLERATED`, cell by cell.

    eta_E* is the embedding's own optimum, at one place of the grid for all cells and resamples;
    NaN where the grid ends first.
    """
    means = losses.mean(axis=axis)
    row = int(np.argmin(np.mean([loss[:, 0] for *_, loss in cells], axis=(0, -1))))
    logs = []
    for (embedding, projection, _), mean in zip(cells, means, strict=True):
        cost = (mean[row, 1:] - mean[row, 0]) / (1 - mean[row, 0]) - TOLERATED
        beyond = int(np.argmax(cost > 0))
        if beyond == 0:
            return np.full(len(cells), np.nan)
        around = slice(beyond - 1, beyond + 1)
        edge = np.interp(0.0, cost[around], np.log(projection[1:][around]))
        logs.append(np.log(embedding[row]) - edge)
    return np.array(logs)


def tolerated_ratio(data: xr.Dataset, family: str, *, horizon: int = 2) -> Evidence:
    """Exponent of the tolerated ratio after two steps (or another horizon), for d >= 128."""

    def read(source: str) -> tuple[list[int], Floats, Callable[..., Floats]]:
        widths = [width for width in family_widths(data, family, source) if width >= 128]
        cells = [joint_losses(data, family, source, width, horizon) for width in widths]
        losses = np.stack([losses for *_, losses in cells])
        return widths, losses, partial(log_tolerated_ratios, cells)

    widths, losses, log_ratios = read("networks")
    measured = exponent_of(widths, [losses], log_ratios, resamples=RESAMPLES)
    theory_widths, theory, log_theory_ratios = read("theory")
    simulated = log_slope(np.log(theory_widths), log_theory_ratios(theory))
    return Evidence.of_fit(
        measured, predicted=predicted_tolerated(family), simulated=float(simulated)
    )


def frozen_cost(data: xr.Dataset, family: str, frozen: str) -> Evidence:
    """What freezing a layer costs after two steps, as a share of what training both removes.

    Averaged over widths; all else tuned.
    """
    line = (slice(None), 0) if frozen == "projection" else (0, slice(None))

    def stacked(source: str) -> Floats:
        widths = family_widths(data, family, source)
        return np.stack([joint_losses(data, family, source, width, 2)[2] for width in widths])

    def cost(losses: Floats, axis: int = -1) -> Floats:
        means = losses.mean(axis=axis)
        lowest = np.array([mean.min() for mean in means])
        alone = np.array([mean[line].min() for mean in means])
        return np.asarray(np.mean((alone - lowest) / (1 - lowest)), dtype=np.float64)

    measured = bootstrap(cost, [stacked("networks")], resamples=RESAMPLES)
    return Evidence(predicted=0.0, simulated=float(cost(stacked("theory"))), measured=measured)
