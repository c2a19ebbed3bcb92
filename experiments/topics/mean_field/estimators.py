"""Evidence about the mean-field solver: how far finite networks are from its predictions."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import Estimate, bootstrap, fit_exponent
from dynsim.claims import Evidence

LOSS_BAR, NARROW_LOSS_BAR, UPDATE_BAR = 0.01, 0.015, 0.03  # of the first loss, of the largest RMS
LEAST_PARTICLES = 512  # with fewer there is a bias that halving their number does not show
NARROW = 256  # width at which the wider bar holds


def _excess(
    predicted: NDArray[np.float64], error: NDArray[np.float64], samples: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance from the seeds' mean (last axis) beyond two standard errors of both."""
    own = samples.std(axis=-1, ddof=1) / np.sqrt(samples.shape[-1])
    distance = np.abs(predicted - samples.mean(axis=-1))
    return np.maximum(distance - 2 * np.hypot(own, error), 0)


def loss_excess(data: xr.Dataset, prediction: str = "predicted") -> dict[tuple[str, int], float]:
    """Largest excess over the steps, over the first loss, of every (case, width)."""
    found = {}
    for case in data.case.values:
        for width in data.width.values:
            cell = data.sel(case=case, width=width)
            loss = cell.loss.transpose("step", "seed").to_numpy().astype(float)
            excess = _excess(cell[prediction].to_numpy(), cell.predicted_error.to_numpy(), loss)
            found[str(case), int(width)] = float(excess.max() / loss[0].mean())
    return found


def update_excess(data: xr.Dataset) -> dict[tuple[str, int], float]:
    """The same of the three update RMS, each over its largest value."""
    found = {}
    for case in data.case.values:
        for width in data.width.values:
            cell = data.sel(case=case, width=width).transpose("update", "step", ...)
            square = cell.mean_square.to_numpy().astype(float)
            rms = np.sqrt(square.mean(axis=-1))
            slope = 2 * np.maximum(rms, 1e-300)
            predicted, error = cell.predicted_rms.to_numpy(), cell.predicted_rms_error.to_numpy()
            own = square.std(axis=-1, ddof=1) / np.sqrt(square.shape[-1]) / slope
            excess = np.maximum(np.abs(predicted - rms) - 2 * np.hypot(own, error), 0)
            largest = rms.max(axis=1, keepdims=True)
            moving = largest[:, 0] > 0  # a frozen layer updates nothing
            found[str(case), int(width)] = float((excess[moving] / largest[moving]).max())
    return found


def largest_loss_share(values: dict[tuple[str, int], float]) -> Evidence:
    """Largest excess over what is allowed. Two standard errors are off the excess already."""
    shares = [
        value / (NARROW_LOSS_BAR if width <= NARROW else LOSS_BAR)
        for (_, width), value in values.items()
    ]
    worst = max(shares)
    return Evidence(predicted=0.0, simulated=None, measured=Estimate(worst, worst, worst))


def largest_update_share(data: xr.Dataset) -> Evidence:
    """Largest excess of an update's RMS over what is allowed."""
    worst = max(update_excess(data).values()) / UPDATE_BAR
    return Evidence(predicted=0.0, simulated=None, measured=Estimate(worst, worst, worst))


def width_exponent(data: xr.Dataset) -> Evidence:
    """Exponent in d of the networks' distance from the infinite-width limit."""
    widths = data.width.to_numpy().astype(float)
    samples = [data.excess.sel(width=width).to_numpy() for width in data.width.values]
    measured = fit_exponent(widths, samples)
    return Evidence(predicted=-1.0, simulated=None, measured=measured, drift=measured.drift)


def particle_errors(data: xr.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Deviation from the most particles, and its stated error, over the first loss.

    Shapes (case, particles, step), the reference left out.
    """
    data = data.transpose("case", "particles", "step")
    loss, error = data.loss.to_numpy(), data.loss_error.to_numpy()
    first = loss[:, -1:, :1]
    deviation = (loss - loss[:, -1:])[:, :-1] / first
    return deviation, np.hypot(error, error[:, -1:])[:, :-1] / first


def error_bars(data: xr.Dataset) -> Evidence:
    """Mean over cases and particle numbers of the RMS over steps of deviation over error."""
    deviation, error = particle_errors(data.sel(particles=data.particles >= LEAST_PARTICLES))
    later = slice(1, None)  # all start alike
    ratio = np.sqrt(np.mean((deviation / error)[..., later] ** 2, axis=-1)).ravel()
    return Evidence(predicted=1.0, simulated=None, measured=bootstrap(np.mean, [ratio]))
