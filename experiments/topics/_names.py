"""The names of all claims, studies and figures, as a file; of a figure its topic and studies too.

A command that is asked for a name answers from it at once. To find the names by importing every
topic takes seconds. `python -m experiments.topics._names` writes the file.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

NAMES = Path(__file__).with_name("names.json")
Kind = Literal["claim", "study", "figure"]


class FigureOf(NamedTuple):
    """The topic whose figure it is, and the stored studies that it is drawn from."""

    topic: str
    studies: tuple[str, ...]


@cache
def _known() -> dict[Kind, Any]:
    return json.loads(NAMES.read_text(encoding="utf-8"))


def known_names(kind: Kind) -> tuple[str, ...]:
    """The names of a kind, in the order of the topics."""
    return tuple(_known()[kind])


@cache
def known_figures() -> dict[str, FigureOf]:
    """Every figure by name."""
    return {
        name: FigureOf(one["topic"], tuple(one["studies"]))
        for name, one in _known()["figure"].items()
    }


def found_names() -> dict[Kind, Any]:
    """What every topic has, as it stands in the file."""
    from ._parts import TOPICS, part
    from ._registry import CLAIMS, STUDIES

    figures = {
        name: {"topic": topic, "studies": list(studies)}
        for topic in TOPICS
        if (module := part(topic, "figures")) is not None
        for name, (_, studies) in module.FIGURES.items()
    }
    return {"claim": list(CLAIMS), "study": list(STUDIES), "figure": figures}


def main() -> None:
    """Writes the file."""
    NAMES.write_text(json.dumps(found_names(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
