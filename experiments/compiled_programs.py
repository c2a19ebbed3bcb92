"""Compiled programs are kept between runs of the command line, by JAX's own persistent cache.

It is set by environment variables, before JAX is imported, so that worker processes share it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import warnings
from pathlib import Path

VARIABLE = "DYNSIM_COMPILATION_CACHE"  # a folder, or "off"
OF_JAX = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
SHORTEST = "0.05"  # seconds that a program took to compile
MOST_BYTES = 2**30


def keep_compiled_programs() -> None:
    """Unless JAX is told already where to keep them, or the user or the disk does not let us."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted.lower() == "off" or any(name in os.environ for name in OF_JAX):
        return
    folder = Path(wanted) if wanted else _cache_folder() / "programs" / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder)
    except OSError:
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", SHORTEST)
    ignore_damaged_programs()


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


def _make_room(folder: Path) -> None:
    """Removes the oldest of our programs where all take more than `MOST_BYTES`, to half of it."""
    found = []
    for entry in os.scandir(folder):
        if entry.name.endswith("-cache") and entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            found.append((status.st_mtime, status.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    if total <= MOST_BYTES:
        return
    for _, size, path in sorted(found):
        os.unlink(path)
        total -= size
        if total <= MOST_BYTES // 2:
            break
