"""Start-up: `dynsim --help` must answer in less time than `python -c "import jax"`.

python -m benchmarks.start_up [--json]

Both run in the Python of this environment, in turns; the median of 7 after one warm-up each.
Exit code 1 if the help is the slower of the two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 7


def commands() -> dict[str, list[str]]:
    """What is timed, by name. Raises `SystemExit` if the dynsim command is not installed."""
    dynsim = Path(sys.executable).with_name("dynsim")
    if not dynsim.exists():
        sys.exit("no dynsim command beside this Python: pip install -c constraints.txt -e .")
    return {
        "dynsim --help": [str(dynsim), "--help"],
        'python -c "import jax"': [sys.executable, "-c", "import jax"],
    }


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description="Start-up time of dynsim against import jax.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    arguments = parser.parse_args()
    timed = commands()
    turns = [
        {name: seconds(command) for name, command in timed.items()} for _ in range(REPEATS + 1)
    ]
    medians = {name: statistics.median(turn[name] for turn in turns[1:]) for name in timed}
    if arguments.json:
        print(json.dumps(medians, indent=2))
    else:
        for name, median in medians.items():
            print(f"{name:<24} {median:6.3f} s")
    ours, theirs = medians.values()
    return 0 if ours < theirs else 1


if __name__ == "__main__":
    sys.exit(main())
