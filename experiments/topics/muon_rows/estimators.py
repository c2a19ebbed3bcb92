"""Evidence about the rows of an embedding under Muon."""

from __future__ import annotations

import itertools

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import bootstrap, token_law
from dynsim.claims import Evidence
from dynsim.statistics import Resamples, exponent_of, log_slope
from dynsim.theory import muon_row_norms
from experiments.results import study_config

from .study import EDGES

Floats = NDArray[np.float64]
RESAMPLES = 1000
STARVED, HALF, FULL = (0.0, 0.1), (0.1, 0.9), (0.9, 1.0)
"""bands of the derived squared length"""


def means(values: Floats) -> Floats:
    """Means between the study's ranks."""
    return np.array([values[low:high].mean() for low, high in itertools.pairwise(EDGES)])


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


def trained_losses(data: xr.Dataset, update: str, schedule: str, width: int) -> Floats:
    """Excess losses in the text, shape (octaves, seeds)."""
    cell = data.text.sel(update=update, schedule=schedule, width=width)
    return cell.transpose("octave", "seed").to_numpy().astype(np.float64)


def _ratio(cells: list[Floats], predicted: float) -> Evidence:
    """Of two losses at their best rates, geometric mean over widths. A cell is (2, octaves, seeds),
    and a seed's networks of both updates are resampled together."""

    def ratio(*chosen: Floats, axis: int = -1) -> Floats:
        logs = []
        for cell in chosen:
            one, two = np.mean(cell, axis=axis).min(axis=1)
            logs.append(np.log(one / two))
        return np.asarray(np.exp(np.mean(logs)))

    measured = bootstrap(ratio, cells, resamples=Resamples.QUICK)
    return Evidence(predicted=predicted, simulated=None, measured=measured)


def best_loss_ratio(
    data: xr.Dataset, update: str, other: str, schedule: str, predicted: float
) -> Evidence:
    """Excess loss in the text at an update's own best learning rate over that of another one."""
    cells = [
        np.stack([trained_losses(data, name, schedule, int(width)) for name in (update, other)])
        for width in data.width.values
    ]
    return _ratio(cells, predicted)


def starved_loss_ratio(data: xr.Dataset, octave: int, schedule: str) -> Evidence:
    """Excess loss of the starved tokens under Muon over that with rows normalised afterwards, at
    one rate of frequent rows, to be 1 if frequent rows were all that matters."""
    chosen = data.excess.sel(schedule=schedule, group="starved", octave=[octave])
    cells = [
        np.stack(
            [
                chosen.sel(update=name, width=width).transpose("octave", "seed").to_numpy()
                for name in ("muon", "muon, then row norm")
            ]
        ).astype(np.float64)
        for width in data.width.values
    ]
    return _ratio(cells, 1.0)
