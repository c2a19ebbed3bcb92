"""From a grid to its file: trains what is missing, keeps every finished task, assembles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from dynsim import InputError
from dynsim._files import Damaged
from experiments.cells.executors import Executor
from experiments.cells.store import (
    RESUMABLE,
    Arrays,
    Store,
    open_store,
    refuse_existing,
    remove_leftovers,
    writing,
)
from experiments.interruption import kept
from experiments.output import progress_bar
from experiments.results import load, save, study_config

from . import store as stored
from .dataset import assemble
from .plan import Grid, Task, differences, even_size, fields_of, naming_grid_options
from .store import Plan, begin, keep, made_by, refuse_other_sweep
from .work import Job, Site, Trained, examine, train

ROUNDS = 3  # of training what is missing: somebody may damage finished tasks meanwhile


@dataclass(frozen=True)
class Work:
    """The functions that run where networks are trained."""

    examine: Callable[..., Site] = examine
    train: Callable[..., Trained] = train


@naming_grid_options()
def complete_sweep(
    grid: Grid, path: Path, where: Executor, *, resume: bool = False, work: Work | None = None
) -> bool:
    """Writes the sweep to `path`; returns whether it was there already.

    Killed at any moment and called again with `resume`, it goes on after the tasks that were
    finished, and the file holds the same numbers as without the interruption: how a cell is cut
    into tasks is decided once.

    Raises `InputError` before anything is written for a network that does not fit or a `path` that
    exists (unless `resume`); for a path or folder of another sweep or one begun by another version
    or device; for one that another process works on; where it cannot be written. In each case what
    was finished is kept.
    """
    work = work or Work()
    if _finished(grid, path, resume):
        remove_leftovers(path)
        return True
    with where:
        with progress_bar(1.0, f"sweep: planning {len(grid.cells)} cells"):
            cells = [fields_of(cell) for cell in grid.cells]
            site = where.call(work.examine, grid.config, cells, grid.memory_gb)
        with open_store(path, resume) as store:
            if _finished(grid, path, resume):  # by a process that owned the folder until now
                store.remove()
                return True
            sizes = [even_size(grid.runs, n) for n in site["largest_tasks"]]
            plan = begin(store, grid.config, site, sizes)
            tasks = grid.tasks(plan["runs_per_task"])
            try:
                for _ in range(ROUNDS):
                    _train_missing(grid, tasks, plan, store, where, work, site)
                    if (pieces := _pieces(tasks, plan, store)) is not None:
                        break
                else:
                    changed = "is changed by another program while the sweep runs"
                    raise InputError("out", str(store.folder), f"{changed}; {RESUMABLE}")
            except OSError as error:  # of a task: the store's own are one line already
                reason = str(error).split("\n")[0]
                text = f"could not finish a task ({reason}); {RESUMABLE}"
                raise InputError("executor", where.name, text) from None
            finally:
                store.remove_if_empty()
            dataset = _assembled(grid, pieces, plan)
            with writing(path):
                save(dataset, path, replace=False)
            kept(lambda: f"{path.name} is whole")
            store.remove()
    return False


def _finished(grid: Grid, path: Path, resume: bool) -> bool:
    """Whether `path` is this sweep. Raises `InputError` if it is something else, or exists and
    `resume` is off."""
    with writing(path):
        if "\0" in str(path) or path.is_dir():
            raise InputError("out", str(path), "must be a file to write")
        if not path.exists():
            if path.is_symlink():
                raise InputError("out", str(path), "is a link to nothing")
            return False
    if not resume:
        refuse_existing(path)
    try:
        config = study_config(load(path))
    except Damaged as error:
        raise InputError("out", str(path), str(error)) from None
    except (OSError, ValueError, KeyError):
        raise InputError("out", str(path), "is not the file of a sweep") from None
    refuse_other_sweep(path, config, grid.config)
    return True


def _train_missing(
    grid: Grid,
    tasks: list[Task],
    plan: Plan,
    store: Store,
    where: Executor,
    work: Work,
    site: Site,
) -> None:
    """Trains the tasks that the store lacks; the bar and the order go by expected times."""
    missing = {task.number: task for task in tasks if stored.kept(store, plan, task) is None}
    costs = {
        task.number: task.runs * site["operations"][task.cell] + site["compilation"]
        for task in tasks
    }
    whole = sum(costs.values())
    order = list(missing)
    if where.longest_first:  # else a last, long one keeps all others waiting
        order.sort(key=lambda number: -costs[number])
    jobs = ((number, _job(grid, missing[number], plan)) for number in order)
    with progress_bar(1.0, "sweep") as bar:
        # Rate and time left are those of this process.
        bar.n = bar.initial = 1.0 - sum(costs[number] for number in missing) / whole
        shares = dict.fromkeys(missing, 0.0)

        def progress(index: int, share: float) -> None:
            shares[index] += share
            bar.update(share * costs[index] / whole)

        for index, trained in where.results(work.train, jobs, progress):
            other = differences(made_by(plan["provenance"]), made_by(trained["provenance"]))
            if other:
                text = f"has workers of different versions or devices ({other})"
                raise InputError("executor", where.name, text)
            keep(store, plan, missing[index], trained["arrays"])
            progress(index, 1 - shares[index])


def _job(grid: Grid, task: Task, plan: Plan) -> Job:
    embedding_lrs, hidden_lrs, seeds = grid.run_list(task)
    setup = grid.cells[task.cell]
    return Job(
        setup=fields_of(setup),
        embedding_lrs=embedding_lrs.tolist(),
        hidden_lrs=hidden_lrs.tolist(),
        seeds=seeds.tolist(),
        horizons=list(grid.horizons),
        memory_gb=plan["memory_gb"][task.cell],
        tokens=plan["tokens"].get(str(setup.vocab_size)),
        train_loss=grid.train_loss,
    )


def _pieces(tasks: list[Task], plan: Plan, store: Store) -> list[Arrays] | None:
    """The arrays of all tasks; None where one that was finished has been lost or damaged since."""
    pieces = []
    for task in tasks:
        arrays = stored.kept(store, plan, task)
        if arrays is None:
            return None
        pieces.append(arrays)
    return pieces


def _assembled(grid: Grid, pieces: list[Arrays], plan: Plan) -> xr.Dataset:
    """The dataset with its provenance, digests of its tokens, and what last bits depend on."""
    attributes = {
        **plan["provenance"],
        "fingerprint": plan["fingerprint"],
        **{name: json.dumps(plan[name]) for name in ("tokens", "runs_per_task", "memory_gb")},
    }
    return assemble(grid, pieces, attributes)
