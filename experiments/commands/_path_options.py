"""The options of a setup in which every size and rate may be a path.

They are made of the one definition of each option (`dynsim.Setup` and `dynsim.NetworkSetup`): its
meaning and its default stand there.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import tyro

from dynsim.scaling._family import DEFAULT_UPDATES, GROWING_FIELDS, PATH_FIELDS

from ._options import AnyNetwork, check_meaningful, given_options

UPDATES = f"updates T after which the quantity is read (default: {DEFAULT_UPDATES})"
METAVARS = {"tokens": "LAW"}
PATH_NOTE = "a number or a path such as 4*d"


@dataclasses.dataclass(frozen=True)
class _Given:
    def options(self) -> dict[str, Any]:
        """The options as `dynsim.scaling.family` takes them; those left open are left out.

        Raises `InputError` for an option that means nothing for the chosen network.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        known = check_meaningful(given_options(self), values["network"])
        return {name: one for name, one in values.items() if name in known and one is not None}


def _fields() -> list[tuple[str, Any, Any]]:
    """Name, annotated type and default of every option."""
    hints = get_type_hints(AnyNetwork, include_extras=True)
    found = []
    for field in dataclasses.fields(AnyNetwork):
        words = UPDATES if field.name == "steps" else documented(AnyNetwork)[field.name]
        kind, default = hints[field.name], field.default
        if field.name in GROWING_FIELDS:
            if field.name != "steps" and default is not None:
                words = _with_default(words, default)
            kind, default = str | None, None
        elif field.name in PATH_FIELDS:
            kind, default = (str | None, None) if default is None else (str, f"{default:g}")
        mark = tyro.conf.arg(help=words)
        if default is None:  # what it is then stands in its own words
            metavar = "PATH" if field.name in PATH_FIELDS else METAVARS.get(field.name)
            mark = tyro.conf.arg(help=words, metavar=metavar, help_behavior_hint="")
        found.append((field.name, Annotated[kind, mark], default))
    return found


def _with_default(words: str, default: Any) -> str:
    """Words with a default, which stands before its reason where they give one."""
    reason = " (default: "
    if reason in words:
        return words.replace(reason, f"{reason}{default}, ", 1)
    return f"{words}{reason}{default})"


def shown(metavar: str, default: str = "") -> Any:
    """How the help writes the value of an option that may be left out, and what it is then."""
    hint = f"(default: {default})" if default else ""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


def documented(described: type) -> dict[str, str]:
    """The text under each field of a dataclass and of the classes that it inherits from."""
    found: dict[str, str] = {}
    for part in reversed(described.__mro__[:-1]):
        found |= _documented_here(part)
    return found


@cache
def _documented_here(part: type) -> dict[str, str]:
    body = _classes(part.__module__).get(part.__name__)
    found: dict[str, str] = {}
    if body is None:  # a class that was made, whose fields have their words with them
        return found
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(after, ast.Expr):
            continue
        if isinstance(statement.target, ast.Name) and isinstance(after.value, ast.Constant):
            found[statement.target.id] = " ".join(str(after.value.value).split())
    return found


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module as parsed text, which is found sooner than that of one class."""
    text = Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8")
    return {one.name: one for one in ast.parse(text).body if isinstance(one, ast.ClassDef)}


if TYPE_CHECKING:

    class PathOptions(_Given):
        """Every option of every network; sizes and rates are texts."""

else:
    PathOptions = dataclasses.make_dataclass("PathOptions", _fields(), bases=(_Given,), frozen=True)
    PathOptions.__module__ = __name__
    PathOptions.__doc__ = f"Sizes and rates are {PATH_NOTE} (docs/guides/exponents.md#paths)."
