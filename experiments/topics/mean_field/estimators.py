"""Evidence about the mean-field solver: how far finite networks are from its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import Estimate, fit_exponent
from dynsim.claims import Evidence
from dynsim.statistics import jackknife, log_slope

Floats = NDArray[np.float64]

LOSS_ALLOWED, UPDATE_ALLOWED = 0.015, 0.03  # RMS distance over the first loss, the largest RMS
LEAST_PARTICLES = 512  # with fewer there is a bias that halving their number does not show
REPLICAS = 16  # of the stored predictions


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


def pretended_replicas(mean: Floats, error: Floats) -> Floats:
    """Pretended replicas of a prediction, last axis: with this mean, and this error of it.

    All entries of an array vary together, as they do over the steps of one run of the solver.
    """
    scatter = np.random.default_rng(0).standard_normal(REPLICAS)
    scatter = (scatter - scatter.mean()) / scatter.std(ddof=1) * np.sqrt(REPLICAS)
    return mean[..., None] + error[..., None] * scatter


def _distance(
    samples: Sequence[Floats], scales: Sequence[Floats], allowed: float, power: float
) -> Estimate:
    """Mean-square distance of networks from predictions over what is allowed, noise taken off.

    `samples` holds for each cell the networks' (..., seeds) and the prediction's (..., replicas),
    of which `power` is taken after the mean over seeds; `scales` what a cell's distance is a share
    of. The squared errors of both means are subtracted, so that nothing is left, on average, where
    networks and prediction agree; the value can be negative.
    """

    def share(*chosen: Floats, axis: int = -1) -> Floats:
        cells = []
        for networks, prediction, scale in zip(chosen[::2], chosen[1::2], scales, strict=True):
            mean = networks.mean(axis=axis)
            slope = power * mean ** (power - 1)
            noise = slope**2 * networks.var(axis=axis, ddof=1) / networks.shape[-1]
            noise = noise + prediction.var(axis=axis, ddof=1) / prediction.shape[-1]
            distance = mean**power - prediction.mean(axis=axis)
            cells.append(np.mean((distance**2 - noise) / scale**2))
        return np.asarray(np.mean(cells) / allowed**2, dtype=np.float64)

    return jackknife(share, samples)


def loss_distance(
    data: xr.Dataset, prediction: str = "predicted", allowed: float = LOSS_ALLOWED
) -> Evidence:
    """Mean square over cases, widths and steps of the loss's distance over the first loss."""
    samples, scales = [], []
    for cell in _cells(data):
        loss = cell.loss.transpose("step", "seed").to_numpy().astype(float)
        replicas = pretended_replicas(cell[prediction].to_numpy(), cell.predicted_error.to_numpy())
        samples += [loss[1:], replicas[1:]]  # networks and prediction start alike
        scales.append(loss[0].mean())
    measured = _distance(samples, scales, allowed, 1.0)
    return Evidence(predicted=0.0, simulated=None, measured=measured)


def update_distance(data: xr.Dataset, allowed: float = UPDATE_ALLOWED) -> Evidence:
    """The same of every update RMS, each over its largest value."""
    samples, scales = [], []
    for cell in _cells(data):
        one = cell.transpose("update", "step", ...)
        for square, rms, error in zip(
            one.mean_square.to_numpy().astype(float),
            one.predicted_rms.to_numpy(),
            one.predicted_rms_error.to_numpy(),
            strict=True,
        ):
            moving = square.mean(axis=-1) > 0  # a frozen layer updates nothing, NaN is no layer
            if moving.any():
                samples += [square[moving], pretended_replicas(rms[moving], error[moving])]
                scales.append(np.sqrt(square.mean(axis=-1).max()))
    measured = _distance(samples, scales, allowed, 0.5)
    return Evidence(predicted=0.0, simulated=None, measured=measured)


def _cells(data: xr.Dataset) -> Iterator[xr.Dataset]:
    for case in data.case.values:
        for width in data.width.values:
            yield data.sel(case=case, width=width)


def width_exponent(data: xr.Dataset) -> Evidence:
    """Exponent in d of the networks' distance from the infinite-width limit.

    Simulated: that of the solver's own finite-width correction.
    """
    widths = data.width.to_numpy().astype(float)
    samples = [data.excess.sel(width=width).to_numpy() for width in data.width.values]
    measured = fit_exponent(widths, samples)
    correction = data.correction.sel(width=data.width).to_numpy()
    simulated = float(log_slope(np.log(widths), np.log(correction)))
    return Evidence.of_fit(measured, predicted=-1.0, simulated=simulated)


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
    """Mean over cases and particle numbers of the RMS over steps of deviation over error.

    All particle numbers of a case have one reference, so a case is what varies independently.
    """
    deviation, error = particle_errors(data.sel(particles=data.particles >= LEAST_PARTICLES))
    later = slice(1, None)  # all start alike
    ratio = np.sqrt(np.mean((deviation / error)[..., later] ** 2, axis=-1)).mean(axis=-1)
    return Evidence(predicted=1.0, simulated=None, measured=jackknife(np.mean, [ratio]))
