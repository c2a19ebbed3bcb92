"""The example of a sweep on SLURM, with a stand-in for SLURM: the numbers of one process."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import slurm_stand_in

from experiments.cli import main
from experiments.results import load

ROOT = Path(__file__).parents[2]
SWEEP = "--widths 4 6 --vocab-sizes 4 --embedding-lrs 0.1:1:2 --hidden-lrs 0.1 --seeds 2 --steps 3"

pytest.importorskip("distributed", reason="needs dask: pip install 'dynsim[cluster]'")
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.mark.slow
def test_a_sweep_runs_on_the_tasks_of_a_job(tmp_path, quick_compilation):
    commands, here = tmp_path / "bin", tmp_path / "work"
    commands.mkdir()
    here.mkdir()
    slurm_stand_in.install(commands)
    surroundings = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    line = ["sbatch", "--wait", "--ntasks=2", str(ROOT / "examples/slurm/sweep.sh")]
    done = subprocess.run(
        [*line, *SWEEP.split(), "--out", "sweep.nc"],
        cwd=here,
        env=os.environ | surroundings,
        timeout=600,
        check=False,
    )
    printed = (here / "slurm-17.out").read_text()
    assert done.returncode == 0, printed
    assert "srun: 2 tasks" in printed
    assert "Traceback" not in printed
    assert "warning: whoever reaches" not in printed  # certificates keep others out
    assert sorted(os.listdir(here)) == ["slurm-17.out", "sweep.nc"]
    assert main(["sweep", *SWEEP.split(), "--out", str(tmp_path / "one.nc")]) == 0
    whole, one = load(here / "sweep.nc"), load(tmp_path / "one.nc")
    np.testing.assert_array_equal(whole.loss, one.loss)
