"""Evidence about the exact limits: gradient flow and linearised networks."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr

from dynsim import bootstrap, first_step, fit_exponent, gradient_flow, token_law
from dynsim.claims import Evidence
from dynsim.statistics import log_slope
from dynsim.theory import FlowLimit
from experiments.results import study_config

from .study import descent_setup


def flow_loss(data: xr.Dataset, limit: str, *, of: str | None = None) -> Evidence:
    """Largest distance of the networks' mean loss from the flow, over the initial loss.

    The control takes the flow of another limit (`of`).
    """
    steps = data.sizes["step"]
    setup = descent_setup(limit, steps, study_config(data).get("seed", 0))
    flow = gradient_flow(
        setup, np.arange(steps), limit=cast(FlowLimit, of or limit), error_estimate=False
    )

    def distance(sample: Any, axis: int = -1) -> Any:
        return np.max(np.abs(np.mean(sample, axis=axis) - flow.loss)) / flow.loss[0]

    losses = data.loss.sel(limit=limit).transpose("step", "seed").to_numpy()
    return Evidence(predicted=0.0, simulated=None, measured=bootstrap(distance, (losses,)))


def lazy_exponent(data: xr.Dataset, predicted: float) -> Evidence:
    """Exponent in d of a linearised network's projection update after several steps."""
    widths = data.width.to_numpy()
    law = token_law("uniform", study_config(data)["vocab_size"])
    rms = np.asarray(first_step("projection", "sign", widths, law).rms)
    samples = [data.mean_square.sel(width=d).to_numpy() for d in widths]
    measured = fit_exponent(widths, samples, power=0.5)
    simulated = float(log_slope(np.log(widths), np.log(rms)))
    return Evidence.of_fit(measured, predicted=predicted, simulated=simulated)
