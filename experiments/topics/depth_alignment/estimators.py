"""Evidence about the alignment of every matrix: the exponent of d in its update."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import Estimate, bootstrap, fit_exponent
from dynsim.claims import Evidence
from dynsim.statistics import Resamples, log_slope

Floats = NDArray[np.float64]
RESAMPLES = 1000


def widths(data: xr.Dataset, source: str) -> list[int]:
    cells = data.mean_square.sel(source=source).isel(embedding=0, matrix=0, step=0, seed=0)
    return [int(width) for width in cells.width.values[cells.notnull().values]]


def mean_squares(
    data: xr.Dataset, source: str, embedding: str, matrix: str, step: int, width: int
) -> Floats:
    """Of (W_t - W_0) z_t over the learning rate, seed by seed."""
    cell = data.mean_square.sel(
        source=source, embedding=embedding, matrix=matrix, step=step, width=width
    )
    squares = cell.to_numpy().astype(np.float64)
    return squares[~np.isnan(squares)]


def theory_rms(data: xr.Dataset, embedding: str, matrix: str, step: int) -> Floats:
    """The mean field's, at its widths."""
    return np.sqrt(
        [
            mean_squares(data, "theory", embedding, matrix, step, width)[0]
            for width in widths(data, "theory")
        ]
    )


def network_rms(data: xr.Dataset, embedding: str, matrix: str, step: int, width: int) -> Estimate:
    squares = mean_squares(data, "networks", embedding, matrix, step, width)
    return bootstrap(
        lambda sample, axis=-1: np.sqrt(sample.mean(axis=axis)),
        [squares],
        resamples=Resamples.QUICK,
        vectorized=True,
    )


def alignment_exponent(
    data: xr.Dataset, embedding: str, matrix: str, step: int, predicted: float
) -> Evidence:
    """Exponent of d in the RMS of the update over its learning rate, after a number of steps."""
    sizes = widths(data, "networks")
    samples = [mean_squares(data, "networks", embedding, matrix, step, size) for size in sizes]
    measured = fit_exponent(sizes, samples, power=0.5, resamples=RESAMPLES)
    known = np.isin(widths(data, "theory"), sizes)
    rms = theory_rms(data, embedding, matrix, step)[known]
    slope = log_slope(np.log(sizes), np.log(rms))
    return Evidence.of_fit(measured, predicted=predicted, simulated=float(slope))
