"""Evidence about one-hot bigram tasks."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from dynsim import bootstrap, fit_exponent, gradient_flow, token_law
from dynsim.claims import Evidence
from dynsim.statistics import log_slope
from dynsim.theory import one_hot_flow_loss
from experiments.results import study_config

from .study import BEYOND, FLOW_STEP, flow_setup


def vocabulary_exponent(data: xr.Dataset, descent: str, predicted: float) -> Evidence:
    """Power of the vocabulary in the steps of networks; simulated: at vocabularies far beyond."""
    chosen = data.sel(descent=descent)
    sizes = data.vocab_size.to_numpy()
    samples = [np.log(chosen.steps.sel(vocab_size=m).to_numpy()) for m in sizes]
    fit = fit_exponent(sizes, samples, log_value=lambda cell: np.mean(cell, axis=-1))
    beyond = np.log(chosen.beyond.to_numpy())
    simulated = float(log_slope(np.log(BEYOND * sizes), beyond))
    return Evidence.of_fit(fit, predicted=predicted, simulated=simulated)


def steps_over_theory(data: xr.Dataset, descents: tuple[str, ...]) -> Evidence:
    """Steps of networks over those of the closed form, averaged over tasks and vocabularies."""
    chosen = data.sel(descent=list(descents))
    samples = [
        (chosen.steps / chosen.theory).sel(descent=one, vocab_size=m).to_numpy()
        for one in descents
        for m in data.vocab_size.to_numpy()
    ]

    def mean(*cells: Any, axis: int = -1) -> Any:
        return np.mean([np.mean(cell, axis=axis) for cell in cells], axis=0)

    return Evidence(predicted=1.0, simulated=None, measured=bootstrap(mean, samples))


@cache
def _flow(vocab_size: int, width: int, steps: int, seed: int) -> Any:
    """The loss of the flow at infinite width over its start, to its solver's last digits."""
    loss = gradient_flow(
        flow_setup(vocab_size, width, steps, seed),
        np.arange(steps),
        limit="infinite",
        nodes=vocab_size,
        error_estimate=False,
        tolerance=1e-13,
    ).loss
    return loss / loss[0]


def flow_distance(data: xr.Dataset) -> Evidence:
    """Largest distance of the mean loss from the closed form; simulated: of `gradient_flow`."""
    config = study_config(data)
    times = np.arange(data.sizes["step"])
    distances, simulated = [], []
    for m in data.vocab_size.to_numpy():
        p = token_law("zipf:1", int(m)).frequencies
        exact = one_hot_flow_loss(p, FLOW_STEP / p[0], times)
        flow = _flow(int(m), config["width"], len(times), config.get("seed", 0))
        simulated.append(float(np.max(np.abs(flow - exact))))
        losses = data.loss.sel(vocab_size=m).transpose("step", "seed").to_numpy()
        distances.append((losses, exact))

    def distance(*samples: Any, axis: int = -1) -> Any:
        means = [np.mean(one, axis=axis) for one in samples]
        return max(
            np.max(np.abs(mean / mean[0] - exact))
            for mean, (_, exact) in zip(means, distances, strict=True)
        )

    measured = bootstrap(distance, [losses for losses, _ in distances])
    return Evidence(predicted=0.0, simulated=max(simulated), measured=measured)
