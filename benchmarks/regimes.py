"""`dynsim regimes` against drawing the same figures by hand, one after the other.

python -m benchmarks.regimes [--json]

By hand: a process that loads the stored studies and calls every figure's function in turn, which
is what `experiments.topics._draw.draw` does. The command also starts a second process.
Beside it, the fits of one transfer figure, all resamples of a fit side by side, against MINPACK
called for each resample.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from experiments.precision import enable_x64

LIMIT = 20.0  # seconds on two idle cores
BY_HAND = """
import sys
from pathlib import Path
from experiments.precision import enable_x64
enable_x64()
from experiments.results import STORED, load
from experiments.topics._draw import draw
from experiments.topics._names import known_figures
for name, figure in known_figures().items():
    studies = {need: load(STORED / f"{need}.nc") for need in figure.studies}
    draw(name, studies, Path(sys.argv[1]), ["png"])
"""


def seconds(line: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def fits() -> dict[str, float]:
    """Seconds of 100 surfaces of a sweep with noise, side by side and one by one."""
    from scipy.optimize import least_squares

    from dynsim.transfer._surface import Points, _Projected, fit_surfaces

    random = np.random.default_rng(0)
    axes = np.meshgrid(np.arange(5.0), np.arange(-3.0, 4.0))
    log_width, log_rate = (axis.ravel().astype(np.float64) for axis in axes)
    loss = 1 + np.exp(-0.5 * log_width) + 0.05 * (log_rate - np.exp(-0.6 * log_width)) ** 2
    points = Points(log_width.astype(np.int64), log_width, log_rate, 1 / loss)
    rows = loss * (1 + 0.003 * random.normal(size=(100, len(loss))))
    start = time.perf_counter()
    fit_surfaces(points, rows)
    together = time.perf_counter() - start
    problem = _Projected(points, rows)
    begin = problem.start()

    def one(row: int) -> Any:
        number = np.array([row])
        return least_squares(
            lambda trial: problem.solved(number, trial[None, :]).left[0],
            begin[row],
            lambda trial: problem.solved(number, trial[None, :]).jacobian[0],  # type: ignore[arg-type]
            method="lm",
        )

    start = time.perf_counter()
    for row in range(len(rows)):
        one(row)
    return {"side_by_side": together, "one_by_one": time.perf_counter() - start}


def main() -> int:
    parser = argparse.ArgumentParser(description="The figures by command and by hand.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        ours = seconds([sys.executable, "-m", "experiments.cli", "regimes", "--out", folder])
        by_hand = seconds([sys.executable, "-c", BY_HAND, folder])
    enable_x64()
    found = {
        "regimes_seconds": ours,
        "by_hand_seconds": by_hand,
        "ratio": by_hand / ours,
        "load_before": load,
        "fits_seconds": fits(),
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"dynsim regimes       {ours:7.1f} s (load {load:.1f} when it started)")
        print(f"by hand, in turn     {by_hand:7.1f} s, {by_hand / ours:.1f} times as long")
        together, apart = found["fits_seconds"].values()
        print(f"100 transfer fits    {together:7.2f} s, one by one {apart:.2f} s")
    return 0 if ours < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
