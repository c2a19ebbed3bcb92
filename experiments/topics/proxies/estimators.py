"""Evidence about how far the best base rate drifts with the width of a proxy."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import bootstrap
from dynsim.claims import Evidence
from dynsim.statistics import Estimate, Resamples, exponent_of
from dynsim.statistics._parabola import quadratic_form_minimum

Floats = NDArray[np.float64]


def curves(data: xr.Dataset, network: str, path: str) -> Floats:
    """Losses over the initial loss, shape (widths, rates, seeds)."""
    cells = data.sel(network=network, path=path)
    relative = (cells.loss / cells.initial_loss).transpose("width", "base_lr", "seed")
    return np.nan_to_num(relative.to_numpy().astype(np.float64), nan=2.0, posinf=2.0)


def log_best(data: xr.Dataset, losses: Floats, axis: int = -1) -> Floats:
    """ln of the best base rate at every width, from losses (widths, rates, ..., seeds).

    Shape (widths, ...): between rates and seeds may stand resamples.
    """
    rates = np.log(data.base_lr.to_numpy())
    mean = np.minimum(losses.mean(axis=axis), 1.0)
    by_rate = np.moveaxis(mean, 1, -1)
    return np.asarray(quadratic_form_minimum([rates], by_rate - 1.0)[..., 0])


def drift(data: xr.Dataset, network: str, path: str) -> Evidence:
    """Exponent of d in the best base rate. A seed's networks of all widths are resampled
    together."""

    def logs(losses: Floats, axis: int = -1) -> Floats:
        return log_best(data, losses, axis)

    measured = exponent_of(
        data.width.to_numpy(),
        [curves(data, network, path)],
        logs,
        resamples=Resamples.QUICK,
        vectorized=True,
    )
    return Evidence.of_fit(measured, predicted=0.0, simulated=None)


def best_rates(data: xr.Dataset, network: str, path: str) -> list[Estimate]:
    """ln of the best base rate at every width with its interval."""
    return [
        bootstrap(
            lambda losses, axis=-1: log_best(data, losses[None], axis)[0],
            [one],
            resamples=Resamples.QUICK,
            vectorized=True,
        )
        for one in curves(data, network, path)
    ]
