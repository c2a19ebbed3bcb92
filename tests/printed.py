"""What commands print: compared with an example of help, and read as a person reads it."""

from __future__ import annotations

import re
import shlex

from experiments.cli import COMMANDS
from experiments.commands._help_examples import example, shortened
from experiments.parsing import parse

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")
ROUNDING = 1e-12
RELATIVE = 2e-3  # by which processors and versions of libraries may differ


def words_and_numbers(text: str) -> tuple[str, list[str]]:
    """A text without its numbers and without the widths of its columns, and the numbers."""
    plain = re.sub(r"-{2,}(?=\s|$)", "-", text)
    return re.sub(r"\s+", " ", NUMBER.sub("#", plain)).strip(), NUMBER.findall(plain)


def assert_same_print(printed: str, expected: str) -> None:
    """The same words, and numbers that agree to the digits shown."""
    words, numbers = words_and_numbers(printed)
    expected_words, expected_numbers = words_and_numbers(expected)
    assert words == expected_words
    for number, other in zip(numbers, expected_numbers, strict=True):
        digits = other.partition("e")[0].partition(".")[2]
        power = float(f"1e{other.partition('e')[2] or 0}")
        last_digit = power * 10.0 ** -len(digits) if digits else ROUNDING
        tolerance = max(1.01 * last_digit, RELATIVE * abs(float(other)))
        assert abs(float(number) - float(other)) <= tolerance, (number, other)


def assert_readable(printed: str) -> None:
    """An answer in a sentence, lines that fit, no NaN, and at the end a command that parses."""
    lines = printed.rstrip("\n").split("\n")
    assert max(map(len, lines)) <= 100
    assert not re.search(r"\bnan\b", printed, flags=re.IGNORECASE)
    assert "default: None" not in printed
    answer = " ".join(printed.partition("\n\n")[0].split())
    assert re.search(r"[a-z)\d]\.$", answer), answer
    assert next_command(printed).run


def unwrapped(printed: str) -> str:
    """With the lines of a sentence joined, where the next ones are set in by two blanks."""
    return re.sub(r"\n  (?=\S)", " ", printed)


def next_words(printed: str) -> list[str]:
    """The arguments of the command in the last line."""
    last = printed.rstrip("\n").split("\n\n")[-1]
    assert last.startswith("Next, "), last
    command = last[last.index("dynsim ") :].replace("\\\n", " ")
    return shlex.split(command)[1:]


def next_command(printed: str) -> object:
    """The command of the last line, parsed."""
    return parse(COMMANDS, next_words(printed))


def assert_example(command: str, printed: str) -> None:
    """What a command printed is its example in help."""
    assert_readable(printed)
    assert_same_print("\n".join(shortened(printed)), "\n".join(example(command)["output"]))


def example_line(command: str) -> list[str]:
    """The arguments of an example."""
    return shlex.split(example(command)["command"])[1:]
