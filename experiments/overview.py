"""What `dynsim` alone and `dynsim --help` print: the questions and the commands that answer."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping

import dynsim

DESCRIPTION = "Infinite-width training dynamics: learning-rate scaling in width and vocabulary."
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "By what power of the width does an update, a loss or a best rate grow?": (
        "exponent",
        "derive",
        "lifetime",
    ),
    "Is my claim true? Are yours?": ("verify", "regimes"),
    "In which regime are my width, vocabulary, corpus and batch?": ("explore", "map", "tokens"),
    "Which learning rates for a wider model, and is my model parametrized as I believe?": (
        "recommend",
        "parametrization",
        "coordinate-check",
    ),
    "Do the learning rates of my sweep transfer across widths?": ("transfer", "optima", "sweep"),
    "What does one setup do, step by step, by theory and in training?": (
        "predict",
        "flow",
        "train",
        "compare",
    ),
}
COLUMNS = 100


def overview(commands: Mapping[str, type]) -> str:
    """The questions with their commands and what each does."""
    width = max(map(len, commands)) + 2
    lines = [DESCRIPTION, "", "usage: dynsim COMMAND [OPTIONS]     dynsim COMMAND --help", ""]
    for question, names in QUESTIONS.items():
        lines.append(question)
        for name in names:
            text = textwrap.wrap(first_line(commands[name]), COLUMNS - width - 2)
            starts = [name, *[""] * (len(text) - 1)]
            pairs = zip(starts, text, strict=True)
            lines += [f"  {start:<{width}}{part}" for start, part in pairs]
        lines.append("")
    lines += [
        "Every command takes --json, for one JSON document on stdout. Exit codes: 0, 1 a claim",
        "fails, 2 bad input, 70 our mistake, 130 interrupted. This is dynsim "
        f"{dynsim.__version__} (dynsim --version).",
    ]
    return "\n".join(lines)


def first_line(command: type) -> str:
    """The first paragraph of a command's description, on one line."""
    return " ".join(inspect.cleandoc(command.__doc__ or "").partition("\n\n")[0].split())
