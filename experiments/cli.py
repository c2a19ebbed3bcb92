"""The command line: which commands there are, and exit codes.

A command's options and work live in the module of its name in `experiments.commands`. None of them
imports jax or sympy before it runs, so that `dynsim --help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from collections.abc import Sequence

from dynsim import InputError

from .commands.compare import Compare
from .commands.coordinate_check import CoordinateCheck
from .commands.derive import Derive
from .commands.explore import Explore
from .commands.exponent import Exponent
from .commands.flow import Flow
from .commands.lifetime import Lifetime
from .commands.map import Map
from .commands.optima import Optima
from .commands.parametrization import Parametrize
from .commands.predict import Predict
from .commands.recommend import Recommend
from .commands.regimes import Regimes
from .commands.sweep import Sweep
from .commands.tokens import Tokens
from .commands.train import Train
from .commands.transfer import TransferCommand
from .commands.verify import Verify
from .compiled_programs import keep_compiled_programs
from .output import flag, named
from .parsing import ParseError, parse

COMMANDS: dict[str, type] = {
    "derive": Derive,
    "exponent": Exponent,
    "tokens": Tokens,
    "train": Train,
    "sweep": Sweep,
    "optima": Optima,
    "coordinate-check": CoordinateCheck,
    "predict": Predict,
    "flow": Flow,
    "compare": Compare,
    "lifetime": Lifetime,
    "map": Map,
    "verify": Verify,
    "parametrization": Parametrize,
    "recommend": Recommend,
    "explore": Explore,
    "transfer": TransferCommand,
    "regimes": Regimes,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code (0, 1 a claim fails, 2 bad input, 130 interrupted)."""
    own_process = arguments is None
    if own_process:
        _prepare_process()
    try:
        return parse(COMMANDS, sys.argv[1:] if arguments is None else arguments).run()
    except (InputError, ParseError) as error:
        return _complain(error.written(flag) if isinstance(error, InputError) else str(error), 2)
    except KeyboardInterrupt as interruption:
        kept = named(str(interruption), flag) or "what was finished is kept"
        _complain(f"interrupted; {kept}", 130)
        if own_process:
            os._exit(130)  # leaving an interrupted compilation in order can end in a crash
        return 130
    except MemoryError:
        return _complain("not enough memory for this size; take a smaller one", 2)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _complain("not enough memory on the device for this size; take a smaller one", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _prepare_process() -> None:
    """Settings of a process of our own.

    Compiled programs are kept for the next one.
    Figures are only written to files, while notebooks set a backend of theirs for every command.
    Names of files may hold bytes that are no UTF-8; they are printed escaped.
    Python would search all objects for cycles once more at its end, which takes a second.
    """
    atexit.register(gc.freeze)
    os.environ["MPLBACKEND"] = "agg"
    keep_compiled_programs()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _complain(message: str, code: int) -> int:
    print(f"dynsim: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
