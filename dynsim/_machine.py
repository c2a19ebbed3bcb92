"""What memory this process may still take. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

CONTAINERS = (  # where Linux says what a container may take, and takes
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def free_bytes() -> int:
    """Bytes of the machine's memory that are free to this process."""
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(ImportError):  # no Unix
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            free = min(free, most - psutil.Process().memory_info().vms)
    for folder, limit, used in CONTAINERS:
        with contextlib.suppress(OSError, ValueError):
            bytes_of = [int((Path(folder) / name).read_text()) for name in (limit, used)]
            pages = re.search(
                r"^(?:total_)?inactive_file (\d+)",
                (Path(folder) / "memory.stat").read_text(),
                re.MULTILINE,
            )
            kept = int(pages[1]) if pages else 0  # of files: given back when it is needed
            free = min(free, bytes_of[0] - bytes_of[1] + kept)
    return max(free, 0)
