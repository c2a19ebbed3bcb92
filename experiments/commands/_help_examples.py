"""The example of each command's help: a command line and what it printed.

They stand in `experiments/data/help_examples.json`. `python -m experiments.commands._help_examples`
runs all of them again, in this order and in one folder, and writes what they print; with names of
commands, those alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "data" / "help_examples.json"
FIRST_LINES, FEWEST_LINES = 16, 8  # of an output that is shortened
LEFT_OUT = "[...]"


def example(command: str) -> dict[str, Any]:
    """The command line and the lines of its output that are shown."""
    return json.loads(EXAMPLES.read_text("utf-8"))[command]


def example_text(command: str) -> str:
    """The example as help shows it."""
    found = example(command)
    return "\n".join(["Example:", "", f"$ {found['command']}", *found["output"], ""])


def shortened(output: str) -> list[str]:
    """Lines of an output; of a long one the first, to the end of a paragraph, and what is next."""
    lines = output.rstrip("\n").split("\n")
    following = max(place for place, line in enumerate(lines) if line.startswith("Next, "))
    if following <= FIRST_LINES:
        return lines
    ends = [place for place in range(FEWEST_LINES, FIRST_LINES) if not lines[place]]
    return [*lines[: max(ends, default=FIRST_LINES)], LEFT_OUT, "", *lines[following:]]


def run(line: str) -> str:
    """What a command line prints in the present folder."""
    from experiments.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        code = main(shlex.split(line)[1:])
    if code:
        raise RuntimeError(f"{line}: exit code {code}")
    return printed.getvalue()


def renew(names: Sequence[str] = ()) -> None:
    """Runs the examples and stores what they print."""
    stored = json.loads(EXAMPLES.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        here = Path.cwd()
        os.chdir(folder)
        try:
            for name, one in stored.items():
                if not names or name in names:
                    one["output"] = shortened(run(one["command"]))
        finally:
            os.chdir(here)
    text = json.dumps(stored, indent=1, ensure_ascii=False)
    EXAMPLES.write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    renew(sys.argv[1:])
