"""Finished cells in a folder: killed at any moment, nothing finished is lost.

While FILE is in the making, `FILE.cells/` holds one file for every finished cell. Each is written
in one move and carries its identity, a text that is equal only where the numbers are, and a digest
of its content. A cell that is damaged or has another identity counts as not finished. One process
at a time owns the folder. Files of others in it are neither changed nor removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dynsim import InputError
from dynsim._errors import shown
from dynsim._files import has_seal, read_file, sealed, unsealed
from dynsim._machine import free_bytes
from experiments.interruption import keeping
from experiments.results import TEMPORARY_NAME, write_file

Arrays = dict[str, NDArray[Any]]

LOCK = "lock"
PLAN = "plan.json"  # of a sweep
CELL_NAME = re.compile(
    r"(\d{6,}|[0-9a-f]{32}|(networks|mean_field)_[0-9a-f]{16}|width-\d+-vocab-size-\d+)\.npz"
)
RESUMABLE = "finished tasks are kept and `resume` goes on with them"
REPEATABLE = "what was finished is kept and the same command goes on after it"
IDENTITY = "identity"
UNREADABLE = (zipfile.BadZipFile, ValueError, EOFError, KeyError, OSError, RuntimeError)


def folder_of(path: Path) -> Path:
    """The folder beside `path` that holds finished cells until all are."""
    return path.with_name(path.name + ".cells")


class Store:
    """The finished cells of the file `path`, owned by this process; made by `open_store`.

    `advice` says what to do after a failure to write.
    """

    def __init__(self, path: Path, advice: str = RESUMABLE):
        self.path, self.folder, self.advice = path, folder_of(path), advice

    def write(self, name: str, identity: str, arrays: Arrays) -> None:
        """Keeps a finished cell's arrays. Raises `InputError` where they cannot be written."""
        content = io.BytesIO()
        identified = {IDENTITY: np.array([identity, *sorted(arrays)]), **arrays}
        np.savez(content, **identified)  # type: ignore[arg-type]
        with writing(self.folder, self.advice):
            write_file(self._file(name), sealed(content.getvalue()))

    def read(self, name: str, identity: str) -> Arrays | None:
        """A finished cell's arrays; None if it is not finished, damaged or another one."""
        if not (file := self._file(name)).exists():  # of most cells, where many are begun
            return None
        try:
            content = unsealed(read_file(file, free_bytes()))
            if content is None:
                return None
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                arrays = dict(stored)
            expected = arrays.pop(IDENTITY).tolist()
            return arrays if [identity, *sorted(arrays)] == expected else None
        except (*UNREADABLE, struct.error):
            return None

    def finished(self) -> int:
        """The number of files of finished cells."""
        return len(list(self.folder.glob("*.npz")))

    def kept(self) -> str:
        """What an interruption leaves to go on with, in words; fields between backticks."""
        count = self.finished()
        return self.advice.replace("finished tasks", f"finished tasks ({count})") if count else ""

    def remove(self) -> None:
        """Removes the folder, but for files that are not the store's."""
        with contextlib.suppress(OSError):
            self.clear()
            (self.folder / LOCK).unlink(missing_ok=True)
            self.folder.rmdir()

    def remove_if_empty(self) -> None:
        """Leaves no trace of work that has finished nothing."""
        if not self.finished():
            self.remove()

    def clear(self) -> None:
        """Removes every file of the store but the lock."""
        for file in self.folder.iterdir():
            if file.name != LOCK and self._is_own(file):
                file.unlink()

    def clean(self) -> None:
        """Removes what killed processes left half written."""
        for file in (*self.folder.iterdir(), *self.path.parent.iterdir()):
            temporary = TEMPORARY_NAME.fullmatch(file.name)
            if temporary and (file.parent == self.folder or temporary["name"] == self.path.name):
                file.unlink()

    def refuse_others(self) -> None:
        """Raises `InputError` where the folder holds a file that this program did not write."""
        for file in self.folder.iterdir():
            if not self._is_own(file):
                holds = f"holds {shown(file.name)}, which dynsim did not write: take another `out`"
                raise InputError("out", str(self.folder), holds)

    def _is_own(self, file: Path) -> bool:
        if file.name in (LOCK, PLAN) or TEMPORARY_NAME.fullmatch(file.name):
            return True
        if file.suffix != ".npz" or not file.is_file():
            return False
        return bool(CELL_NAME.fullmatch(file.name)) or has_seal(file)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


@contextlib.contextmanager
def open_store(path: Path, resume: bool, advice: str = RESUMABLE) -> Iterator[Store]:
    """The folder of the cells that become `path`, owned until the end of the block.

    Raises `InputError` if it exists and `resume` is off, or another process owns it.
    """
    if folder_of(path).is_dir():
        Store(path, advice).refuse_others()  # before anything is written there
    with writing(folder_of(path), advice):
        lock = _lock(folder_of(path), resume)
    with lock:
        store = Store(path, advice)
        store.refuse_others()
        store.clean()
        with keeping(store.kept, store.remove_if_empty):
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
                    "out", str(folder), "is in use: another process computes these cells"
                ) from None
            except BaseException:
                handle.close()
                raise
            handle.close()


def remove_leftovers(path: Path) -> None:
    """Removes the folder of work that was killed between writing its file and this."""
    if folder_of(path).exists():
        with contextlib.suppress(InputError), open_store(path, resume=True) as store:
            store.remove()


def refuse_existing(path: Path) -> None:
    raise InputError("out", str(path), "exists; `resume` goes on with it")


@contextlib.contextmanager
def writing(path: Path, advice: str = RESUMABLE) -> Iterator[None]:
    """Turns a failure to write, such as a full disk, into one line that ends in `advice`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0]
        raise InputError("out", str(path), f"cannot be written ({reason}); {advice}") from None
