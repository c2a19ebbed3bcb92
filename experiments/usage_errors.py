"""What is wrong with a command line, in the one form of all errors: option, value, what is allowed.

The parser, tyro, reports it as a boxed text of several lines in wordings of its own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tyro

from dynsim._errors import shown

ALIKE = 0.65  # of difflib's ratio, from which on a name is worth telling
NO_NUMBER, NO_INTEGER = "must be a number", "must be an integer"
NOT_CONVERTED = {
    "could not convert string to float": NO_NUMBER,
    "invalid literal for int() with base 10": NO_INTEGER,
}
"""what Python says of a text that is no number; of an option that takes both, the wider stands
first"""


def usage_error(box: str, arguments: Sequence[str], command: type | None) -> str:
    """One line for the parser's boxed report on `arguments`, the first of which names `command`
    (None: it names none)."""
    message = _unboxed(box)
    if command is not None and message.startswith("Unrecognized "):
        return _unknown(message, arguments[0], command)
    if command is not None and message.startswith("Missing from "):
        return _missing(message, arguments, command)
    if found := re.match(r"Missing value for argument '(\S+)'\. Expected (\S+)", message):
        many = "one" if found[2] == "1" else f"{found[2]} values"
        option = found[1].strip("(),'")  # older versions of tyro write a tuple of names
        return f"{option} without a value: must be followed by {many}"
    chosen = r"invalid choice (.*) for argument '(\S+)'\. Expected one of (.*)"
    if found := re.match(chosen, message):
        choices = [one for one in re.findall(r"'(.*?)'", found[3]) if one != "None"]
        return f"{found[2]} {found[1]}: must be one of {', '.join(choices)}"
    if found := re.match(r"Error parsing (\S+): (.*)", message):
        return _not_converted(found[1], found[2], arguments)
    return message


def _unboxed(box: str) -> str:
    """The message of a boxed report, without frame, help text and line breaks."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    message: list[str] = []
    for line in lines[1:]:
        if line and set(line) <= {"─", "-"}:  # a rule, also of a terminal that has ASCII alone
            if message:
                break
        else:
            message.append(line)
    return re.sub(r"\s+", " ", " ".join(message)).strip()


def _not_converted(option: str, reason: str, arguments: Sequence[str]) -> str:
    """Of a value of another type. Options that may be left out report every type they take."""
    for text, allowed in NOT_CONVERTED.items():
        if found := re.search(rf"{re.escape(text)}: (['\"].*)", reason):
            return f"{option} {_as_given(found[1], arguments)}: {allowed}"
    value = next((f" {shown(one)}" for one in _values(option, arguments)), "")
    return f"{option}{value}: {reason}"


def _as_given(written: str, arguments: Sequence[str]) -> str:
    """A value as it was given: frames break long ones, and Python writes their beginning only."""
    for argument in arguments:
        for value in (argument, argument.partition("=")[2]):
            if _joined(repr(value)).startswith(_joined(written)):
                return shown(value)
    return written


def _joined(text: str) -> str:
    return re.sub(r"\s", "", text)


def _values(option: str, arguments: Sequence[str]) -> Iterator[str]:
    """The values that follow an option, or stand behind its equals sign."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name == option:
            yield value if equals else following


def _unknown(message: str, name: str, command: type) -> str:
    """What is wrong with the first argument that a command does not know, and the nearest that it
    does. Options of other commands are reported with the command that they were given to."""
    _, _, listed = message.partition(": ")
    given = re.split(r" \(applied to [^)]*\) ?|, ", listed)
    option = next((one for one in given if one.startswith("-")), None)
    if option is None:
        return f"{name} takes no argument {given[0]}: see dynsim {name} --help"
    return _no_option(option.partition("=")[0], name, command)


def _no_option(option: str, name: str, command: type) -> str:
    flags = [*option_flags(command), "--help"]
    near = get_close_matches(option, flags, n=1, cutoff=ALIKE)
    near += [one for one in flags if one.startswith(f"--{option.strip('-')}")]  # -w
    hint = f"the nearest is {near[0]}" if near else f"see dynsim {name} --help"
    return f"{option} is no option of {name}: {hint}"


def _missing(message: str, arguments: Sequence[str], command: type) -> str:
    """Which options a command cannot do without. An option that it does not have goes before: it
    may be the missing one, misspelt."""
    written = [one.partition("=")[0] for one in arguments[1:] if one.startswith("--")]
    given = [one.replace("_", "-") for one in written]
    flags = _flags(command)
    for option, flag in zip(written, given, strict=True):
        if flag not in (*flags, "--help", "--"):
            return _no_option(option, arguments[0], command)
    needed = {
        flag: choices
        for flag, (choices, required) in flags.items()
        if required and flag not in given
    }
    if not needed:  # what has no flag, and stands alone
        needed = {message.partition(": ")[2].split(" ")[0]: ()}
    (choices, *_) = needed.values()
    allowed = f"must be one of {', '.join(choices)}" if len(needed) == 1 and choices else ""
    verb = "is" if len(needed) == 1 else "are"
    return f"{', '.join(needed)} {verb} missing: {allowed or f'see dynsim {arguments[0]} --help'}"


def option_flags(command: type) -> Iterator[str]:
    """The options of a command as they are written."""
    yield from _flags(command)


def _flags(command: type) -> dict[str, tuple[tuple[str, ...], bool]]:
    """The options of a command as they are written: the choices of each, and whether it is
    required."""
    (positional,) = get_args(tyro.conf.Positional[int])[1:]
    hints = get_type_hints(command, include_extras=True)
    found: dict[str, tuple[tuple[str, ...], bool]] = {}
    for field in dataclasses.fields(command):
        kind, *marks = get_args(hints[field.name]) or (hints[field.name],)
        if get_origin(hints[field.name]) is Literal:
            kind, marks = hints[field.name], []
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found |= _flags(kind)
        elif positional not in marks:
            defaults: tuple[Any, ...] = (field.default, field.default_factory)
            required = all(one is dataclasses.MISSING for one in defaults)
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            found["--" + field.name.replace("_", "-")] = tuple(map(str, choices)), required
    return found
