"""How far finite networks with linear hidden layers are from their predictions, case by case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import binomtest

from dynsim import Estimate
from dynsim.claims import Evidence
from dynsim.statistics._intervals import jackknife_interval
from experiments.topics.mean_field.estimators import pretended_replicas

Floats = NDArray[np.float64]

LOSS_ALLOWED, UPDATE_ALLOWED = 0.015, 0.04  # of the first loss, of the largest RMS


class Curve(NamedTuple):
    """A quantity by step: of every network, and as predicted.

    The networks' mean is taken first, and then its `power`. `scale` is what its distance from the
    prediction is a share of.
    """

    case: str
    networks: Floats  # (step, seed)
    predicted: Floats  # (step,)
    error: Floats
    power: float
    scale: float


def loss_curves(data: xr.Dataset, prediction: str = "predicted") -> list[Curve]:
    """The loss of every case that has this prediction."""
    found = []
    for case, cell in _cells(data, prediction):
        loss = cell.loss.transpose("step", "seed").to_numpy().astype(float)
        loss = loss[:, np.isfinite(loss[0])]
        own = cell[prediction].to_numpy(), cell.predicted_error.to_numpy()
        found.append(Curve(case, loss, *own, 1.0, loss[0].mean()))
    return found


def update_curves(data: xr.Dataset) -> list[Curve]:
    """The RMS updates of every case's layers that are trained."""
    found = []
    for case, cell in _cells(data):
        one = cell.transpose("update", "step", ...)
        for square, rms, error in zip(
            one.mean_square.to_numpy().astype(float),
            one.predicted_rms.to_numpy(),
            one.predicted_rms_error.to_numpy(),
            strict=True,
        ):
            own = square[:, np.isfinite(square[0])]
            moving = own.mean(axis=-1) > 0 if own.size else np.zeros(len(own), dtype=bool)
            if moving.any():
                scale = np.sqrt(own.mean(axis=-1).max())
                found.append(Curve(case, own[moving], rms[moving], error[moving], 0.5, scale))
    return found


def excess(curve: Curve) -> float:
    """Largest distance beyond two standard errors of both over the steps, as a share."""
    mean, seeds = curve.networks.mean(axis=-1), curve.networks.shape[-1]
    slope = curve.power * mean ** (curve.power - 1)
    own = slope * curve.networks.std(axis=-1, ddof=1) / np.sqrt(seeds)
    distance = np.abs(mean**curve.power - curve.predicted)
    return float(np.max(distance - 2 * np.hypot(own, curve.error)) / curve.scale)


def mean_square_distance(curves: Sequence[Curve], allowed: float) -> Estimate:
    """Mean over curves and steps of the squared distance over what is allowed, noise taken off.

    The squared errors of networks and prediction are subtracted, so that nothing is left, on
    average, where both agree; the value can be negative.
    """
    own, left_out = [], []
    for curve in curves:
        prediction = pretended_replicas(curve.predicted, curve.error)
        value = _square(curve, curve.networks, prediction)
        own.append(value)
        for number, sample in enumerate((curve.networks, prediction)):
            without = [np.delete(sample, k, axis=-1) for k in range(sample.shape[-1])]
            pairs = [(one, prediction) if number == 0 else (curve.networks, one) for one in without]
            left_out.append(np.array([_square(curve, *pair) - value for pair in pairs]))
    share = 1 / (len(curves) * allowed**2)
    total = sum(own) * share
    return jackknife_interval(total, [total + share * change for change in left_out])


def loss_distance(data: xr.Dataset, prediction: str = "predicted") -> Evidence:
    """Of the loss, over the first one."""
    measured = mean_square_distance(loss_curves(data, prediction), LOSS_ALLOWED)
    return Evidence(predicted=0.0, simulated=None, measured=measured)


def update_distance(data: xr.Dataset) -> Evidence:
    """Of every update RMS, over its largest value."""
    measured = mean_square_distance(update_curves(data), UPDATE_ALLOWED)
    return Evidence(predicted=0.0, simulated=None, measured=measured)


def losses_beyond(data: xr.Dataset) -> Evidence:
    """Share of the cases whose loss is farther away at some step than is allowed."""
    return _share_beyond(loss_curves(data), LOSS_ALLOWED)


def updates_beyond(data: xr.Dataset) -> Evidence:
    """Share of the cases of which some layer's update RMS is."""
    return _share_beyond(update_curves(data), UPDATE_ALLOWED)


def _share_beyond(curves: Sequence[Curve], allowed: float) -> Evidence:
    """With Wilson's 95 % interval of a proportion."""
    cases = {curve.case for curve in curves}
    beyond = {curve.case for curve in curves if excess(curve) > allowed}
    found = binomtest(len(beyond), len(cases))
    interval = found.proportion_ci(method="wilson")
    measured = Estimate(float(found.statistic), float(interval.low), float(interval.high))
    return Evidence(predicted=0.0, simulated=None, measured=measured)


def _square(curve: Curve, networks: Floats, prediction: Floats) -> float:
    mean = networks.mean(axis=-1)
    slope = curve.power * mean ** (curve.power - 1)
    noise = slope**2 * networks.var(axis=-1, ddof=1) / networks.shape[-1]
    noise = noise + prediction.var(axis=-1, ddof=1) / prediction.shape[-1]
    distance = mean**curve.power - prediction.mean(axis=-1)
    return float(np.mean((distance**2 - noise) / curve.scale**2))


def _cells(data: xr.Dataset, prediction: str = "predicted") -> Iterator[tuple[str, xr.Dataset]]:
    """Every case at the steps that it has."""
    for case in data.case.values:
        cell = data.sel(case=case)
        steps = cell[prediction].notnull().to_numpy()
        if steps.any():
            yield str(case), cell.isel(step=steps)
