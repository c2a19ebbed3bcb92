"""How a sweep scales with workers, measured on this machine, and what that says of a cluster.

`python -m benchmarks.sweep_workers` does three things. It hands out tasks that sleep,
so that workers do not compete for cores: what is measured is the time of handing out, fetching and
keeping results, by one process. It trains a sweep of cells of very different cost on one and on two
worker processes of a dask cluster. And it models more workers by the measured times: each task
takes what it took one worker, the longest go first to whoever is free, and one process hands out
and keeps them one by one.

On two idle cores (Linux, one thread for each worker), with `--steps 40 --sleepers 16`: 6.0 ms a
task by one process; 24 tasks of 53 ms to 1.37 s in 7.90 s on one worker (model 7.93 s) and in
4.90 s on two (3.99 s: workers, scheduler and this process share the cores). A thousand times as
many tasks, speed-up by the model, as measured and up to a minute: 10 workers 9.8 and 10.0, 100
workers 45.7 and 99.9, 1,000 workers 53.6 and 899.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dynsim.laboratory import NetworkSetup
from experiments.cells.executors import DaskExecutor
from experiments.cells.store import open_store
from experiments.sweeps import work
from experiments.sweeps.plan import Grid

LENGTH = 0.05  # seconds of a sleeping task
TASKS_EACH = 40
SLEEPERS = (1, 2, 4, 8, 16, 32)
LOSSES = 4096  # numbers of a task
TRAINERS = (1, 2)
CLUSTER = (1, 2, 10, 100, 1000)
WIDTHS = (16, 32, 64, 128, 256, 512)
TASKS_OF_CELL = 4
REPEATED = 1000  # times that the measured tasks are taken in the model of a cluster
LONGEST = 60.0  # seconds of the longest task of a sweep, as it is planned


def task(job: dict[str, Any], progress: Any = None) -> dict[str, Any]:
    time.sleep(job["seconds"])
    return {"loss": np.zeros(LOSSES)}


def seconds_of(workers: int, length: float, folder: Path) -> float:
    """Time of `TASKS_EACH` sleeping tasks for each of so many workers, kept one by one."""
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


def makespan(tasks: Sequence[float], workers: int, own: float) -> float:
    """Seconds from the first task to the last, in this order, on workers that are as quick.

    Whoever is free takes the next task; one process spends `own` seconds on each, one by one.
    """
    free = [0.0] * min(workers, len(tasks))
    hub = 0.0  # when the process that hands out and keeps is free
    for seconds in tasks:
        hub = max(hub, heapq.heappop(free)) + own
        heapq.heappush(free, hub + seconds)
    return max(free)


def training_jobs(steps: int) -> list[work.Job]:
    """Tasks of MLPs of very different cost, the longest first, as a sweep hands them out."""
    setup = NetworkSetup(network="mlp", outputs=16, steps=steps)
    rates = tuple(float(rate) for rate in np.geomspace(1e-3, 1e-1, TASKS_OF_CELL))
    sweep = Grid(setup, WIDTHS, (128,), rates, (0.01, 0.02), 1, (steps,))
    return [
        work.Job(
            setup=dataclasses.asdict(cell),
            embedding_lrs=[rate, rate],
            hidden_lrs=list(sweep.hidden_lrs),
            seeds=[0, 0],
            horizons=[steps],
            memory_gb=work.memory_of_as_many(cell, None),
            tokens=None,
            train_loss=False,
        )
        for cell in sorted(sweep.cells, key=work.operations, reverse=True)
        for rate in rates
    ]


def timed(job: work.Job, progress: Any = None) -> dict[str, Any]:
    """A trained task and the seconds that it took."""
    begun = time.perf_counter()
    trained = work.train(job, progress)
    return {"arrays": trained["arrays"], "seconds": time.perf_counter() - begun}


def compile_all(jobs: Sequence[work.Job]) -> None:
    """Compiles on a worker what the tasks need; what it costs depends on how many tasks follow."""
    for job in {job["setup"]["width"]: job for job in jobs}.values():
        work.train(job)


def trained_by(workers: int, jobs: Sequence[work.Job], folder: Path) -> tuple[float, list[float]]:
    """Seconds that so many worker processes take for all tasks, and those of each task."""
    from distributed import LocalCluster

    here: dict[str, Any] = {"threads_per_worker": 1, "n_workers": workers, "memory_limit": 0}
    with LocalCluster(**here, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:
        where = DaskExecutor(cluster.scheduler_address)
        with where, open_store(folder / f"trained-{workers}.nc", resume=True) as store:
            where._client.run(compile_all, jobs)
            seconds = [0.0] * len(jobs)
            begun = time.perf_counter()
            for number, found in where.results(timed, enumerate(jobs), lambda *_: None):
                store.write(f"{number:06d}", "benchmark", found["arrays"])
                seconds[number] = found["seconds"]
            return time.perf_counter() - begun, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description="How a sweep scales with workers.")
    parser.add_argument("--steps", type=int, default=60, help="of every network (default 60)")
    parser.add_argument("--sleepers", type=int, nargs="+", default=SLEEPERS)
    arguments = parser.parse_args()
    os.environ |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1"}
    with TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder) / "programs")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        own = []
        print("| workers that sleep | tasks a second | of the workers' time |\n|---|---|---|")
        for workers in arguments.sleepers:
            took = seconds_of(workers, LENGTH, Path(folder))
            rate = TASKS_EACH * workers / took
            own.append(1 / rate)
            print(f"| {workers} | {rate:.0f} | {rate * LENGTH / workers:.0%} |", flush=True)
        least = min(own)
        print(f"\none process hands out and keeps a task in {1e3 * least:.1f} ms\n")
        jobs = training_jobs(arguments.steps)
        print("| workers that train | seconds | speed-up | model |\n|---|---|---|---|")
        walls, alone = {}, [0.0]
        for workers in TRAINERS:
            walls[workers], seconds = trained_by(workers, jobs, Path(folder))
            alone = seconds if workers == 1 else alone
            model = makespan(alone, workers, least)
            speed = walls[1] / walls[workers]
            print(f"| {workers} | {walls[workers]:.2f} | {speed:.2f} | {model:.2f} |", flush=True)
    print(f"\n{len(alone)} tasks of {1e3 * min(alone):.0f} ms to {max(alone):.2f} s on one worker")
    print(f"a sweep of {REPEATED} times as many tasks, by the model:\n")
    print("| workers | speed-up, tasks as measured | of their time | tasks up to a minute | |")
    print("|---|---|---|---|---|")
    for workers in CLUSTER:
        cells = []
        for scale in (1.0, LONGEST / max(alone)):
            tasks = [scale * one for one in alone for _ in range(REPEATED)]
            speed = sum(tasks) / makespan(tasks, workers, least)
            cells.append(f"{speed:,.1f} | {speed / workers:.0%}")
        print(f"| {workers:,} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
