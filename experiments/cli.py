"""The command line: which commands there are, and exit codes.

A command's options and work live in the module of its name in `experiments.commands`. None of them
imports jax or sympy before it runs, so that `dynsim --help` answers at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from dynsim import InputError

from .commands.coordinate_check import CoordinateCheck
from .commands.derive import Derive
from .commands.flow import Flow
from .commands.lifetime import Lifetime
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
from .output import flag

FLAGS = ("--json", "--full", "--compare", "--resume", "--train-loss", "--help")
COMMANDS: dict[str, type] = {
    "derive": Derive,
    "tokens": Tokens,
    "train": Train,
    "sweep": Sweep,
    "optima": Optima,
    "coordinate-check": CoordinateCheck,
    "predict": Predict,
    "flow": Flow,
    "lifetime": Lifetime,
    "verify": Verify,
    "parametrization": Parametrize,
    "recommend": Recommend,
    "transfer": TransferCommand,
    "regimes": Regimes,
}


def parse(arguments: Sequence[str]) -> Any:
    """The command that `arguments` ask for.

    Raises `InputError` with one line for what cannot be parsed, and `SystemExit` after --help.
    """
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        error = InputError("command", arguments[0], "must be one of " + ", ".join(COMMANDS))
        raise ParseError(str(error))
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if equals and flag in FLAGS:
            raise InputError(flag, value, "takes no value")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="dynsim",
                description="Infinite-width training dynamics: learning-rate scaling in width and "
                "vocabulary.",
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ParseError(_one_line(errors.getvalue())) from None


class ParseError(ValueError):
    """The command line does not parse; the message is one line."""


def _one_line(box: str) -> str:
    """The message of a parser's boxed report, without frame, help text and line breaks."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    message: list[str] = []
    for line in lines[1:]:
        if not set(line) <= {"─", "-"}:
            message.append(line)
        elif message:
            break
    text = re.sub(r"\s+", " ", " ".join(message)).strip()
    text = text.replace("invalid literal for int() with base 10:", "must be an integer, not")
    # Options that may be left out report every type they might have had.
    untyped = r"no type matching \S+ could be instantiated from \[(.*?)\].*"
    return re.sub(untyped, r"must be an integer, not \1", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code (0, 1 a claim fails, 2 bad input, 130 interrupted)."""
    own_process = arguments is None
    try:
        return parse(sys.argv[1:] if arguments is None else arguments).run()
    except (InputError, ParseError) as error:
        return _complain(error.written(flag) if isinstance(error, InputError) else str(error), 2)
    except KeyboardInterrupt as interruption:
        _complain(f"interrupted; {str(interruption) or 'what was finished is kept'}", 130)
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


def _complain(message: str, code: int) -> int:
    print(f"dynsim: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
