"""Files that are whole or absent, and that say whether they hold what was written.

A sealed file ends in one line with the SHA-256 of what stands before it. Readers of netCDF (HDF5)
and of numpy's archives look for the end of their content themselves and pass over that line.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import select
import stat
from pathlib import Path

from ._machine import free_bytes

TEMPORARY_NAME = re.compile(r"\.(?P<name>.+)\.\d+\.tmp", re.DOTALL)
SEAL = re.compile(rb"\ndynsim sha256 ([0-9a-f]{64})\n\Z")
SEAL_LENGTH = len(b"\ndynsim sha256 \n") + 64
MEMORY_SHARE = 16  # a file may take this part of what is free: as texts it takes ten times more
PIPE_SECONDS = 20.0  # without a word from the other end
PIECE = 2**20
UNFINISHED: set[Path] = set()  # temporary files that are being written


class Damaged(OSError):
    """A file does not hold what was written; the message says so without naming the file."""


def most_bytes() -> int:
    """The largest content of a file that is read."""
    return free_bytes() // MEMORY_SHARE


def read_file(path: Path, most: int | None = None) -> bytes:
    """The content of a file, or of a pipe that somebody writes to.

    Raises `OSError` for everything else, such as a device, and for more than `most` bytes
    (`most_bytes()`); for a pipe that says nothing for `PIPE_SECONDS`; for a file that is changed
    meanwhile.
    """
    most = most_bytes() if most is None else most
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe may have no end
    try:
        before = os.fstat(descriptor)
        if stat.S_ISFIFO(before.st_mode):
            return _from_pipe(descriptor, most)
        if stat.S_ISDIR(before.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "it is a device, not a file")
        if before.st_size > most:
            raise _too_large(most)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise _too_large(most)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, len(content)):
        raise OSError(errno.EAGAIN, "it was changed while it was read")
    return content


def _from_pipe(descriptor: int, most: int) -> bytes:
    pieces, size = [], 0
    while size <= most:
        if not select.select([descriptor], [], [], PIPE_SECONDS)[0]:
            raise OSError(errno.ETIMEDOUT, f"nothing comes for {PIPE_SECONDS:g} seconds")
        piece = os.read(descriptor, PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
    raise _too_large(most)


def _too_large(most: int) -> OSError:
    return OSError(
        errno.EFBIG, f"it holds more than the {most / 2**30:.2g} GiB that fit the memory"
    )


def sealed(content: bytes | memoryview) -> bytes:
    """The content and its seal."""
    digest = hashlib.sha256(content).hexdigest()
    return b"".join((content, f"\ndynsim sha256 {digest}\n".encode()))


def unsealed(data: bytes) -> bytes | None:
    """What was sealed; None for data without a seal. Raises `Damaged` where the two disagree."""
    found = SEAL.search(data[-SEAL_LENGTH:])
    if found is None:
        return None
    content = data[:-SEAL_LENGTH]
    if hashlib.sha256(content).hexdigest() != found[1].decode():
        raise Damaged("is damaged: it does not hold what was written")
    return content


def has_seal(path: Path) -> bool:
    """Whether the file ends in a seal, right or wrong."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - SEAL_LENGTH))
        return SEAL.search(file.read(SEAL_LENGTH)) is not None


def write_file(path: Path, content: bytes | memoryview, *, replace: bool = True) -> None:
    """Writes a file in one move and flushes it to the disk: it is whole or absent, also after the
    process is killed or a power cut. A killed one leaves `.NAME.PROCESS.tmp`.

    Without `replace`, raises `FileExistsError` if there is a file by now.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # a `TEMPORARY_NAME`
    UNFINISHED.add(temporary)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            _rename(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename2 is None:
            error.filename = str(path)
        raise
    finally:
        UNFINISHED.discard(temporary)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _rename(temporary: Path, path: Path) -> None:
    """Gives the file its name if that is free. Raises `FileExistsError` if not."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(17, "File exists", str(path)) from None
        os.replace(temporary, path)
    else:
        with contextlib.suppress(OSError):
            temporary.unlink()
