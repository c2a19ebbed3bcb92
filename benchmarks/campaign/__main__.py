"""`python -m benchmarks.campaign`: the measurements for one accelerator."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from dynsim._errors import InputError, check_rate, shown
from experiments.cli import complain
from experiments.interruption import INTERRUPTED
from experiments.output import flag, writable_folder
from experiments.parsing import ParseError

SLICE_MINUTES, ALL_MINUTES = 9.0, 25.0
EPILOG = "docs/guides/campaign.md says what is measured, and how to go on after a slice."


@contextlib.contextmanager
def compiled_quickly(miniature: bool) -> Iterator[None]:
    """A miniature is compiled without most optimisations."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", miniature or before)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


class Parser(argparse.ArgumentParser):
    """One whose complaints are left to `main`."""

    def error(self, message: str) -> NoReturn:
        raise ParseError(message)


def parser() -> Parser:
    """The options of the command."""
    found = Parser(
        "python -m benchmarks.campaign",
        description="Measures on one accelerator, in slices that resume.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    found.add_argument("--out", type=Path, required=True, help="folder for what is brought back")
    found.add_argument("--before", type=Path, help="folder with the files of an earlier slice")
    found.add_argument("--work", type=Path, help="folder of finished cells (default OUT.work)")
    found.add_argument(
        "--minutes", type=float, default=SLICE_MINUTES, help="of this slice (default 9)"
    )
    found.add_argument(
        "--all-minutes", type=float, default=ALL_MINUTES, help="of all slices (default 25)"
    )
    found.add_argument("--only", nargs="+", metavar="ITEM", help="these items only")
    found.add_argument("--miniature", action="store_true", help="the same at tiny sizes")
    found.add_argument("--list", action="store_true", help="what would be measured, and how long")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if everything is finished, 3 if something is left, 2 for bad input or a folder
    that cannot be written, 130 if interrupted. What is wrong is one line."""
    try:
        return run(parser().parse_args(arguments))
    except InputError as error:
        return complain(error.written(flag), 2, "campaign")
    except ParseError as error:
        return complain(str(error), 2, "campaign")
    except OSError as error:
        where = "" if error.filename is None else f"{shown(str(error.filename))}: "
        return complain(f"{where}{error.strerror}", 2, "campaign")
    except KeyboardInterrupt:
        return complain("interrupted", INTERRUPTED, "campaign")


def run(options: argparse.Namespace) -> int:
    """Measures as `main` says. Raises `InputError` and `OSError`."""
    check_rate("minutes", options.minutes)
    check_rate("all_minutes", options.all_minutes)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")  # PyTorch has its turn after
    from experiments.precision import enable_x64

    enable_x64()
    from .items import ITEMS
    from .running import REPORT, Campaign, Clock, seconds_of_slices

    def say(line: str) -> None:
        print(line, flush=True)

    full = not options.miniature
    names = [item.name for item in ITEMS]
    for name in set(options.only or ()) - set(names):
        raise InputError("only", name, f"must be one of {', '.join(names)}")
    items = [item for item in ITEMS if not options.only or item.name in options.only]
    if options.list:
        for item in items:
            for cell in item.study.cells(full):
                seconds = item.estimate(cell, item.study.config(full))
                say(f"{item.name:18s} {seconds:5.0f} s  {' '.join(map(str, cell.values()))}")
        return 0
    out = writable_folder("out", options.out)
    work = writable_folder("work", options.work or out.parent / f"{out.name}.work")
    before = seconds_of_slices(options.before or out)
    clock = Clock(60 * options.minutes, 60 * options.all_minutes - before)
    campaign = Campaign(items, full, out, work, options.before, clock, say)
    with compiled_quickly(options.miniature):
        finished = campaign.run()
    report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    for name, lines in report["found"].items():
        say(f"\n{name}: {report['finished'][name]}")
        for line in lines:
            say(f"  {line}")
    return 0 if finished else 3


if __name__ == "__main__":
    sys.exit(main())
