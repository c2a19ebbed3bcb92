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
from typing import TYPE_CHECKING, Any

import dynsim
from dynsim._files import TEMPORARY_NAME as TEMPORARY_NAME
from dynsim._files import write_file as write_file
from dynsim._netcdf import netcdf_bytes, read_netcdf
from dynsim._netcdf import unreadable as unreadable

if TYPE_CHECKING:
    import xarray as xr

LIBRARIES = (
    *("jax", "jaxlib", "numpy", "scipy", "sympy", "diffrax", "equinox", "optax", "xarray"),
    "tokenizers",
)
SETTINGS = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_DEFAULT_MATMUL_PRECISION")
"""of JAX in the environment, that change the numbers of a compiled program"""
VECTORS = (
    "sse4_2",
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "sve",
)
STORED = Path(__file__).parent / "data"


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
        "processor": processor(),
        "xla_flags": " ".join(sorted(os.environ.get("XLA_FLAGS", "").split())),
        "jax_settings": " ".join(f"{k}={os.environ[k]}" for k in SETTINGS if os.environ.get(k)),
    }


@cache
def processor() -> str:
    """The machine's architecture, and those of its vector instructions that change the order of
    sums in compiled programs."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    found = set(line[1].split()) if line else set()
    return " ".join([platform.machine(), *(name for name in VECTORS if name in found)])


def fingerprint(config: dict[str, Any]) -> str:
    """Digest of a config, the code, the libraries and the device: equal means the same numbers."""
    return hashlib.sha256(json.dumps(provenance(config), sort_keys=True).encode()).hexdigest()


def save(dataset: xr.Dataset, path: Path, *, replace: bool = True) -> None:
    """Writes `dataset` as netCDF in one move: a reader never sees half a file.

    Every array has HDF5's own checksums, and the file ends in the digest of the whole. Without
    `replace`, raises `FileExistsError` if there is a file by now.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, netcdf_bytes(dataset), replace=replace)


def study_config(dataset: xr.Dataset) -> dict[str, Any]:
    """The config that a stored result was made with. Raises `KeyError` or `ValueError` where there
    is none."""
    text = dataset.attrs["config"]
    config = json.loads(text) if isinstance(text, str) else None
    if not isinstance(config, dict):
        raise ValueError("config is no JSON object")
    return config


def load(path: Path) -> xr.Dataset:
    """The dataset at `path`, in memory. Raises `OSError` if there is none or it is damaged."""
    return read_netcdf(path, trusted=path.parent == STORED)
