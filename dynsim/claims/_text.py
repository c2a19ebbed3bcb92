"""Claims as the text of a claim file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from dynsim.scaling._exponent import DEFAULT_TOLERANCE
from dynsim.scaling._family import plural
from dynsim.scaling._result import ScalingExponent

from ._claim import ASYMPTOTIC, SYMBOLS, Claim, claim

DATES = ("registered",)


def claim_text(claims: Claim | Sequence[Claim]) -> str:
    """The claim file that holds these claims; `claim_file` reads the same claims from it."""
    given = [claims] if isinstance(claims, Claim) else claims
    return "\n".join(_table(one.content) for one in given)


def claim_of(result: ScalingExponent, name: str = "my-exponent") -> Claim | None:
    """The claim that asks again what `dynsim.exponent` was asked.

    Its prediction is that of the result, or else the derived power; None where there is neither.
    """
    if result.band is None and result.asymptotic is None:
        return None
    stated = {key: value for key, value in result.family.described().items() if value is not None}
    options = {key: _plain(value) for key, value in stated.items()}
    band = result.band
    power = result.asymptotic.exponent if band is None else band.predicted
    along, sizes = result.family.along, result.family.sizes
    others = ", ".join(f"{k} = {v}" for k, v in options.items() if k != plural(along))
    return claim(
        name=name,
        statement=f"At {along} {sizes[0]} to {sizes[-1]} with {others}, {result.quantity.name} "
        f"grows like {SYMBOLS[along]}^({power}).",
        quantity=result.quantity.name,
        prediction=ASYMPTOTIC if band is None else band.predicted,
        tolerance=DEFAULT_TOLERANCE if band is None else band.tolerance,
        seeds=max(2, len(result.seeds)),
        changed="Written by dynsim exponent, after its measurement.",
        **options,
    )


def _plain(value: Any) -> Any:
    """A path that is a number as a number."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return value


def _table(content: Mapping[str, Any]) -> str:
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    lines = ["[[claim]]", *_lines({k: v for k, v in content.items() if k not in tables})]
    for name, table in tables.items():
        lines += ["", f"[claim.{name}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} = {value if key in DATES else _value(value)}"
        for key, value in table.items()
        if value is not None
    ]


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, datetime.date):
        return value.isoformat()
    return repr(value)
