"""Claims about the exact limits: gradient flow and linearised networks."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import xarray as xr

from dynsim import bootstrap, first_step, fit_exponent, gradient_flow, token_law
from dynsim.statistics import log_slope
from dynsim.theory import FlowLimit
from experiments.results import study_config
from experiments.topics._claim import Claim, Evidence

from .study import descent_setup


def flow_loss(data: xr.Dataset, limit: str, *, of: str | None = None) -> Evidence:
    """Largest distance of the networks' mean loss from the flow, over the initial loss.

    The control takes the flow of another limit (`of`).
    """
    steps = data.sizes["step"]
    setup = descent_setup(limit, steps)
    flow = gradient_flow(
        setup, np.arange(steps), limit=cast(FlowLimit, of or limit), error_estimate=False
    )

    def distance(sample: Any, axis: int = -1) -> Any:
        return np.max(np.abs(np.mean(sample, axis=axis) - flow.loss)) / flow.loss[0]

    losses = data.loss.sel(limit=limit).transpose("step", "seed").to_numpy()
    return Evidence(0.0, None, bootstrap(distance, (losses,)))


def lazy_exponent(data: xr.Dataset, predicted: float) -> Evidence:
    """Exponent in d of a linearised network's projection update after several steps."""
    widths = data.width.to_numpy()
    law = token_law("uniform", study_config(data)["vocab_size"])
    rms = np.asarray(first_step("projection", "sign", widths, law).rms)
    samples = [data.mean_square.sel(width=d).to_numpy() for d in widths]
    measured = fit_exponent(widths, samples, power=0.5)
    simulated = float(log_slope(np.log(widths), np.log(rms)))
    return Evidence(predicted, simulated, measured, measured.drift)


CLAIMS = (
    Claim(
        "flow-infinite-width",
        "Gradient descent of a wide network follows the flow of infinite width (fixed vocabulary)",
        "largest distance over the initial loss",
        "0: aligned modes of Y, G_E(0) = sigma_E^2 d I",
        "gradient_descent",
        partial(flow_loss, limit="infinite"),
        0.03,
        "theory notes, section 6; Saxe et al. 2014",
    ),
    Claim(
        "flow-proportional",
        "... and along m = 2d that of the Marchenko-Pastur spectrum",
        "largest distance over the initial loss",
        "0: Gram flow from the Marchenko-Pastur law",
        "gradient_descent",
        partial(flow_loss, limit="proportional"),
        0.03,
        "theory notes, section 6",
    ),
    Claim(
        "lazy-keeps-lv",
        "A linearised network keeps the alignment of its first step: LV for ever",
        "exponent of projection_update_rms in d",
        "1/2",
        "lazy",
        partial(lazy_exponent, predicted=0.5),
        0.05,
        "theory notes, section 7",
    ),
    Claim(
        "control-flow-of-fixed-vocabulary",
        "Wrong on purpose: the fixed-vocabulary limit at m = 2d",
        "largest distance over the initial loss",
        "0",
        "gradient_descent",
        partial(flow_loss, limit="proportional", of="infinite"),
        0.03,
        "control",
        "fails",
    ),
)
