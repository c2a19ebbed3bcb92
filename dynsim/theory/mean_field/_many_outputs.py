"""Predictions for more outputs than the solver keeps directions for.

Source: docs/theory/many_outputs.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim._setup import Setup

from ._replicas import Rates
from ._result import Prediction, outcome, rms_and_error
from ._rotation import rotated
from ._similar_solver import sampled

UPDATES = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")


def predict_sampled(
    setup: Setup,
    sample: int,
    rates: Rates,
    *,
    accuracy: float,
    asked: bool,
    replicas: int | None,
    error_estimate: bool,
    finite_width: bool,
    memory_gb: float | None,
    progress: Callable[[float], object],
) -> Prediction:
    """By small networks, in which `sample` outputs stand for all of the setup's."""
    found = sampled(
        setup,
        sample,
        rates,
        accuracy=accuracy,
        replicas=replicas,
        finite_width=finite_width,
        memory_gb=memory_gb,
        progress=progress,
    )
    mean, spread, correction = found.mean, found.spread, found.correction
    bias = found.bias if error_estimate else np.zeros_like(spread)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.hypot(spread, bias)
        rms, rms_error = rms_and_error(mean, error)
    updates: dict[str, Any] = {}
    for place, name in enumerate(UPDATES, start=1):
        updates |= {name: rms[..., place], f"{name}_error": rms_error[..., place]}
    return Prediction(
        setup,
        embedding_lrs=rates.embedding,
        projection_lrs=rates.projection,
        loss=mean[..., 0],
        loss_error=error[..., 0],
        finite_width_correction=correction[..., 0],
        **updates,
        particles=found.small.vocab_size,
        neurons=found.small.width,
        replicas=found.replicas,
        accuracy=accuracy if asked else None,
        output_sample=sample,
        outcome=tuple(
            outcome(*row, 0.0, accuracy, setup.width if finite_width else math.inf)
            for row in zip(mean[..., 0], spread[..., 0], bias[..., 0], strict=True)
        ),
    )


def predict_rotated(
    setup: Setup, solver: Callable[..., Prediction], progress: Callable[[float], object] | None
) -> Prediction:
    """By the outputs that have targets after a rotation, and one of those that have none.

    Errors of the two add up: both parts have the same seed and the same kind of bias, so they may
    err together.
    """
    parts, report = rotated(setup), progress or (lambda part: None)
    found, rest = (
        solver(one, progress=lambda part: report(0.5 * part))
        for one in (parts.with_targets, parts.without)
    )
    kept, total, others = found.setup.output_count, setup.output_count, parts.others
    columns: dict[str, Any] = {}
    for name in UPDATES:
        square, by_rest = (getattr(one, name) ** 2 for one in (found, rest))
        error, error_of_rest = (
            2 * getattr(one, name) * getattr(one, f"{name}_error") for one in (found, rest)
        )
        columns[name], columns[f"{name}_error"] = rms_and_error(
            (kept * square + others * by_rest) / total,
            (kept * error + others * error_of_rest) / total,
        )
    return replace(
        found,
        setup=setup,
        loss=found.loss + others * rest.loss,
        loss_error=found.loss_error + others * rest.loss_error,
        finite_width_correction=found.finite_width_correction
        + others * rest.finite_width_correction,
        **columns,
        outcome=tuple(
            one if not one.ok else other
            for one, other in zip(found.outcome, rest.outcome, strict=True)
        ),
        rotated_outputs=kept,
    )
