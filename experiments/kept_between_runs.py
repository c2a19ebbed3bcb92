"""Compiled programs and derivations are kept between runs of the command line.

Programs are kept by JAX's own persistent cache, derivations by theirs. Both are set by environment
variables, before JAX and sympy are imported, so that worker processes share them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import warnings
from pathlib import Path

VARIABLE = "DYNSIM_COMPILATION_CACHE"  # a folder, or "off"
OF_DERIVATIONS = "DYNSIM_DERIVATION_CACHE"  # the same
OF_JAX = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
SHORTEST = "0.05"  # seconds that a program took to compile
MOST_BYTES = 2**30
MOST_BYTES_OF_DERIVATIONS = 2**25  # ten thousand of them


def keep_compiled_programs() -> None:
    """Unless JAX is told already where to keep them, or the user or the disk does not let us."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted.lower() == "off" or any(name in os.environ for name in OF_JAX):
        return
    folder = Path(wanted) if wanted else _cache_folder() / "programs" / _machine()
    if not _ready(folder, "-cache", MOST_BYTES):
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", SHORTEST)
    ignore_damaged_programs()


def keep_derivations() -> None:
    """Unless the user or the disk does not let us."""
    wanted = os.environ.get(OF_DERIVATIONS, "")
    if wanted.lower() == "off":
        return
    folder = Path(wanted) if wanted else _cache_folder() / "derivations"
    ready = _ready(folder, ".derivation", MOST_BYTES_OF_DERIVATIONS)
    os.environ[OF_DERIVATIONS] = str(folder) if ready else "off"


def ignore_damaged_programs() -> None:
    """A damaged entry, or one that another process is writing, is compiled again in silence."""
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def _cache_folder() -> Path:
    import platformdirs

    return Path(os.environ.get("DYNSIM_CACHE") or platformdirs.user_cache_dir("dynsim"))


def _machine() -> str:
    """A digest of the processor: a home folder may be that of machines of several kinds."""
    features = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            features += next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        features += platform.processor()
    return hashlib.sha256(features.encode()).hexdigest()[:16]


def _ready(folder: Path, ending: str, most: int) -> bool:
    """Whether files can be written to the folder, which is made, for its owner alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(folder, ending, most)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _make_room(folder: Path, ending: str, most: int) -> None:
    """Removes the oldest of our files where all take more than `most` bytes, to half of it."""
    found = []
    for entry in os.scandir(folder):
        if entry.name.endswith(ending) and entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            found.append((status.st_mtime, status.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    if total <= most:
        return
    for _, size, path in sorted(found):
        os.unlink(path)
        total -= size
        if total <= most // 2:
            break
