"""Interrupts commands at random moments: each ends within a second, with one line and code 130.

`python tests/strike.py [STRIKES]` strikes that often (50) during each of the cheap commands;
`experiments/test_start.py` does so a few times.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

START = 0.05  # seconds until Python itself has started, which has its own way to be interrupted
BOUND = 1.0  # seconds on an idle machine
COMMANDS = {
    "derive": "derive --layer projection",
    "flow": "flow --width 64 --vocab-size 16",
    "predict": "predict --width 64 --vocab-size 16 --steps 5",
    "train": "train --width 64 --vocab-size 16 --steps 20000",
    "lifetime": "lifetime --vocab-size 300",
    "tokens": "tokens zipf:1 --vocab-size 1000000",
    "regimes": "regimes --out figures",
    "verify": "verify --out studies",
    "sweep": "sweep --widths 4 8 --vocab-sizes 4 8 --embedding-lrs 0.1:1:3 --hidden-lrs 0.1:1:3 "
    "--steps 500 --out sweep.nc",
    "help": "--help",
}


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
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    time.sleep(moment)
    struck_at = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - struck_at, err


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


def strike(command: str, moment: float, number: int, bound: float) -> str | None:
    with TemporaryDirectory() as folder:
        found = complaint(*struck(command, moment, number, Path(folder)), bound)
    return found and f"{command}, {signal.Signals(number).name} at {moment:.2f} s: {found}"


if __name__ == "__main__":
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    wrong = []
    for command in COMMANDS:
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 50):
            number = chance.choice((signal.SIGINT, signal.SIGTERM))
            moment = START + chance.uniform(0, 8) ** 2 / 8  # early ones more often
            wrong.append(strike(command, moment, number, BOUND))
    print(*filter(None, wrong), sep="\n")
    print(f"{sum(map(bool, wrong))} of {len(wrong)} strikes went wrong")
