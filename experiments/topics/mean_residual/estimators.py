"""Evidence about the first update of a readout that reads features with or without a mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import Estimate, bootstrap, first_step, token_law
from dynsim.claims import Evidence
from dynsim.statistics import Resamples, exponent_of, log_slope
from experiments.results import study_config

Floats = NDArray[np.float64]
RESAMPLES = 1000


def widths(data: xr.Dataset) -> list[int]:
    return [int(width) for width in data.width.values]


def updates(data: xr.Dataset, activation: str, normalisation: str, residuals: str) -> Floats:
    """Mean squares of the update over those of the features, shape (widths, seeds)."""
    chosen = data.mean_square.sel(
        activation=activation, normalisation=normalisation, residuals=residuals
    )
    return chosen.transpose("width", "seed").to_numpy().astype(np.float64)


def has_direction(activation: str, normalisation: str, residuals: str) -> bool:
    """Whether the theory gives the features a mean that a mean residual pushes along: of an even
    part, not taken away between activation and readout, with residuals that are not centred."""
    return activation != "tanh" and normalisation != "layer" and residuals == "raw"


def derived_rms(
    data: xr.Dataset, activation: str, directed: bool, sizes: Sequence[float] | Floats | None = None
) -> Floats:
    """The derived RMS of the update over that of the features; not `directed`: as with centred
    residuals, for which tanh stands."""
    law = token_law("uniform", study_config(data)["vocab_size"])
    which = cast(Literal["tanh", "relu", "gelu"], activation if directed else "tanh")
    found = first_step(
        "readout",
        "sign",
        np.asarray(widths(data) if sizes is None else sizes),
        law,
        activation=which,
        depth=1,
        residuals="gaussian",
    )
    return np.asarray(found.rms, dtype=np.float64)


def log_rms(squares: Floats, axis: int = -1) -> Floats:
    return 0.5 * np.log(np.mean(squares, axis=axis))


def update_exponent(
    data: xr.Dataset,
    activation: str,
    normalisation: str = "none",
    residuals: str = "raw",
    *,
    directed: bool | None = None,
) -> Evidence:
    """Exponent of d in the update, against the slope of the derived one at the same widths.

    `directed` False predicts that of features without a mean, wrong on purpose.
    """
    if directed is None:
        directed = has_direction(activation, normalisation, residuals)
    squares = updates(data, activation, normalisation, residuals)
    # A seed has the same targets at every width, so its networks are resampled together.
    measured = exponent_of(widths(data), [squares], log_rms, resamples=RESAMPLES, vectorized=True)
    derived = log_slope(np.log(widths(data)), np.log(derived_rms(data, activation, directed)))
    return Evidence.of_fit(measured, predicted=float(derived), simulated=None)


def rms_intervals(
    data: xr.Dataset, activation: str, normalisation: str, residuals: str
) -> list[Estimate]:
    """The RMS at every width with its interval."""
    return [
        bootstrap(
            lambda row, axis=-1: np.exp(log_rms(row, axis)),
            [squares],
            resamples=Resamples.QUICK,
            vectorized=True,
        )
        for squares in updates(data, activation, normalisation, residuals)
    ]
