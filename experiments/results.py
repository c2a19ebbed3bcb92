"""Stored results: labelled arrays with the provenance that makes them reproducible."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import xarray as xr

import dynsim

LIBRARIES = (
    *("jax", "jaxlib", "numpy", "scipy", "sympy", "diffrax", "equinox", "optax", "xarray"),
    "tokenizers",
)
STORED = Path(__file__).parent / "data"
TEMPORARY_NAME = re.compile(r"\.(?P<name>.+)\.\d+\.tmp", re.DOTALL)


@cache
def code_version() -> str:
    """Package version and a digest of the source files that measured numbers depend on."""
    root = Path(__file__).parent.parent
    patterns = (
        *(f"{room}/**/*.py" for room in ("derivations", "dynsim")),
        *(f"experiments/{room}/**/*.py" for room in ("cells", "sweeps")),
        "experiments/analysis/coordinates.py",
        *(f"experiments/topics/_{name}.py" for name in ("seeds", "study")),
        "experiments/topics/*/study.py",
    )
    files = {file for pattern in patterns for file in root.glob(pattern)}
    files -= set(root.glob("dynsim/plots/*.py"))  # they show numbers
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    # Of the checkout, which may run without being installed.
    return f"{dynsim.__version__}+{digest.hexdigest()[:12]}"


def provenance(config: dict[str, Any]) -> dict[str, str]:
    """Attributes of a result: config, code version, library versions, device ("gpu: H100", four of
    them "gpu: H100 (4)")."""
    import jax

    first, count = jax.devices()[0], jax.device_count()

    return {
        "config": json.dumps(config, sort_keys=True),
        "code_version": code_version(),
        "libraries": json.dumps({name: metadata.version(name) for name in LIBRARIES}),
        "python": platform.python_version(),
        "device": f"{first.platform}: {first.device_kind}" + (f" ({count})" if count > 1 else ""),
    }


def fingerprint(config: dict[str, Any]) -> str:
    """Digest of a config, the code, the libraries and the device: equal means the same numbers."""
    return hashlib.sha256(json.dumps(provenance(config), sort_keys=True).encode()).hexdigest()


def save(dataset: xr.Dataset, path: Path) -> None:
    """Writes `dataset` as netCDF in one move: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = {
        name: {"zlib": True, "complevel": 5}
        for name, values in dataset.data_vars.items()
        if values.dtype.kind == "f"
    }
    # In memory first: on a full disk HDF5 crashes the process.
    write_file(path, dataset.to_netcdf(engine="h5netcdf", encoding=packed))


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Writes a file in one move and flushes it to the disk: it is whole or absent, also after the
    process is killed or a power cut. A killed one leaves `.NAME.PROCESS.tmp`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # a `TEMPORARY_NAME`
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def study_config(dataset: xr.Dataset) -> dict[str, Any]:
    """The config that a stored result was made with."""
    return json.loads(dataset.attrs["config"])


def load(path: Path) -> xr.Dataset:
    """The dataset at `path`, in memory. Raises `OSError` if there is none or it is damaged."""
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        return dataset.load().drop_encoding()  # how long texts were there would cut longer ones
