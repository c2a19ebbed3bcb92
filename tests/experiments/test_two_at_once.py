"""Two commands at once on one output, one cache of tokens and one of compiled programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import main
from experiments.results import load

ROOT = Path(__file__).parents[2]
SWEEP = (
    "sweep --network mlp --targets next-token --batch-size 8 --widths 4 8 --vocab-sizes 260 "
    "--embedding-lrs 0.1 --hidden-lrs 0.1:1:2 --seeds 1 --steps 3 --resume --json"
)


def start(folder: Path, line: list[str]) -> subprocess.Popen[str]:
    surroundings = {
        "DYNSIM_CACHE": str(folder / "cache"),
        "DYNSIM_COMPILATION_CACHE": str(folder / "cache/programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "dynsim", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | surroundings,
    )


@pytest.mark.slow
def test_two_sweeps_share_an_output_and_all_caches(tmp_path, quick_compilation):
    """One may be told that the other is at work. The numbers are those of a sweep by itself, which
    finds no cache."""
    (tmp_path / "text").write_text("some words of text, more of them than of others " * 50)
    sweep = [*SWEEP.split(), "--tokens", f"corpus:{tmp_path / 'text'}", "--out"]
    two = [start(tmp_path, [*sweep, "shared.nc"]) for _ in range(2)]
    ends = [(process.communicate(timeout=300), process.returncode) for process in two]
    for (out, err), code in ends:
        assert "Traceback" not in err
        assert code == 0 or (code == 2 and "is in use: another process" in err), err
        assert code == 2 or "best" in json.loads(out)
    assert 0 in [code for _, code in ends]
    assert main([*sweep, str(tmp_path / "alone.nc")]) == 0
    shared, one = load(tmp_path / "shared.nc"), load(tmp_path / "alone.nc")
    assert np.isfinite(one.loss).all()
    np.testing.assert_array_equal(shared.loss, one.loss)
    left = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert not [name for name in left if name.endswith((".tmp", ".npz"))]
    assert any(name.startswith("bpe-") for name in left)
