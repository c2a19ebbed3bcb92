"""NetCDF files that are checked before HDF5 opens them.

A flipped bit can keep HDF5 busy for ever, deaf to Ctrl-C, or change a number unnoticed. So files
are sealed with a digest (`dynsim._files`), and every array has HDF5's own checksums.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._files import Damaged, sealed, unsealed

if TYPE_CHECKING:
    import xarray as xr

PROBE_SECONDS = 20.0  # for a file that is not sealed
PROBE_RATE = 10e6  # and bytes a second


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
        if path.exists() and not path.is_file():
            raise Damaged("is no file")
        data = path.read_bytes()
    except ValueError as error:  # a name that no file can have
        raise FileNotFoundError(errno.ENOENT, str(error)) from None
    if unsealed(data) is None and not trusted:
        _probe(path, PROBE_SECONDS + len(data) / PROBE_RATE)
    try:
        return _opened(path)
    except OSError:
        raise
    except Exception as error:
        raise Damaged(f"is damaged ({_first_line(error)})") from None


_PROBE = """
import sys, h5netcdf
with h5netcdf.File(sys.argv[1], phony_dims="sort") as file:
    dict(file.attrs)
    for variable in file.variables.values():
        dict(variable.attrs), variable.dimensions, variable[...]
"""


def _probe(path: Path, seconds: float) -> None:
    """Reads the file in a process of its own. Raises `Damaged` where that does not end in time; an
    error is left to the reading itself, which names it."""
    try:
        command = [sys.executable, "-c", _PROBE, str(path)]
        subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Damaged(f"is damaged: reading it does not end within {seconds:.0f} seconds") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _opened(path: Path) -> xr.Dataset:
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf", phony_dims="sort") as dataset:
        return dataset.load().drop_encoding()  # how long texts were there would cut longer ones


def unreadable(error: OSError) -> str:
    """Why `load` did not read a file, in words for the user."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Damaged):
        return str(error)
    reason = _first_line(error) if error.filename is None else error.strerror
    return f"cannot be read as a netCDF file ({reason})"
