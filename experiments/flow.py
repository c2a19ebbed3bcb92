"""`dynsim flow`: gradient flow and smoothed-sign flow, at finite, infinite or proportional size."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dynsim import InputError, check_integer

from .output import print_json
from .results import provenance
from .training import print_curves

if TYPE_CHECKING:
    from .cli import Flow

COLUMNS = ("loss", "loss_error", "projection_update_rms", "embedding_update_rms")
MAX_POINTS = 100_000


def run_flow(options: Flow) -> int:
    """Solves the flow and prints its curves. A solver that stops early is a result."""
    from dynsim import gradient_flow

    from .precision import enable_x64

    enable_x64()
    end = float(options.setup.steps) if options.time is None else options.time
    if not (np.isfinite(end) and end > 0):
        raise InputError("--time", options.time, "must be a positive number")
    check_integer("--points", options.points, 2, MAX_POINTS)
    result = gradient_flow(
        options.setup,
        np.linspace(0, end, options.points),
        limit=options.limit,
        nodes=options.nodes,
        particles=options.particles,
        solver=options.solver,
        tolerance=options.tolerance,
        max_steps=options.max_steps,
    )
    config = dataclasses.asdict(options.setup) | {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in ("setup", "json")
    }
    config["time"] = end
    document = {
        "config": config,
        "time": result.times,
        **{name: getattr(result, name) for name in COLUMNS},
        "finished": result.status == "ok",
        "reached": result.reached,
        "effective_tokens": result.effective_tokens,
        "state_size": result.state_size,
        "solver_steps": result.solver_steps,
        "rejected_steps": result.rejected_steps,
        "fastest_rate": dict(zip(("projection", "embedding"), result.fastest_rate, strict=True)),
        "status": result.status,
        "provenance": provenance(config),
    }
    if options.json:
        print_json(document)
        return 0
    print_curves(document, COLUMNS, axis="time")
    print(f"status: {result.status}")
    return 0
