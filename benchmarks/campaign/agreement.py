"""The same numbers on the accelerator and on the CPU, one precision a cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.device_agreement import SETUPS, STEPS, TOLERANCE, largest_gap, losses, losses_on_cpu

MOST_RUNS = 4


def measure(precision: str, names: list[str]) -> Any:
    """Losses here and on the CPU, and their largest relative difference."""
    names = [name for name in names if name in SETUPS]
    reference = losses_on_cpu(names, precision)
    here = {name: losses(name, precision) for name in names}

    def table(found: dict[str, Any]) -> Any:
        filled = np.full((len(names), MOST_RUNS, STEPS), np.nan)
        for row, name in enumerate(names):
            filled[row, : len(found[name])] = found[name]
        return ("network", "run", "step"), filled

    gaps = [largest_gap(here[name], reference[name]) for name in names]
    return {
        "network": (("network",), np.array(names, dtype=str)),
        "loss": table(here),
        "loss_on_cpu": table(reference),
        "gap": (("network",), np.array(gaps)),
        "tolerance": ((), TOLERANCE[precision]),
    }
