"""How a sweep scales with workers, measured on this machine, and what that says of a cluster.

`python -m benchmarks.sweep_workers` hands out tasks of a known length, which sleep, so that the
workers do not compete for cores: what is measured is the time of handing out, of fetching and of
keeping results, by one process. From the time s that it takes a task of length t, N workers finish
tasks at the rate min(N/t, 1/s): beyond N = t/s more workers do not help.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from experiments.cells.executors import DaskExecutor
from experiments.cells.store import open_store

LENGTH = 0.05  # seconds of a measured task; a task of a sweep takes about 60
TASKS_EACH = 40
WORKERS = (1, 2, 4, 8, 16, 32)
LOSSES = 4096  # numbers of a task
CLUSTER = (10, 100, 1000)


def task(job: dict[str, Any], progress: Any = None) -> dict[str, Any]:
    time.sleep(job["seconds"])
    return {"loss": np.zeros(LOSSES)}


def seconds_of(workers: int, length: float, folder: Path) -> float:
    """Time of `TASKS_EACH` tasks for each of so many workers, kept one by one."""
    from distributed import LocalCluster

    here: dict[str, Any] = {"processes": False, "threads_per_worker": workers, "n_workers": 1}
    with LocalCluster(**here, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:
        where = DaskExecutor(cluster.scheduler_address)
        jobs = [(number, {"seconds": length}) for number in range(TASKS_EACH * workers)]
        with where, open_store(folder / f"{workers}.nc", resume=True) as store:
            list(where.results(task, jobs[:workers], lambda *_: None))
            begun = time.perf_counter()
            for number, arrays in where.results(task, jobs, lambda *_: None):
                store.write(f"{number:06d}", "benchmark", arrays)
            return time.perf_counter() - begun


def main() -> int:
    rows, own = [], []
    with TemporaryDirectory() as folder:
        for workers in WORKERS:
            took = seconds_of(workers, LENGTH, Path(folder))
            rate = TASKS_EACH * workers / took
            own.append(1 / rate)
            rows.append(f"| {workers} | {rate:.0f} | {rate * LENGTH / workers:.0%} |")
    print("| workers | tasks a second | of the workers' time |\n|---|---|---|", *rows, sep="\n")
    least = min(own)
    print(f"\none process hands out and keeps a task in {1e3 * least:.1f} ms")
    for length in (1.0, 10.0, 60.0):
        shares = (f"{min(1.0, length / (n * least)):.0%} of {n:,} workers" for n in CLUSTER)
        print(f"tasks of {length:g} s keep busy {', '.join(shares)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
