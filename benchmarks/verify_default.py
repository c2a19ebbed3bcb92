"""The default `dynsim verify` against the same networks trained one at a time.

python -m benchmarks.verify_default [--json] [--sample N]

Timed are the whole command in a process of its own, compilation included, and a sample of the cells
of `first_step_claims` that search for optimal learning rates: once as the study measures them, all
rates of a network side by side, and once as one would by hand, one network after the other in a
plain loop at the rates that the study found (the same trainer). All programs are compiled before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim import Setup, train
from experiments.precision import enable_x64
from experiments.topics._claim_study import measured_cell
from experiments.topics._registry import STUDIES

LIMIT = 90.0  # seconds on two idle cores
STUDY, MEASUREMENT = "first_step_claims", "layerwise_rates"
LAYERS = ("embedding", "projection")


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command() -> float:
    """Seconds of the default `dynsim verify` into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "experiments.cli", "verify", "--out", folder, "--json"]
        return seconds(lambda: subprocess.run(line, stdout=subprocess.DEVNULL))


def cells() -> list[str]:
    """The cells of the quick study that search for optimal learning rates."""
    texts = [cell["cell"] for cell in STUDIES[STUDY].cells(False)]
    return [text for text in texts if json.loads(text).get("measured") == MEASUREMENT]


def side_by_side(cell: str) -> np.ndarray[Any, Any]:
    """A cell as the study measures it. Returns the rates of both layers, shape (2, K)."""
    variables = measured_cell(cell, full=False)
    return np.stack([variables[f"{MEASUREMENT}.{layer}_rates"][1] for layer in LAYERS])


def one_at_a_time(cell: str, rates: np.ndarray[Any, Any], most_seeds: int | None = None) -> None:
    """Every seed and learning rate as a training of its own, the other layer frozen."""
    given = json.loads(cell)
    del given["measured"]
    setup = Setup(**{name: value for name, value in given.items() if name != "seeds"})
    for number in range(min(given["seeds"], most_seeds or given["seeds"])):
        for layer, values in enumerate(rates):
            for rate in values:
                pair = (rate, 0.0) if layer == 0 else (0.0, rate)
                train(
                    replace(setup, seed=setup.seed + number),
                    1,
                    embedding_lrs=[pair[0]],
                    projection_lrs=[pair[1]],
                    record_updates=False,
                )


def main() -> int:
    parser = argparse.ArgumentParser(description="The default verify against a plain loop.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--sample", type=int, default=4, help=f"cells of {STUDY} to compare")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    verify = command()
    enable_x64()
    ours = theirs = 0.0
    for cell in cells()[: arguments.sample]:
        rates = side_by_side(cell)
        one_at_a_time(cell, rates[:, :1], most_seeds=1)
        ours += seconds(lambda cell=cell: side_by_side(cell))
        theirs += seconds(lambda cell=cell, rates=rates: one_at_a_time(cell, rates))
    found = {
        "verify_seconds": verify,
        "load_before": load,
        "side_by_side_seconds": ours,
        "one_at_a_time_seconds": theirs,
        "ratio": theirs / ours,
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"dynsim verify              {verify:8.1f} s (load {load:.1f} when it started)")
        print(f"rates side by side         {ours:8.3f} s ({arguments.sample} cells)")
        print(f"the same one at a time     {theirs:8.3f} s, {theirs / ours:.1f} times as long")
    return 0 if verify < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
