"""A cheap stand-in for the training of a sweep's tasks, and a driver that kills sweeps.

Workers import this module by name. It needs no jax, so that the driver may fork.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dynsim import InputError
from dynsim.laboratory import NetworkSetup
from experiments.cells.executors import LocalExecutor
from experiments.sweeps.complete import Work, complete_sweep
from experiments.sweeps.plan import Grid
from experiments.sweeps.work import Job, Site, Trained

PROVENANCE = {
    "code_version": "1",
    "libraries": json.dumps({"jax": "1", "numpy": "2"}),
    "python": "3",
    "device": "cpu: cpu",
}
LARGEST_TASK = 5
DIARY = "DYNSIM_TEST_DIARY"


def small_grid(**changes: Any) -> Grid:
    """Four cells of 12 runs, three tasks each."""
    fields: dict[str, Any] = {
        "setup": NetworkSetup(steps=3),
        "widths": (8, 16),
        "vocab_sizes": (4, 6),
        "embedding_lrs": (0.1, 0.2, 0.4),
        "hidden_lrs": (0.3, 0.5),
        "seeds": 2,
        "horizons": (1, 3),
        "train_loss": True,
    }
    return Grid(**fields | changes)


def examine(config: dict[str, Any], cells: list[dict[str, Any]], memory_gb: float | None) -> Site:
    if max(cell["width"] for cell in cells) > 1000:
        raise InputError("width", 1001, "does not fit")
    return Site(
        provenance={**PROVENANCE, "config": json.dumps(config)},
        fingerprint=json.dumps([PROVENANCE, config]),
        tokens={},
        largest_tasks=[LARGEST_TASK] * len(cells),
        memory_gb=[1.0] * len(cells),
        operations=[float(cell["width"]) for cell in cells],
        compilation=0.5,
    )


def train(job: Job, progress: Any = None) -> Trained:
    """Losses that depend on every run's place in the grid and, in the last bits, on how many runs
    are in the task, as compiled programs do. Learning rate 0.4 diverges."""
    if diary := os.environ.get(DIARY):
        with open(diary, "a") as file:
            file.write(f"{job['setup']['width']}\n")
    rates, hidden = np.asarray(job["embedding_lrs"]), np.asarray(job["hidden_lrs"])
    start = job["setup"]["width"] + job["setup"]["vocab_size"] / 100 + np.asarray(job["seeds"])
    bits = len(rates) * np.finfo(float).eps
    diverged = rates == 0.4
    loss = start[:, None] * np.exp(-np.outer(rates * hidden, job["horizons"])) * (1 + bits)
    loss[diverged] = np.inf
    curve = start[:, None] * np.exp(-np.outer(rates * hidden, np.arange(job["setup"]["steps"])))
    if progress is not None:
        progress(0.25)
        progress(0.75)
    return Trained(
        arrays={
            "loss": loss,
            "initial_loss": start,
            "diverged": diverged,
            "train_loss": curve.astype("float32"),
        },
        provenance={**PROVENANCE, "config": "{}"},
    )


def slow_train(job: Job, progress: Any = None) -> Trained:
    """The same after a moment, with the process named in a file, for tests that kill workers."""
    Path(os.environ[DIARY] + f".{os.getpid()}").touch()
    time.sleep(0.15)
    return train(job, progress)


def fatal_train(job: Job, progress: Any = None) -> Trained:
    """Kills its process at one cell."""
    if job["setup"]["width"] == 16:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(job, progress)


WORK = Work(examine, train)


KILLED_GRID = small_grid(vocab_sizes=(4,))
KILLED_TASKS = 6


def run(path: Path) -> None:
    complete_sweep(KILLED_GRID, path, LocalExecutor(), resume=True, work=WORK)


def die_at(event: int, folder: Path) -> None:
    """This process is killed just before the `event`-th time that it touches a file in `folder`."""
    count = 0

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if name in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir"):
            if not str(arguments[0]).startswith(str(folder)):
                return
            count += 1
            if count == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def in_child(work: Any) -> int:
    """Exit status of a forked process that does `work`, as `os.waitpid` gives it."""
    child = fork(work)
    return os.waitpid(child, 0)[1]


def fork(work: Any) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def kill_at_every_touch(folder: Path) -> int:
    """Kills a sweep at its first touch of a file, resumes it; at its second, ...; until none is
    left. Each ends in `folder`/EVENT/sweep.nc; a resumed sweep trains what was not finished and
    nothing else. Returns the number of kills."""
    event = 0
    while True:
        event += 1
        here = folder / f"{event:03d}"
        here.mkdir()

        def killed(event: int = event, here: Path = here) -> None:
            die_at(event, here)
            run(here / "sweep.nc")

        status = in_child(killed)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return event - 1
        whole = (here / "sweep.nc").exists()
        finished = KILLED_TASKS if whole else len(list(here.glob("*/*.npz")))
        os.environ[DIARY] = str(here / "diary")
        assert in_child(lambda here=here: run(here / "sweep.nc")) == 0
        diary = Path(os.environ.pop(DIARY))
        trained = len(diary.read_text().splitlines()) if diary.exists() else 0
        assert trained == KILLED_TASKS - finished


def kill_at_random_moments(folder: Path, kills: int, life: float) -> int:
    """Kills a sweep of `life` seconds at random moments and resumes it each time, then finishes it.
    Returns how many sweeps it took to meet `kills` of them alive, the last one included."""
    chance = random.Random(1)
    sweeps = 1
    while kills:
        child = fork(partial(run, folder / f"{sweeps:03d}.nc"))
        time.sleep(chance.uniform(0, life))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            kills -= 1
        else:
            sweeps += 1
    assert in_child(lambda: run(folder / f"{sweeps:03d}.nc")) == 0
    return sweeps


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for part in ("touch", "random"):
        (folder / part).mkdir()
    run(folder / "uninterrupted.nc")  # and children find every module loaded
    begun = time.monotonic()
    run(folder / "again.nc")
    life = time.monotonic() - begun
    assert "jax" not in sys.modules
    touches = kill_at_every_touch(folder / "touch")
    print(touches, kill_at_random_moments(folder / "random", 20, life))
