"""A sweep's finished tasks in a folder: killed at any moment, nothing finished is lost.

`FILE.cells/` holds `plan.json` (config, what makes the numbers, size of tasks) and one file for
every finished task, such as `000012.npz`, each written in one move. One process at a time owns the
folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import numpy as np

from dynsim import InputError
from experiments.results import TEMPORARY_NAME, write_file

from .plan import RESUMABLE, differences
from .work import Arrays, Site

LOCK, PLAN = "lock", "plan.json"


def folder_of(path: Path) -> Path:
    """The folder beside `path` that holds finished tasks until all are."""
    return path.with_name(path.name + ".cells")


class Plan(TypedDict):
    """What is decided when a sweep begins. Last bits depend on the sizes of tasks and on how many
    networks train side by side, which `memory_gb` of each cell sets."""

    config: dict[str, Any]
    fingerprint: str
    provenance: dict[str, str]
    tokens: dict[str, str]
    runs_per_task: list[int]
    memory_gb: list[float]


class Store:
    """The folder of one sweep, owned by this process; made by `open_store`."""

    def __init__(self, path: Path):
        self.path, self.folder = path, folder_of(path)

    def begin(self, config: dict[str, Any], site: Site, runs_per_task: Sequence[int]) -> Plan:
        """The plan of when the sweep began, else one of what is given here.

        Raises `InputError` where the folder belongs to another sweep, or to one that was begun
        with another version, device or content of the file of tokens.
        """
        plan = self._plan()
        if plan is None:
            self._clear()
            plan = Plan(
                config=config,
                fingerprint=site["fingerprint"],
                provenance=site["provenance"],
                tokens=site["tokens"],
                runs_per_task=list(runs_per_task),
                memory_gb=site["memory_gb"],
            )
            with writing(self.folder):
                write_file(self.folder / PLAN, json.dumps(plan, indent=1).encode())
        refuse_other_sweep(self.path, plan["config"], config)
        if plan["fingerprint"] != site["fingerprint"]:
            made = differences(made_by(plan["provenance"]), made_by(site["provenance"]))
            raise InputError(
                "out",
                str(self.path),
                f"was begun with another version or device ({made}): numbers would not be "
                "comparable; finished tasks are kept, so go on with that one or take another --out",
            )
        if plan["tokens"] != site["tokens"]:
            raise InputError(
                "tokens",
                config["tokens"] or "corpus",
                "holds other tokens than when the sweep began; finished tasks are kept, so go on "
                "with those or take another --out",
            )
        return plan

    def write(self, index: int, arrays: Arrays) -> None:
        """Keeps a finished task."""
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        with writing(self.folder):
            write_file(self._file(index), content.getvalue())

    def read(self, index: int, runs: int) -> Arrays | None:
        """A finished task's variables; None if it is not finished (or its file was damaged)."""
        try:
            content = io.BytesIO(self._file(index).read_bytes())
            with np.load(content, allow_pickle=False) as stored:
                arrays = dict(stored)
        except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError, KeyError):
            return None
        return arrays if arrays and all(len(a) == runs for a in arrays.values()) else None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Leaves no trace of a sweep that has finished nothing."""
        if not any(self.folder.glob("*.npz")):
            self.remove()

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"

    def _plan(self) -> Plan | None:
        try:
            return json.loads((self.folder / PLAN).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            raise InputError("out", str(self.folder), "holds a damaged plan.json") from None

    def _clear(self) -> None:
        """Removes what a folder without a plan holds: its removal was interrupted."""
        for file in self.folder.iterdir():
            if file.name != LOCK:
                file.unlink()

    def clean(self) -> None:
        """Removes what killed processes left half written."""
        for file in (*self.folder.iterdir(), *self.path.parent.iterdir()):
            temporary = TEMPORARY_NAME.fullmatch(file.name)
            if temporary and (file.parent == self.folder or temporary["name"] == self.path.name):
                file.unlink()


@contextlib.contextmanager
def open_store(path: Path, resume: bool) -> Iterator[Store]:
    """The folder of the sweep that becomes `path`, owned until the end of the block.

    Raises `InputError` if it exists and `resume` is off, or another process owns it.
    """
    with writing(folder_of(path)):
        lock = _lock(folder_of(path), resume)
    with lock:
        store = Store(path)
        store.clean()
        yield store


def _lock(folder: Path, resume: bool) -> BinaryIO:
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=resume)
        except FileExistsError:
            refuse_existing(folder)
        with contextlib.suppress(FileNotFoundError):  # its owner has just finished and removed it
            handle = (folder / LOCK).open("ab")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(handle.fileno()), os.stat(folder / LOCK)):
                    return handle
            except BlockingIOError:
                handle.close()
                raise InputError(
                    "out", str(folder), "is in use: another process computes this sweep"
                ) from None
            except BaseException:
                handle.close()
                raise
            handle.close()


def kept_of_interrupted(path: Path) -> str:
    """What is there of the sweep that was to become `path`, in words."""
    if path.exists():
        return "what was finished is kept"
    tasks = len(list(folder_of(path).glob("*.npz")))
    if not tasks:
        return "nothing was finished yet"
    return f"finished tasks ({tasks}) are kept and --resume goes on with them"


def refuse_existing(path: Path) -> None:
    raise InputError("out", str(path), "exists; --resume goes on with it")


def refuse_other_sweep(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raises `InputError` that names what two configs differ in, if they do."""
    if difference := differences(there, here):
        raise InputError("out", str(path), f"belongs to another sweep: {difference}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failure to write, such as a full disk, into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0]
        raise InputError("out", str(path), f"cannot be written ({reason}); {RESUMABLE}") from None


def made_by(provenance: dict[str, str]) -> dict[str, Any]:
    """What made the numbers: provenance without the config, library by library."""
    libraries = json.loads(provenance["libraries"])
    others = {k: v for k, v in provenance.items() if k not in ("config", "libraries")}
    return others | libraries
