"""The folder of a sweep's finished tasks: the store of its cells, and the plan it began with.

`FILE.cells/` holds `plan.json` (config, what makes the numbers, size of tasks) beside one file for
every finished task, such as `000012.npz`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from dynsim import InputError
from dynsim._files import Damaged, read_file, sealed, unsealed
from experiments.cells.store import PLAN as PLAN
from experiments.cells.store import Arrays, Store, writing
from experiments.results import write_file

from .plan import Task, differences
from .work import Site


class Plan(TypedDict):
    """What is decided when a sweep begins. Last bits depend on the sizes of tasks and on how many
    networks train side by side, which `memory_gb` of each cell sets."""

    config: dict[str, Any]
    fingerprint: str
    provenance: dict[str, str]
    tokens: dict[str, str]
    runs_per_task: list[int]
    memory_gb: list[float]


def begin(store: Store, config: dict[str, Any], site: Site, runs_per_task: Sequence[int]) -> Plan:
    """The plan of when the sweep began, else one of what is given here.

    Raises `InputError` where the folder belongs to another sweep, or to one that was begun with
    another version, device or content of the file of tokens.
    """
    plan = _read(store)
    if plan is None:
        store.clear()  # what a folder without a plan holds: its removal was interrupted
        plan = Plan(
            config=config,
            fingerprint=site["fingerprint"],
            provenance=site["provenance"],
            tokens=site["tokens"],
            runs_per_task=list(runs_per_task),
            memory_gb=site["memory_gb"],
        )
        with writing(store.folder):
            write_file(store.folder / PLAN, sealed(json.dumps(plan, indent=1).encode()))
    refuse_other_sweep(store.path, plan["config"], config)
    if plan["fingerprint"] != site["fingerprint"]:
        made = differences(made_by(plan["provenance"]), made_by(site["provenance"]))
        raise InputError(
            "out",
            str(store.path),
            f"was begun with another version or device ({made}): numbers would not be "
            "comparable; finished tasks are kept, so go on with that one or take another `out`",
        )
    if plan["tokens"] != site["tokens"]:
        raise InputError(
            "tokens",
            config["tokens"] or "corpus",
            "holds other tokens than when the sweep began; finished tasks are kept, so go on "
            "with those or take another `out`",
        )
    return plan


def _read(store: Store) -> Plan | None:
    """The plan of the folder, if it has one. Its seal says that nobody has changed it."""
    try:
        content = unsealed(read_file(store.folder / PLAN))
    except FileNotFoundError:
        return None
    except Damaged:
        content = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError("out", str(store.folder), f"plan.json cannot be read: {reason}") from error
    if content is None:
        damaged = "holds a damaged plan.json: remove the folder to begin anew"
        raise InputError("out", str(store.folder), damaged)
    return json.loads(content)


def keep(store: Store, plan: Plan, task: Task, arrays: Arrays) -> None:
    """Keeps a finished task."""
    store.write(_name(task), _identity(plan, task), arrays)


def kept(store: Store, plan: Plan, task: Task) -> Arrays | None:
    """A finished task's variables; None if it is not finished (or its file was damaged)."""
    arrays = store.read(_name(task), _identity(plan, task))
    whole = arrays and all(len(values) == task.runs for values in arrays.values())
    return arrays if whole else None


def _name(task: Task) -> str:
    return f"{task.number:06d}"


def _identity(plan: Plan, task: Task) -> str:
    return f"{plan['fingerprint']} cell {task.cell} runs {task.start} to {task.stop}"


def refuse_other_sweep(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raises `InputError` that names what two configs differ in, if they do."""
    if difference := differences(there, here):
        raise InputError("out", str(path), f"belongs to another sweep: {difference}")


def made_by(provenance: dict[str, str]) -> dict[str, Any]:
    """What made the numbers: provenance without the config, library by library."""
    libraries = json.loads(provenance["libraries"])
    others = {k: v for k, v in provenance.items() if k not in ("config", "libraries")}
    return others | libraries
