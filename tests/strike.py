"""Interrupts commands at random moments: each ends within a second, with one line and code 130.

`python tests/strike.py [STRIKES] [SEED] [COMMAND ...]` strikes that often (50) during each of the
commands, in about an hour; `experiments/test_start.py` does so a few times. What a command leaves
is whole, no process of it goes on, and it promises what it kept.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from command_lines import surface

BOUND = 1.0  # seconds
AGAIN = 3  # times that a slow ending is tried, for the machine may be busy
SIZES = "--widths 4 8 --vocab-sizes 4 8 --embedding-lrs 0.1:1:3 --hidden-lrs 0.1:1:3 --steps 500"
COMMANDS = {
    "derive": "derive --layer projection",
    "flow": "flow --width 64 --vocab-size 16 --out flow",
    "predict": "predict --width 64 --vocab-size 16 --steps 5",
    "train": "train --width 64 --vocab-size 16 --steps 20000",
    "lifetime": "lifetime --vocab-size 300",
    "tokens": "tokens corpus --vocab-size 3000",
    "regimes": "regimes --out figures",
    "verify": "verify --out studies",
    "sweep": f"sweep {SIZES} --out sweep.nc",
    "sweep with dask": f"sweep {SIZES} --executor dask --out sweep.nc",
    "optima": "optima surface.csv",
    "transfer": "transfer surface.csv --out figures",
    "coordinate-check": "coordinate-check --network mlp --widths 8 16 32 --vocab-sizes 16 "
    "--out figures",
    "exponent": "exponent --widths 32 64 128 --vocab-size 64 --out figures",
    "map": "map --networks 3x3 --x width=16:64:9 --y vocab_size=16:64:9 --out figures",
    "compare": "compare --width 64 --vocab-size 16 --steps 5 --out figures",
    "parametrization": "parametrization mup --out figures",
    "recommend": "recommend --preset gpt2 --base-width 64 --out figures",
    "explore": "explore --out page.html",
    "serve": "explore --serve --port 0",
    "help": "--help",
}
ENDS = {".png": b"IEND\xaeB`\x82", ".pdf": b"%%EOF\n", ".svg": b"</svg>\n", ".html": b"</html>\n"}


def struck(command: str, moment: float, number: int, folder: Path) -> tuple[int, float, str]:
    """Exit code, seconds between the signal and the end, and what stood on stderr."""
    line = [
        sys.executable,
        "-c",
        "import sys; from experiments.start import main; sys.exit(main())",
    ]
    process = subprocess.Popen(
        [*line, *COMMANDS[command].split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    while process.poll() is None and not _listens(process.pid):
        time.sleep(0.001)  # Python itself starts, which has its own way to be interrupted
    time.sleep(moment)
    struck_at = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does, to the processes it started too
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - struck_at, err


def _listens(process: int) -> bool:
    """Whether a process has a handler of SIGTERM, as dynsim's first lines set it."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        time.sleep(0.05)  # another system than Linux
        return True
    caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)  # type: ignore[index]
    return bool(caught >> signal.SIGTERM - 1 & 1)


def complaint(code: int, seconds: float, err: str, bound: float) -> str | None:
    """What is wrong with an ending; a command may have ended before it was struck."""
    lines = [line.strip() for line in err.replace("\r", "\n").split("\n") if line.strip()]
    said = [line for line in lines if "error" in line]
    if code == 0 and not said:
        return None
    if code != 130 or seconds > bound:
        return f"code {code} after {seconds:.2f} s: {err[-300:]}"
    if len(said) != 1 or "dynsim: error: interrupted" not in lines[-1] or "Traceback" in err:
        return f"not one line: {err[-1000:]}"
    return None


def left(folder: Path, err: str) -> str | None:
    """What is wrong with what a command left: a file that is not whole, a process, a promise."""
    from dynsim._files import TEMPORARY_NAME, unsealed

    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in files:
        content = file.read_bytes()
        end = ENDS.get(file.suffix, b"")
        if TEMPORARY_NAME.fullmatch(file.name):
            continue  # half a file under a name that says so; the next run removes it
        if file.suffix in (".nc", ".npz") and unsealed(content) is None:
            return f"{file.name} has no seal"
        if not content.rstrip(b"\n").endswith(end.rstrip(b"\n")):
            return f"{file.name} is not whole"
    promised = re.search(r"finished tasks \((\d+)\) are kept", err)
    kept = sum(file.suffix == ".npz" for file in files)
    if promised and int(promised[1]) != kept:
        return f"promises {promised[1]} tasks and keeps {kept}"
    if (
        not promised
        and "is kept" in err
        and not any(file.suffix in (".npz", ".nc") for file in files)
    ):
        return "promises what was finished and keeps nothing"
    if still := _processes(folder):
        return f"processes go on: {still}"
    return None


def _processes(folder: Path, seconds: float = 2.0) -> list[str]:
    """Command lines of processes that still run in a folder after some seconds."""
    if not Path("/proc/self/cwd").exists():
        return []
    until = time.monotonic() + seconds
    while True:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if Path(os.readlink(place / "cwd")) == folder:
                    found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def strike(command: str, moment: float, number: int, bound: float) -> str | None:
    """What is wrong with how a command ends that is struck at a moment."""
    found: str | None = None
    for _ in range(AGAIN):
        with TemporaryDirectory() as name:
            folder = Path(name).resolve()
            (folder / "surface.csv").write_text(surface())
            code, seconds, err = struck(command, moment, number, folder)
            found = complaint(code, seconds, err, bound) or left(folder, err)
        if not (found and seconds > bound):
            break
    return found and f"{command}, {signal.Signals(number).name} at {moment:.2f} s: {found}"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    strikes = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    wrong = 0
    commands = sys.argv[3:] or list(COMMANDS)
    for command in commands:
        here = 0
        for _ in range(strikes):
            number = chance.choice((signal.SIGINT, signal.SIGTERM))
            moment = chance.uniform(0, 8) ** 2 / 8  # early ones more often
            if found := strike(command, moment, number, BOUND):
                print(found, flush=True)
                here += 1
        print(f"{command}: {here} of {strikes} strikes went wrong", flush=True)
        wrong += here
    print(f"{wrong} of {strikes * len(commands)} strikes went wrong")
    sys.exit(int(wrong > 0))
