"""From arguments to a command, and its help."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

import dynsim
from dynsim import InputError

from .grouping import Grouped, grouped
from .overview import COLUMNS, DESCRIPTION, overview
from .usage_errors import usage_error

FLAGS = (
    *("--json", "--full", "--compare", "--resume", "--train-loss", "--derivation"),
    *("--theory-only", "--list", "--serve", "--help"),
)


class ParseError(ValueError):
    """The command line does not parse; the message is one line."""


def parse(commands: Mapping[str, type], arguments: Sequence[str]) -> Any:
    """The command that `arguments` ask for, with its options.

    Raises `ParseError` or `InputError` with one line for what cannot be parsed, and `SystemExit`
    after --help, --version and where no command is given.
    """
    if not arguments or arguments[0] in ("--help", "-h"):
        print(overview(commands))
        raise SystemExit(0)
    name = arguments[0]
    if name == "--version":
        print(f"dynsim {dynsim.__version__}")
        raise SystemExit(0)
    if not name.startswith("-") and name not in commands:
        error = InputError("command", name, "must be one of " + ", ".join(commands))
        raise ParseError(str(error))
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if equals and option in FLAGS:
            raise InputError(option, value, "takes no value")
    known = {name: commands[name]} if name in commands else dict(commands)
    for command in known.values():
        _describe(command)
    errors, asked = io.StringIO(), {"-h", "--help"} & set(arguments)
    help_text = _Help()
    try:
        with (
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(help_text if asked else sys.stdout),
        ):
            given = tyro.extras.subcommand_cli_from_dict(
                {name: grouped(known[name])} if name in known else known,
                prog="dynsim",
                description=DESCRIPTION,
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes,),
            )
            return given.command(known[name]) if isinstance(given, Grouped) else given
    except SystemExit as stop:
        if stop.code in (0, None):
            print(_wrapped(help_text.getvalue()), end="")
            if asked and name in known:
                from .commands._help_examples import example_text

                print(f"\n{example_text(name)}", end="")
            raise
        message = usage_error(errors.getvalue(), arguments, known.get(name))
        raise ParseError(message) from None


class _Help(io.StringIO):
    """Holds a help text, which is drawn as for stdout: with its colours and frames."""

    def __init__(self):
        super().__init__()
        self.stdout = sys.stdout

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.stdout.encoding

    def isatty(self) -> bool:
        return self.stdout.isatty()


def _wrapped(text: str) -> str:
    """A help text in which the description, too, is not too wide; frames stay as they are."""
    lines = [
        line if FRAME & set(line) else textwrap.fill(line, COLUMNS) for line in text.splitlines()
    ]
    return "".join(f"{line}\n" for line in lines)


FRAME = set("│╭╰")
METAVARS = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


@cache
def _describe(command: type) -> None:
    """Options that may be left out are written as what they take, without "None".

    A default of None or an empty one is not printed, for the text says what it means.
    """
    if not command.__module__.startswith(f"{__package__}."):
        return  # a description of the library's
    for name, hint in get_type_hints(command, include_extras=True).items():
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            _describe(kind)
            continue
        takes = [one for one in get_args(kind) if one is not NoneType]
        metavar = None
        if len(takes) == 1 and NoneType in get_args(kind):
            choices = get_args(takes[0])
            metavar = METAVARS.get(takes[0]) or f"{{{','.join(map(str, choices))}}}"
        mark = tyro.conf.arg(metavar=metavar, help_behavior_hint=_default_in_help)
        command.__annotations__[name] = Annotated[(kind, mark, *marks)]  # its own are stronger


def _default_in_help(default: str) -> str:
    return "" if default in ("", "None", "False") else f"(default: {default})"
