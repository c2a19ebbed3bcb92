"""Runs the examples of the commands' help again, and stores what they print.

`python -m experiments.renew_examples` runs all of them, in the order of the file and in one folder;
with names of commands, those alone.
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

from .cli import main
from .commands._help_examples import EXAMPLES, shortened


def printed(line: str) -> str:
    """What a command line prints in the present folder."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        code = main(shlex.split(line)[1:])
    if code:
        raise RuntimeError(f"{line}: exit code {code}")
    return text.getvalue()


def renew(names: Sequence[str] = ()) -> None:
    """Runs the examples and stores what they print."""
    stored = json.loads(EXAMPLES.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        here = Path.cwd()
        os.chdir(folder)
        try:
            for name, one in stored.items():
                if not names or name in names:
                    one["output"] = shortened(printed(one["command"]))
        finally:
            os.chdir(here)
    text = json.dumps(stored, indent=1, ensure_ascii=False)
    EXAMPLES.write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    renew(sys.argv[1:])
