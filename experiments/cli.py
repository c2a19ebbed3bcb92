"""The command line: which commands there are, and exit codes.

A command's options and work live in the module of its name in `experiments.commands`, which is
imported when it is asked for. None of them imports jax or sympy before it runs, so that `dynsim
--help` answers at once.
"""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":  # the same as python -m dynsim, whose first steps come before imports
    runpy.run_module("dynsim", run_name="__main__")

import atexit
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from dynsim import InputError
from dynsim._errors import shown

from .interruption import INTERRUPTED, forget, interrupted_line
from .kept_between_runs import keep_compiled_programs, keep_derivations
from .output import asked, flag, remove_empty_folders, unwritten
from .parsing import ParseError, parse
from .streams import OutputLost, only_safe_characters, own_streams, printable

LONGEST = 1000  # characters of an error
MORE_OBJECTS = 20_000  # by which memory grows before they are searched for cycles


class _Commands(Mapping[str, type]):
    """The classes of commands by name, each imported when it is asked for."""

    def __init__(self, classes: Mapping[str, str]):
        self.classes = classes

    def __getitem__(self, name: str) -> type:
        found = self.classes[name]
        return getattr(import_module(f".commands.{name.replace('-', '_')}", __package__), found)

    def __iter__(self) -> Iterator[str]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)


COMMANDS = _Commands(
    {
        "derive": "Derive",
        "exponent": "Exponent",
        "tokens": "Tokens",
        "train": "Train",
        "sweep": "Sweep",
        "optima": "Optima",
        "coordinate-check": "CoordinateCheck",
        "predict": "Predict",
        "flow": "Flow",
        "compare": "Compare",
        "lifetime": "Lifetime",
        "map": "Map",
        "verify": "Verify",
        "parametrization": "Parametrize",
        "recommend": "Recommend",
        "explore": "Explore",
        "transfer": "TransferCommand",
        "regimes": "Regimes",
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code, see `experiments.ending`.

    Without `arguments`, those of this process, whose interruptions are left to
    `experiments.ending`.
    """
    own_process = arguments is None
    forget()
    unwritten()
    if own_process:
        _prepare_process()
    try:
        try:
            words = sys.argv[1:] if arguments is None else list(arguments)
            command = parse(COMMANDS, words)
            asked(words)
            if own_process:
                only_safe_characters()
            code = command.run()
            failure = unwritten()
            return code if failure is None else complain(failure, 2)
        finally:
            asked([])
            remove_empty_folders()
            if own_process:
                sys.stdout.flush()
    except (InputError, ParseError) as error:
        return complain(error.written(flag) if isinstance(error, InputError) else str(error), 2)
    except KeyboardInterrupt:
        if own_process:
            raise
        return complain(interrupted_line(), INTERRUPTED)
    except MemoryError:
        return complain("not enough memory for this size; take a smaller one", 2)
    except OutputLost as error:
        return complain(f"the output cannot be written ({error.strerror})", 2)
    except OSError as error:
        if error.errno is None:
            raise
        where = "" if error.filename is None else f"{shown(str(error.filename))}: "
        return complain(f"{where}{error.strerror}", 2)
    except RuntimeError as error:
        if not any(text in str(error) for text in OUT_OF_MEMORY):
            raise
        return complain("not enough memory on the device for this size; take a smaller one", 2)


# What XLA says of devices, of processors, and of a system that gives no more.
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc",
                 "Cannot allocate memory", "can't start new thread")  # fmt: skip


def _prepare_process() -> None:
    """Settings of a process of our own.

    Compiled programs and derivations are kept for the next one.
    Figures are only written to files, while notebooks set a backend of theirs for every command.
    Python would search all objects for cycles once more at its end, which takes a second, and many
    times while libraries are imported.
    """
    atexit.register(gc.freeze)
    gc.set_threshold(MORE_OBJECTS)
    os.environ["MPLBACKEND"] = "agg"
    keep_compiled_programs()
    keep_derivations()
    own_streams()


def complain(message: str, code: int, program: str = "dynsim") -> int:
    """Says what is wrong in one line, and returns the exit code."""
    text = printable(message)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 300]} ... {text[-290:]}"
    print(f"{program}: error: {text}", file=sys.stderr)
    return code
