"""The names of all claims, studies and figures, as a file.

A command that is asked for a name which does not exist answers from it at once. To find the names
by importing every topic takes seconds. `python -m experiments.topics._names` writes the file.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Literal

NAMES = Path(__file__).with_name("names.json")
Kind = Literal["claim", "study", "figure"]


@cache
def known_names(kind: Kind) -> tuple[str, ...]:
    """The names of a kind, in the order of the topics."""
    return tuple(json.loads(NAMES.read_text(encoding="utf-8"))[kind])


def found_names() -> dict[Kind, list[str]]:
    """What every topic has."""
    from ._figures import FIGURES
    from ._registry import CLAIMS, STUDIES

    return {"claim": list(CLAIMS), "study": list(STUDIES), "figure": list(FIGURES)}


def main() -> None:
    """Writes the file."""
    NAMES.write_text(json.dumps(found_names(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
