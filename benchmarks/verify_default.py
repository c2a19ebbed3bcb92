"""The default `dynsim verify` against the same networks trained one at a time.

python -m benchmarks.verify_default [--json] [--sample N]

Timed are the whole command in a process of its own, compilation included, and, for a sample of the
cells of `learning_rates`, the networks that it trains there: once as the study does it, every seed
and learning rate side by side, and once as one would by hand, one network after the other in a
plain loop (the same trainer, its programs compiled beforehand).
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
from typing import Any

import numpy as np

from dynsim import Setup, train
from experiments.precision import enable_x64
from experiments.topics.first_step.study import LEARNING_RATES, RATES

LIMIT = 90.0  # seconds on two idle cores


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command() -> float:
    """Seconds of the default `dynsim verify` into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "experiments.cli", "verify", "--out", folder, "--json"]
        return seconds(lambda: subprocess.run(line, stdout=subprocess.DEVNULL))


def one_at_a_time(setup: Setup, seeds: int) -> None:
    """Every seed and learning rate as a training of its own."""
    for rates in _pairs():
        for seed in range(seeds):
            train(
                setup,
                [seed],
                embedding_lrs=rates[0],
                projection_lrs=rates[1],
                record_updates=False,
            )


def side_by_side(setup: Setup, seeds: int) -> None:
    for pairs in np.array_split(_pairs(), 2):
        train(
            setup,
            seeds,
            embedding_lrs=pairs[:, 0],
            projection_lrs=pairs[:, 1],
            record_updates=False,
        )


def _pairs() -> np.ndarray[Any, Any]:
    """Pairs of learning rates: first the embedding's with a frozen projection, then the reverse."""
    rates = np.asarray(LEARNING_RATES)
    frozen = np.zeros_like(rates)
    return np.concatenate([np.stack([rates, frozen], 1), np.stack([frozen, rates], 1)])


def main() -> int:
    parser = argparse.ArgumentParser(description="The default verify against a plain loop.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--sample", type=int, default=4, help="cells of learning_rates to compare")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    verify = command()
    enable_x64()
    seeds = RATES.config(False)["seeds"]
    ours = theirs = 0.0
    for cell in RATES.cells(False)[: arguments.sample]:
        setup = Setup(targets="sign", optimizer="sign", steps=2, **cell)
        side_by_side(setup, seeds)
        train(setup, [0], embedding_lrs=1.0, projection_lrs=0.0, record_updates=False)
        ours += seconds(lambda setup=setup: side_by_side(setup, seeds))
        theirs += seconds(lambda setup=setup: one_at_a_time(setup, seeds))
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
        print(f"networks side by side      {ours:8.3f} s ({arguments.sample} cells)")
        print(f"the same one at a time     {theirs:8.3f} s, {theirs / ours:.0f} times as long")
    return 0 if verify < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
