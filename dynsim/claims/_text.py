"""Claims as the text of a claim file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ._claim import Claim

DATES = ("registered",)


def claim_text(claims: Claim | Sequence[Claim]) -> str:
    """The claim file that holds these claims; `claim_file` reads the same claims from it.

    **Example:**

    >>> from dynsim import claim
    >>> from dynsim.claims import claim_text
    >>> small = claim(
    ...     "projection-mup-small",
    ...     "At 4 tokens the projection's update grows as the width.",
    ...     "projection_step_rms",
    ...     widths=[16, 32, 64],
    ...     vocab_size=4,
    ...     prediction=1,
    ...     tolerance=0.3,
    ...     rival=0.5,
    ...     optimizer="sign",
    ... )
    >>> print(claim_text(small).splitlines()[1])
    name = "projection-mup-small"
    """
    given = [claims] if isinstance(claims, Claim) else claims
    return "\n".join(_table(one.content) for one in given)


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
