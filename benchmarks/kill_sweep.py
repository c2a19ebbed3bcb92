"""Kills the real `dynsim sweep` with SIGKILL at random moments, resumes it, compares the files.

python -m benchmarks.kill_sweep [--kills 20] [--executor dask] [--seed 0]

Exit code 0 if every resumed sweep ends in the numbers of the uninterrupted one, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

from experiments.cells.store import folder_of
from experiments.results import load

ROOT = Path(__file__).parent.parent
GRID = (
    "--network linear --widths 4 6 --vocab-sizes 5 7 9 --embedding-lrs 0.01:1:3 "
    "--hidden-lrs 0.01:100:3 --seeds 2 --steps 20 --horizons 5 20 --train-loss --optimizer sgd"
)

SHARE = 0.4  # of an uninterrupted sweep's life, which killed ones live at most


def start(path: Path, executor: str) -> subprocess.Popen[bytes]:
    """The real command in a process of its own."""
    command = f"-m experiments.cli sweep {GRID} --executor {executor} --resume --json"
    return subprocess.Popen(
        [sys.executable, *command.split(), "--out", str(path)],
        cwd=ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},  # compiles sooner
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(path: Path, executor: str) -> float:
    """Runs the command to its end; returns the seconds it took."""
    begun = time.monotonic()
    process = start(path, executor)
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(err.decode())
    json.loads(out)
    return time.monotonic() - begun


def stage(path: Path) -> str:
    """How far a sweep has come."""
    if path.exists():
        return "file written"
    if not folder_of(path).exists():
        return "nothing written"
    names = [file.name for file in folder_of(path).iterdir()]
    finished = sum(name.endswith(".npz") for name in names)
    torn = any(name.endswith(".tmp") for name in names)
    return f"{finished} tasks finished" + (", one half written" if torn else "")


def identical(left: xr.Dataset, right: xr.Dataset) -> bool:
    """Variables, coordinates and attributes are equal, bit for bit."""
    bits = all(
        np.asarray(left[name]).tobytes() == np.asarray(right[name]).tobytes()
        for name in left.variables
    )
    return bits and left.identical(right)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill sweeps, resume them, compare.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="dynsim-kill-") as folder:
        whole = Path(folder) / "uninterrupted.nc"
        life = finish(whole, "local")
        print(f"uninterrupted, in one process: {life:.1f} s")
        sweeps, kills = [Path(folder) / "sweep-1.nc"], 0
        while kills < arguments.kills:
            process = start(sweeps[-1], arguments.executor)
            delay = chance.uniform(0, SHARE * life)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if process.returncode == -signal.SIGKILL:
                kills += 1
                print(f"kill {kills} after {delay:.2f} s: {sweeps[-1].stem}, {stage(sweeps[-1])}")
            elif process.returncode == 0:
                sweeps.append(Path(folder) / f"sweep-{len(sweeps) + 1}.nc")
            else:
                raise RuntimeError(f"exit code {process.returncode}")
        finish(sweeps[-1], arguments.executor)
        expected = load(whole)
        same = [identical(load(path), expected) for path in sweeps]
        left = {file.name for file in Path(folder).iterdir()} - {p.name for p in (whole, *sweeps)}
    print(f"{kills} kills of {len(sweeps)} sweeps; identical to the uninterrupted one: {same}")
    print(f"left over: {sorted(left) or 'nothing'}")
    verdict = all(same) and not left
    print("verdict: " + ("nothing lost, nothing changed" if verdict else "FAILED"))
    return int(not verdict)


if __name__ == "__main__":
    sys.exit(main())
