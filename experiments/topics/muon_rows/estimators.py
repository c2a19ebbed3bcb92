"""Evidence about the rows of an embedding under Muon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from derivations import MuonConvention
from dynsim import token_law
from dynsim.claims import Evidence
from dynsim.statistics import exponent_of, jackknife, log_slope, parabola_vertex
from dynsim.theory import muon_row_norms, muon_scale
from experiments.results import study_config

from .networks import EDGES, means

Floats = NDArray[np.float64]
RESAMPLES = 1000
STARVED, HALF, FULL = (0.0, 0.1), (0.1, 0.9), (0.9, 1.0)
"""bands of the derived squared length"""
CONVENTIONS: Mapping[str, MuonConvention] = {"original": "original", "match-rms": "match-rms"}


def derived_squares(data: xr.Dataset, head: str, width: int, exponent: float) -> Floats:
    """The law's squared lengths between the study's ranks."""
    config = study_config(data)
    law = token_law(f"zipf:{exponent}", config["vocab_size"]).frequencies
    batch = config["batch_size"] if "batch" in head else None
    return means(np.square(muon_row_norms(law, width, batch)))


def measured_squares(data: xr.Dataset, head: str, width: int, exponent: float) -> Floats:
    """Squared lengths, shape (groups of ranks, seeds)."""
    chosen = data.row_square.sel(head=head, width=width, exponent=exponent)
    return chosen.transpose("ranks", "seed").to_numpy().astype(np.float64)


def length_ratio(
    data: xr.Dataset, head: str, band: tuple[float, float], *, alike: bool = False
) -> Evidence:
    """Squared lengths over the law, geometric mean over widths, exponents and groups of ranks whose
    derived squared length lies in the band. `alike`, wrong on purpose: over r/m instead."""
    samples, derived, sizes = [], [], []
    for width in data.width.values:
        for exponent in data.exponent.values:
            law = derived_squares(data, head, int(width), float(exponent))
            inside = (law > band[0]) & (law <= band[1])
            squares = measured_squares(data, head, int(width), float(exponent))[inside]
            even = np.full_like(law, float(width) / EDGES[-1])
            for row, expected in zip(squares, (even if alike else law)[inside], strict=True):
                samples.append(row)
                derived.append(expected)
                sizes.append(float(width))

    def ratio(*cells: Floats, axis: int = -1) -> Floats:
        return np.stack(
            [
                np.log(np.mean(cell, axis=axis) / expected)
                for cell, expected in zip(cells, derived, strict=True)
            ]
        )

    return Evidence.of_ratio(ratio, samples, sizes, resamples=RESAMPLES, vectorized=True)


def rarest_exponent(data: xr.Dataset, head: str, exponent: float) -> Evidence:
    """Power of the width in the length of the rarest tokens' rows, beside that of the law."""
    widths = [int(width) for width in data.width.values]
    squares = np.stack([measured_squares(data, head, width, exponent)[-1] for width in widths])
    law = [derived_squares(data, head, width, exponent)[-1] for width in widths]

    def logs(some: Floats, axis: int = -1) -> Floats:
        return 0.5 * np.log(np.mean(some, axis=axis))

    measured = exponent_of(widths, [squares], logs, resamples=RESAMPLES, vectorized=True)
    derived = float(log_slope(np.log(widths), 0.5 * np.log(law)))
    return Evidence.of_fit(measured, predicted=exponent, simulated=derived)


def trained_losses(losses: xr.DataArray, updates: list[str], schedule: str) -> Floats:
    """Excess losses of updates, shape (updates, widths, octaves, seeds)."""
    chosen = losses.sel(update=updates, schedule=schedule)
    return chosen.transpose("update", "width", "octave", "seed").to_numpy().astype(np.float64)


def _ratio(cells: Floats, octaves: Floats, predicted: float) -> Evidence:
    """Of two losses at their best rates, geometric mean over widths, by the jackknife over seeds.

    Cells have shape (2, widths, octaves, seeds). A seed has the same batches under both updates,
    so that both are left out together. The lowest loss is the parabola's through the three best
    rates, NaN at an end of the rates; of a single rate it is the loss there.
    """

    def logs(some: Floats, axis: int = -1) -> Floats:
        mean = some.mean(axis=axis)
        lowest = mean[..., 0] if len(octaves) == 1 else parabola_vertex(octaves, mean)[1]
        return np.log(lowest[0] / lowest[1])

    def ratio(some: Floats, axis: int = -1) -> Floats:
        return np.exp(logs(some, axis).mean())

    measured = jackknife(ratio, [cells])
    drift = float(np.exp(logs(cells)[1:].mean())) - measured.value
    return Evidence(predicted=predicted, simulated=None, measured=measured, drift=drift)


def best_loss_ratio(
    data: xr.Dataset, update: str, other: str, schedule: str, predicted: float
) -> Evidence:
    """Excess loss in the text at an update's own best learning rate over that of another one."""
    cells = trained_losses(data.text, [update, other], schedule)
    return _ratio(cells, data.octave.to_numpy().astype(np.float64), predicted)


def starved_loss_ratio(data: xr.Dataset, octave: int, schedule: str) -> Evidence:
    """Excess loss of the starved tokens under Muon over that with rows normalised afterwards, at
    one rate of frequent rows, to be 1 if frequent rows were all that matters."""
    chosen = data.excess.sel(group="starved", octave=[octave])
    cells = trained_losses(chosen, ["muon", "muon, then row norm"], schedule)
    return _ratio(cells, np.array([float(octave)]), 1.0)


def sharing_ratio(
    data: xr.Dataset, case: str, band: tuple[float, float], *, theory: str = "derived"
) -> Evidence:
    """Squared lengths over a theory's, geometric mean over widths, exponents and groups of ranks
    whose derived squared length lies in the band."""
    cells = data.sel(case=case)
    samples, expected, sizes = [], [], []
    for width in data.width.values:
        for exponent in data.exponent.values:
            one = cells.sel(width=width, exponent=exponent)
            if not bool(one.row_square.notnull().all()):
                continue
            laws = one.derived_square.mean("seed")
            derived = laws.sel(theory="derived").to_numpy()
            inside = (derived > band[0]) & (derived <= band[1])
            samples += list(one.row_square.transpose("ranks", "seed").to_numpy()[inside])
            expected += list(laws.sel(theory=theory).to_numpy()[inside])
            sizes += [float(width)] * int(inside.sum())

    def ratio(*groups: Floats, axis: int = -1) -> Floats:
        return np.stack(
            [
                np.log(np.mean(group, axis=axis) / law)
                for group, law in zip(groups, expected, strict=True)
            ]
        )

    return Evidence.of_ratio(ratio, samples, sizes, resamples=RESAMPLES, vectorized=True)


def step_changes(data: xr.Dataset, rule: str, matrices: Sequence[str]) -> Floats:
    """Sizes of first steps, shape (widths, matrices, seeds)."""
    chosen = data.change.sel(rule=rule, matrix=list(matrices))
    return chosen.transpose("width", "matrix", "seed").to_numpy().astype(np.float64)


def scale_exponent(
    data: xr.Dataset,
    rule: str,
    matrices: Sequence[str],
    predicted: float,
    *,
    over: str | None = None,
) -> Evidence:
    """Power of the width in the size of a step at one learning rate, mean over matrices.

    `over`: of its quotient by that under another rule, of the same networks.
    """
    samples = step_changes(data, rule, matrices)
    if over is not None:
        samples = samples / step_changes(data, over, matrices)

    def logs(some: Floats, axis: int = -1) -> Floats:
        return np.log(np.mean(some, axis=axis)).mean(axis=1)

    widths = [int(width) for width in data.width.values]
    fit = exponent_of(widths, [samples], logs, by_jackknife=True)
    return Evidence.of_fit(fit, predicted=predicted, simulated=None)


def matrix_gauge(data: xr.Dataset, rule: str, matrix: str, width: int) -> float:
    """What the shape factor makes of an exactly orthogonalised step: the largest RMS of the
    outputs at inputs of RMS one, and the RMS itself with no fewer outputs than inputs."""
    types = study_config(data)["vocab_size"]
    outputs, inputs = {
        "square": (width, width),
        "up": (4 * width, width),
        "down": (width, 4 * width),
        "head": (types, width),
    }[matrix]
    return muon_scale(CONVENTIONS[rule], outputs, inputs) * (inputs / outputs) ** 0.5


def gauge_ratio(data: xr.Dataset, rules: Sequence[str], matrices: Sequence[str]) -> Evidence:
    """Size of a step over the gauge, geometric mean over rules, widths and matrices with no fewer
    outputs than inputs."""
    samples, gauges, sizes = [], [], []
    for rule in rules:
        for width, by_matrix in zip(
            data.width.values, step_changes(data, rule, matrices), strict=True
        ):
            samples += list(by_matrix)
            gauges += [matrix_gauge(data, rule, matrix, int(width)) for matrix in matrices]
            sizes += [float(width)] * len(matrices)

    def ratio(*cells: Floats, axis: int = -1) -> Floats:
        return np.stack(
            [
                np.log(np.mean(cell, axis=axis) / gauge)
                for cell, gauge in zip(cells, gauges, strict=True)
            ]
        )

    return Evidence.of_ratio(ratio, samples, sizes, resamples=RESAMPLES, vectorized=True)
