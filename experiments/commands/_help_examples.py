"""The example of each command's help: a command line and what it printed.

They stand in `experiments/data/help_examples.json`, which `python -m experiments.renew_examples`
writes.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from experiments.output import LINE_WIDTH, command_lines

EXAMPLES = Path(__file__).parents[1] / "data" / "help_examples.json"
FIRST_LINES, FEWEST_LINES = 16, 8  # of an output that is shortened
LEFT_OUT = "[...]"


def example(command: str) -> dict[str, Any]:
    """The command line and the lines of its output that are shown."""
    return json.loads(EXAMPLES.read_text("utf-8"))[command]


def example_text(command: str) -> str:
    """The example as help shows it."""
    found = example(command)
    line = command_lines(shlex.split(found["command"])[1:], LINE_WIDTH - 2)
    shown = [f"$ {line[0]}", *(f"  {one}" for one in line[1:])]
    return "\n".join(["Example:", "", *shown, "", *found["output"], ""])


def shortened(output: str) -> list[str]:
    """Lines of an output; of a long one the first, to the end of a paragraph, and what is next."""
    lines = output.rstrip("\n").split("\n")
    following = max(place for place, line in enumerate(lines) if line.startswith("Next, "))
    if following <= FIRST_LINES:
        return lines
    ends = [place for place in range(FEWEST_LINES, FIRST_LINES) if not lines[place]]
    return [*lines[: max(ends, default=FIRST_LINES)], LEFT_OUT, "", *lines[following:]]
