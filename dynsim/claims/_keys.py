"""The keys of a claim and what may stand there."""

from __future__ import annotations

import dataclasses
import datetime
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dynsim._errors import InputError
from dynsim._network_setup import NetworkSetup
from dynsim._setup import Setup
from dynsim.scaling._family import PATH_FIELDS

REQUIRED = ("name", "statement", "quantity", "tolerance")
KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "text": ((str,), "a text"),
    "number": ((int, float), "a number"),
    "integer": ((int,), "an integer"),
    "switch": ((bool,), "true or false"),
    "date": ((datetime.date,), "a date such as 2026-11-26"),
    "table": ((Mapping,), "a table"),
    "list": ((list, tuple), "a list of integers"),
    "formula": ((int, float, str), "a number or a formula"),
    "path": ((int, float, str), "a number or a path"),
    "paths": ((int, float, str, list), "a number, a path, or a list of them"),
}
OWN: Mapping[str, str] = {
    "name": "text",
    "statement": "text",
    "quantity": "text",
    "form": "text",
    "against": "text",
    "prediction": "formula",
    "tolerance": "number",
    "expected": "text",
    "source": "text",
    "registered": "date",
    "seeds": "integer",
    "rival": "formula",
    "changed": "text",
    "full": "table",
    "widths": "list",
    "vocab_sizes": "list",
    "batch_sizes": "list",
    "output_counts": "list",
    "step_counts": "list",
}


def option_kinds() -> dict[str, str]:
    """What may stand at each option of a setup."""
    found = {}
    for setup in (Setup, NetworkSetup):
        hints = get_type_hints(setup)
        for one in dataclasses.fields(setup):
            found[one.name] = "paths" if one.name in PATH_FIELDS else _kind(hints[one.name])
    return found


def _kind(hint: Any) -> str:
    if get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal or hint is str:
        return "text"
    return {bool: "switch", int: "integer"}.get(hint, "number")


def check_keys(table: Mapping[str, Any], allowed: Mapping[str, str] | None = None) -> None:
    """Raises `InputError` for the first key that is unknown, or whose value is of another type."""
    kinds = {**OWN, **option_kinds()} if allowed is None else allowed
    for key, value in table.items():
        if key not in kinds:
            near = get_close_matches(key, kinds, n=1, cutoff=0.5)
            hint = f"the nearest is {near[0]}" if near else f"keys are {', '.join(kinds)}"
            raise InputError(key, value, f"is no key of a claim; {hint}")
        accepted, words = KINDS[kinds[key]]
        switch = isinstance(value, bool) and bool not in accepted
        time = isinstance(value, datetime.datetime)
        if not isinstance(value, accepted) or switch or time:
            raise InputError(key, value, f"must be {words}")
        if kinds[key] == "paths" and isinstance(value, list):
            for one in value:
                check_keys({key: one}, {key: "path"})
            if not value:
                raise InputError(key, value, f"must be {words}")
