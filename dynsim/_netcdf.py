"""NetCDF files that are checked before HDF5 opens them.

A flipped bit can keep HDF5 busy for ever, deaf to Ctrl-C, or change a number unnoticed. So files
are sealed with a digest (`dynsim._files`), and every array has HDF5's own checksums. A file is read
once: HDF5 sees the very bytes whose digest was compared.
"""

from __future__ import annotations

import errno
import gc
import io
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._files import Damaged, read_file, sealed, unsealed
from ._machine import free_bytes

if TYPE_CHECKING:
    import xarray as xr

SIGNATURE = b"\x89HDF\r\n\x1a\n"
PROBE_SECONDS = 20.0  # for a file that is not sealed
PROBE_RATE = 10e6  # and bytes a second
FILE_SHARE, ARRAYS_SHARE = 4, 2  # of the free memory: one part in so many


def netcdf_bytes(dataset: xr.Dataset) -> bytes:
    """The content of a sealed netCDF file."""
    checked = {}
    for name, values in _arrays(dataset):
        if values.ndim and values.size and values.dtype.kind in "biufc":
            packed = {"zlib": True, "complevel": 5} if values.dtype.kind == "f" else {}
            checked[name] = {"fletcher32": True, **packed}
    # In memory: on a full disk HDF5 crashes the process.
    return sealed(dataset.to_netcdf(engine="h5netcdf", encoding=checked))


def _arrays(dataset: xr.Dataset) -> Iterator[tuple[Any, xr.DataArray]]:
    return ((name, dataset[name]) for name in (*dataset.data_vars, *dataset.coords))


def read_netcdf(path: Path, *, trusted: bool = False) -> xr.Dataset:
    """The dataset at `path`, in memory. Raises `OSError` if there is none or it is damaged.

    The digest of a sealed file is compared first. One without a seal, of another program, is read
    by a process of its own before, which can be ended, unless it is `trusted`.
    """
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise Damaged("is no file")
        data = read_file(path, free_bytes() // FILE_SHARE)
    except ValueError as error:  # a name that no file can have
        raise FileNotFoundError(errno.ENOENT, str(error)) from None
    if not data.startswith(SIGNATURE):
        raise OSError("it is not in the format of HDF5")
    if unsealed(data) is None and not trusted:
        _probe(data, PROBE_SECONDS + len(data) / PROBE_RATE)
    try:
        return _opened(data)
    except (OSError, MemoryError) as error:
        _close_in_silence(error)
        raise
    except Exception as error:
        _close_in_silence(error)
        raise Damaged(f"is damaged ({_first_line(error)})") from None


def _close_in_silence(error: BaseException) -> None:
    """Lets go of a half opened file, which h5netcdf closes with a traceback on stderr."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        while True:
            traceback.clear_frames(error.__traceback__)
            if (within := error.__cause__ or error.__context__) is None:
                break
            error = within
        gc.collect()
    finally:
        sys.unraisablehook = before


# It ends by itself, should its parent have gone; an interruption ends it though HDF5 is deaf to it.
_PROBE = """
import io, math, signal, sys, h5netcdf
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.alarm(int(sys.argv[1]) + 1)
most = int(sys.argv[2])
with h5netcdf.File(io.BytesIO(sys.stdin.buffer.read()), phony_dims="sort") as file:
    dict(file.attrs)
    for variable in file.variables.values():
        dict(variable.attrs), variable.dimensions
        most -= variable.dtype.itemsize * math.prod(variable.shape)
        if most >= 0:
            variable[...]
"""


def _probe(data: bytes, seconds: float) -> None:
    """Reads a file in a process of its own. Raises `Damaged` where that does not end in time; an
    error is left to the reading itself, which names it."""
    command = [sys.executable, "-c", _PROBE, str(int(seconds)), str(free_bytes() // ARRAYS_SHARE)]
    try:
        subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Damaged(f"is damaged: reading it does not end within {seconds:.0f} seconds") from None


def _first_line(error: BaseException) -> str:
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return (str(text).splitlines() or [type(error).__name__])[0]


def _opened(data: bytes) -> xr.Dataset:
    import xarray as xr

    with xr.open_dataset(io.BytesIO(data), engine="h5netcdf", phony_dims="sort") as dataset:
        if dataset.nbytes > free_bytes() // ARRAYS_SHARE:
            raise Damaged(f"holds {dataset.nbytes / 2**30:.2g} GiB, which do not fit the memory")
        return dataset.load().drop_encoding()  # how long texts were there would cut longer ones


def unreadable(error: OSError) -> str:
    """Why `load` did not read a file, in words for the user."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Damaged):
        return str(error)
    reason = _first_line(error) if error.filename is None else error.strerror
    return f"cannot be read as a netCDF file ({reason})"
