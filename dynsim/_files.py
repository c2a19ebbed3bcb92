"""Files that are whole or absent, and that say whether they hold what was written.

A sealed file ends in one line with the SHA-256 of what stands before it. Readers of netCDF (HDF5)
and of numpy's archives look for the end of their content themselves and pass over that line.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

TEMPORARY_NAME = re.compile(r"\.(?P<name>.+)\.\d+\.tmp", re.DOTALL)
SEAL = re.compile(rb"\ndynsim sha256 ([0-9a-f]{64})\n\Z")
SEAL_LENGTH = len(b"\ndynsim sha256 \n") + 64


class Damaged(OSError):
    """A file does not hold what was written; the message says so without naming the file."""


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
