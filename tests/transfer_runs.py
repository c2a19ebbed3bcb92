"""Runs of a loss surface of known parameters, as tables and files, and their fit."""

from __future__ import annotations

import numpy as np
import xarray as xr

from dynsim import fit_transfer
from dynsim.transfer import TRANSFER_PARAMETERS
from experiments.results import save

WIDTHS = np.array([64.0, 128, 256, 512, 1024])
RATES = np.exp(np.linspace(-6.5, -2.5, 9))
TRUTH = {
    "loss_limit": 1.2,
    "loss_amplitude": 3.0,
    "loss_exponent": 0.5,
    "rate_limit": np.exp(-5.0),
    "rate_amplitude": 2.0,
    "rate_exponent": 0.4,
    "curvature_amplitude": 0.1,
    "curvature_exponent": 0.2,
    "robustness": 0.5 - 0.8 + 0.2,
}


def runs(*, widths=WIDTHS, rates=RATES, seeds=2, noise=0.0, common=0.0, skew=0.0, **changes):
    """Runs of a surface with some parameters changed: widths, rates, seeds, losses."""
    truth = {**TRUTH, **changes}
    width, rate, seed = np.meshgrid(widths, rates, np.arange(seeds), indexing="ij")
    lowest = truth["loss_limit"] + truth["loss_amplitude"] * width ** -truth["loss_exponent"]
    shift = truth["rate_amplitude"] * width ** -truth["rate_exponent"]
    distance = np.log(rate) - np.log(truth["rate_limit"]) - shift
    curvature = truth["curvature_amplitude"] * width ** truth["curvature_exponent"]
    loss = lowest + curvature / 2 * distance**2 * (1 + skew * distance)
    random = np.random.default_rng(5)
    own = noise * random.normal(size=loss.shape)
    shared = common * random.normal(size=(len(widths), 1, seeds))
    return [width.ravel(), rate.ravel(), seed.ravel(), (loss * (1 + own + shared)).ravel()]


def values(fit) -> np.ndarray:
    return np.array([getattr(fit, name).value for name in TRANSFER_PARAMETERS])


def fitted(**changes):
    return fit_transfer(*runs(**changes), factor=3.0, resamples=20)


def stored(tmp_path, dataset: xr.Dataset):
    save(dataset, tmp_path / "sweep.nc")
    return [tmp_path / "sweep.nc"]


def cases(names=("a", "b"), **coordinates) -> xr.Dataset:
    """Losses over case, width, learning_rate and seed, the second case's higher; never run at the
    smallest rate, and the largest diverged for the last seed of the first width."""
    loss = np.stack([runs(noise=0.001, loss_limit=1 + k)[3] for k in range(len(names))])
    loss = loss.reshape(len(names), 5, 9, 2)
    diverged = np.zeros_like(loss)
    diverged[:, 0, -1, 1] = 1
    loss[diverged == 1] = np.nan
    loss[:, :, 0], diverged[:, :, 0] = np.nan, np.nan
    dims = ("case", "width", "learning_rate", "seed")
    return xr.Dataset(
        {"loss": (dims, loss), "diverged": (dims, diverged)},
        coords={
            "case": list(names),
            "width": WIDTHS.astype(int),
            "learning_rate": RATES,
            "seed": [0, 1],
            **coordinates,
        },
    )
