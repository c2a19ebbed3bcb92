"""What commands print names flags, and nothing below the commands writes one."""

from __future__ import annotations

import ast
import io
import json
import math
import os
import re
import shlex
import sys
import time
from pathlib import Path

import pytest

from dynsim._outcome import OK, Outcome, Status
from experiments import interruption, output
from experiments.commands._published_rules import measured_ratio_exponents
from experiments.commands.train import print_answer, print_curves
from experiments.output import (
    again,
    asked,
    flag,
    print_json,
    print_next,
    print_table,
    progress_bar,
)
from experiments.streams import Printed

ROOT = Path(__file__).parents[2]
SURFACE = (
    *("commands", "cli.py", "parsing.py", "output.py", "overview.py", "explorer"),
    "interruption.py",
    "usage_errors.py",
)
FLAG = re.compile(r"(?<![\w-])--[a-z]")
STOPPED = Outcome(Status.STOPPED, "after 3 steps; raise `max_steps`")


def test_outcomes_in_a_document_are_lines_that_name_flags(capsys):
    print_json({"ended": STOPPED, "parts": [OK]})
    document = json.loads(capsys.readouterr().out)
    assert document == {"ended": "stopped: after 3 steps; raise --max-steps", "parts": ["ok"]}


def test_an_output_that_writes_ascii_alone_ends_no_command(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Printed(written, "ascii", "backslashreplace"))
    print_json({"file": "Läufe.csv"})
    print_next("1 ± 0.02", ["tokens", "counts:Läufe"])
    sys.stdout.flush()
    document, _, text = written.getvalue().decode("ascii").partition("\n\n")
    assert json.loads(document) == {"file": "Läufe.csv"}
    assert text.startswith(r"Next, 1 \xb1 0.02: dynsim tokens 'counts:L\xe4ufe'")


def test_a_wide_table_is_several_that_have_the_first_column(capsys):
    names = [f"quantity_{number}" for number in range(20)]
    print_table(["step", *names], [["0", *map(str, range(20))]], ["a note"])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    tables = [one.splitlines() for one in printed.strip().split("\n\n")]
    assert [name for one in tables for name in one[0].split()[1:]] == names
    assert [cell for one in tables for cell in one[2].split()[1:]] == list(map(str, range(20)))
    assert {one[0].split()[0] for one in tables} == {"step"}
    assert printed.count("a note") == 1


def test_the_next_command_has_the_words_of_the_last_and_can_be_copied(capsys):
    asked(["exponent", "--vocab-size", "4*d", "--theory-only"])
    print_next("with networks", again("--out", "a folder", without=["--theory-only"]))
    line = "\nNext, with networks: dynsim exponent --vocab-size '4*d' --out 'a folder'\n"
    assert capsys.readouterr().out == line
    assert again("--vocab-size", 9, "--seed", 1) == [
        *("exponent", "--theory-only", "--vocab-size", "9", "--seed", "1")
    ]
    print_next("more", again(*("--option", "value") * 9))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert shlex.split(" ".join(line.rstrip("\\") for line in lines[2:]))[1:] == [
        *("exponent", "--vocab-size", "4*d", "--theory-only"),
        *("--option", "value") * 9,
    ]


def test_bars_have_human_units(monkeypatch):
    """Of a whole its share, of alike parts their number, of others no time left."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for total, alike, shown in (
        (1.0, True, r"work:  50% .* left"),
        (4, True, r"work: 2 of 4 .* left"),
        (4, False, r"work: 2 of 4 [^,]*$"),
    ):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress_bar(total, "work", alike) as bar:
            bar.update(0.5 if total == 1.0 else 2)
            bar.delay = 0
            bar.refresh()
            assert re.search(shown, terminal.getvalue().rpartition("\r")[2])
        assert not terminal.getvalue().rpartition("\r")[2].strip()


def test_places_in_a_file_are_no_flags():
    assert flag("vocab_size") == "--vocab-size"
    for place in ("runs.csv, column loss, row 3", "FILE", "--seed", "params['a']"):
        assert flag(place) == place


def test_notes_of_a_table_name_flags(capsys):
    print_table(["group"], [["a"]], [STOPPED.message])
    assert capsys.readouterr().out.endswith("    after 3 steps; raise --max-steps\n")


@pytest.mark.parametrize(("terminal", "every"), [(True, "SHOWN_EVERY"), (False, "LOGGED_EVERY")])
def test_a_bar_shows_itself_before_anything_is_finished(monkeypatch, terminal, every):
    """More rarely where stderr is no terminal; at its end nothing of it is left."""

    class Written(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    assert output.SHOWN_EVERY < 1 < output.LOGGED_EVERY
    for shown in (False, True):
        written = Written()
        monkeypatch.setattr(sys, "stderr", written)
        if shown:
            monkeypatch.setattr(output, every, 0.01)
        with progress_bar(1.0, "train"):
            late = time.monotonic() + (10 if shown else 0.1)
            while "train" not in written.getvalue() and time.monotonic() < late:
                time.sleep(0.01)
            assert ("train:   0%" in written.getvalue()) == shown
        assert not written.getvalue().rpartition("\r")[2].strip()


def test_the_line_of_an_interruption_stands_on_its_own(monkeypatch):
    """Below a bar that cannot be cleared, for stderr is no terminal."""
    monkeypatch.setattr(output, "LOGGED_EVERY", 0.01)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(os, "isatty", lambda _: False)
    assert interruption.clear() == ""
    with progress_bar(1.0, "train"):
        late = time.monotonic() + 10
        while not interruption.clear() and time.monotonic() < late:
            time.sleep(0.01)
        assert interruption.clear() == "\n"
        monkeypatch.setattr(os, "isatty", lambda _: True)
        assert interruption.clear() == "\r\x1b[K"
    monkeypatch.setattr(os, "isatty", lambda _: False)
    assert interruption.clear() == ""


@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (40, 40), (41, 12)])
def test_a_table_of_steps_says_what_it_leaves_out(capsys, steps, rows):
    print_curves({"config": {}, "step": list(range(steps)), "loss": [0.5] * steps}, ["loss"])
    _, _, *lines = capsys.readouterr().out.splitlines()
    left_out = [f"{rows} of {steps} steps (all: --json or --out)"] if rows < steps else []
    assert lines[rows:] == left_out
    assert [lines[0].split()[0], lines[rows - 1].split()[0]] == ["0", str(steps - 1)]
    if left_out:  # a cycle of two steps is seen
        assert lines[rows - 2].split()[0] == str(steps - 2)


@pytest.mark.parametrize(
    ("loss", "diverged", "said"),
    [
        ([0.5, 0.25], False, r"goes from 0.5 to 0.25 \(-50 %\) by step 1"),
        ([0.5, 0.0], True, "updates diverge, though the ce loss stays finite: take smaller"),
        ([0.5, math.nan], True, "is not finite after step 0: take smaller"),
    ],
)
def test_what_a_network_came_to_is_said_first(capsys, loss, diverged, said):
    document = {"config": {"loss": "ce"}, "step": [0, 1], "loss": loss, "diverged": diverged}
    print_answer({**document, "projection_update_rms": None})
    assert re.search(said, " ".join(capsys.readouterr().out.split()))


def test_published_rules_stand_beside_what_was_measured():
    """Embedding over projection grows like the width at fixed vocabulary, like its root at 4d."""
    measured = measured_ratio_exponents()
    assert [one["value"] for one in measured] == pytest.approx([1, 0.5], abs=0.05)


def flags_written(source: str) -> list[str]:
    """Texts of a program, but for docstrings and other bare texts, that hold a flag."""
    nodes = list(ast.walk(ast.parse(source)))
    bare = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in bare]
    return [one.value for one in texts if isinstance(one.value, str) and FLAG.search(one.value)]


def test_a_flag_is_found():
    source = '"""Of --out."""\ntext = f"{name} exists; --resume goes on"\nother = "a--b `resume`"'
    assert flags_written(source) == [" exists; --resume goes on"]


@pytest.mark.parametrize("room", ["dynsim", "experiments"])
def test_flags_are_written_by_the_command_line_alone(room):
    for file in sorted((ROOT / room).rglob("*.py")):
        inside = file.relative_to(ROOT / room).parts[0]
        if room == "dynsim" or inside not in SURFACE:
            assert flags_written(file.read_text(encoding="utf-8")) == [], file
