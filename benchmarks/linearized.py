"""Linearised training: with the kernel matrix and without, closed form and stepping.

    python -m benchmarks.linearized [--json] [--largest N]

A tanh network of width 256 on 16 inputs, mse, n = 1 output a point. Two questions, each on the
same task and checked to give the same outputs before it is timed:

- gradient flow at six times by `kernel="dense"` and by `kernel="matrix-free"`, as the number of
  points grows: where is the crossing, and what memory does each need?
- 1,000 steps of descent in closed form and stepped one by one, as the number of steps asked for
  is the same but the method is not.

Times are wall seconds without compilation, the median of three turns. Memory is what the method
must hold at once by its arrays: matrix and eigenvectors, or the Krylov basis.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dynsim import LinearizedTraining, predict_linearized
from dynsim.theory.linearized import _dynamics as dynamics

WIDTH, INPUTS = 256, 16
TIMES = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
STEPS, RATE = 1000, 0.3
REPEATS = 3
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Row:
    """One line of the table: seconds and megabytes of both ways, and their ratios."""

    question: str
    points: int
    first_seconds: float
    second_seconds: float
    time_ratio: float
    first_mb: float | None
    second_mb: float | None


def network(params: Any, x: Any) -> Any:
    hidden = jnp.tanh(x @ params["hidden"].T / INPUTS**0.5)
    return hidden @ params["readout"] / WIDTH**0.5


def task(points: int) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(points)
    params = {
        "hidden": random.standard_normal((WIDTH, INPUTS)),
        "readout": random.standard_normal(WIDTH),
    }
    return params, random.standard_normal((points, INPUTS)), random.standard_normal(points)


def alternate(works: list[Callable[[], LinearizedTraining]]) -> list[float]:
    """Median seconds of each, in turns; raises if they disagree. The first turn compiles."""
    outputs = [work().outputs for work in works]
    gap = float(np.max(np.abs(outputs[0] - outputs[1])))
    if not gap < TOLERANCE:
        raise RuntimeError(f"two ways to the same outputs differ by {gap:.3g}")
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        for record, work in zip(seconds, works, strict=True):
            start = time.perf_counter()
            work()
            record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in seconds]


def directions(points: int) -> int:
    """Size of the Krylov space that gradient flow takes on this task."""
    sizes: list[int] = []
    original = dynamics.krylov_modes

    def counted(*arguments: Any) -> dynamics.Modes:
        modes = original(*arguments)
        sizes.append(len(modes.eigenvalues))
        return modes

    dynamics.krylov_modes = counted
    try:
        predict_linearized(network, *task(points), TIMES, kernel="matrix-free")
    finally:
        dynamics.krylov_modes = original
    return sizes[0]


def matrix_or_products(points: int) -> Row:
    run = partial(predict_linearized, network, *task(points), TIMES)
    dense, free = alternate([lambda: run(kernel="dense"), lambda: run(kernel="matrix-free")])
    megabytes = [8 * points * columns / 2**20 for columns in (2 * points, directions(points))]
    return Row("dense / matrix-free", points, dense, free, dense / free, *megabytes)


def steps_or_closed_form(points: int) -> Row:
    run = partial(predict_linearized, network, *task(points), [STEPS])
    stepper = optax.sgd(RATE)  # one object, so that it compiles once
    stepped, closed = alternate(
        [
            lambda: run(optimizer=stepper),
            lambda: run(optimizer="sgd", learning_rates=RATE),
        ]
    )
    return Row("stepped / closed form", points, stepped, closed, stepped / closed, None, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--largest", type=int, default=2048, help="largest number of points")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    sizes = [size for size in 2 ** np.arange(7, 20) if size <= options.largest]
    rows = [matrix_or_products(int(size)) for size in sizes]
    rows += [steps_or_closed_form(int(size)) for size in sizes]
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{'':22s} {'points':>7s} {'first s':>9s} {'second s':>9s} {'ratio':>7s} {'MB':>14s}")
    for row in rows:
        memory = "" if row.first_mb is None else f"{row.first_mb:.1f} / {row.second_mb:.1f}"
        print(
            f"{row.question:22s} {row.points:7d} {row.first_seconds:9.4f} "
            f"{row.second_seconds:9.4f} {row.time_ratio:7.2f} {memory:>14s}"
        )


if __name__ == "__main__":
    main()
