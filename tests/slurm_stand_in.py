"""`sbatch` and `srun` for one machine, as far as the example of a sweep on SLURM uses them.

`install(folder)` writes both commands there. `sbatch --wait [OPTIONS] SCRIPT ARGUMENTS` runs a copy
of the script, as SLURM does, with the variables of a job; what it prints goes to `slurm-JOB.out` in
the folder of submission, and its exit code is that of the script. `srun COMMAND` runs the command
in as many processes as the job has tasks and ends all of them when it is ended.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

JOB = "17"
DIRECTIVE = re.compile(r"#SBATCH\s+--([a-z-]+)=(\S+)")


def install(folder: Path) -> None:
    """Writes the two commands, and those of this Python, to a folder."""
    for name in ("sbatch", "srun"):
        command = f'exec "{sys.executable}" "{__file__}" {name} "$@"'
        (folder / name).write_text(f"#!/bin/sh\n{command}\n")
    (folder / "dynsim").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dynsim "$@"\n')
    (folder / "dask").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dask "$@"\n')
    for file in folder.iterdir():
        file.chmod(0o755)


def sbatch(arguments: list[str]) -> int:
    """Runs a batch script to its end."""
    given = []
    while arguments and arguments[0].startswith("--"):
        given.append(arguments.pop(0))
    if "--wait" not in given:
        raise SystemExit("the stand-in for sbatch knows --wait only")
    script = Path(arguments.pop(0))
    options = dict(DIRECTIVE.findall(script.read_text()))
    options |= dict(re.findall(r"--([a-z-]+)=(\S+)", " ".join(given)))
    print(f"Submitted batch job {JOB}", flush=True)
    with tempfile.TemporaryDirectory() as spool, open(f"slurm-{JOB}.out", "ab") as output:
        copy = shutil.copy(script, Path(spool) / "slurm_script")
        variables = {
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NAME": options["job-name"],
            "SLURM_NTASKS": options["ntasks"],
            "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
            "SLURM_SUBMIT_DIR": os.getcwd(),
        }
        return subprocess.run(
            [copy, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | variables,
            check=False,
        ).returncode


def srun(command: list[str]) -> int:
    """Runs a command in every task; the largest of their exit codes."""
    count = int(os.environ["SLURM_NTASKS"])
    print(f"srun: {count} tasks", file=sys.stderr, flush=True)
    tasks = [
        subprocess.Popen(command, env=os.environ | {"SLURM_PROCID": str(number)})
        for number in range(count)
    ]

    def end(number: int, frame: object) -> None:
        for task in tasks:
            task.send_signal(number)

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, end)
    return max(task.wait() for task in tasks)


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    sys.exit({"sbatch": sbatch, "srun": srun}[name](rest))
