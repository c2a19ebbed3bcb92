"""How results print themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dynsim import Outcome, Setup, Status
from dynsim._summary import described, summary


def test_a_title_and_one_line_for_each_value():
    text = summary("Result", method="direct", seeds=4, rate=0.123456789, absent=None)
    assert text == "Result\n  method: direct\n  seeds: 4\n  rate: 0.123457"


def test_a_long_text_is_wrapped():
    lines = summary("Result", text="some words " * 30).splitlines()
    assert lines[1].startswith("  text: some words")
    assert all(line.startswith("    some") or line.startswith("    words") for line in lines[2:])
    assert max(map(len, lines)) <= 100 < sum(map(len, lines))


def test_arrays_show_shape_and_range():
    values = np.linspace(0, 2, 30).reshape(3, 10)
    values[0, 0] = np.nan
    assert "shape 3x10, from " in summary("R", loss=values)
    assert summary("R", loss=values).endswith("to 2, 1 not finite")
    assert summary("R", loss=np.array([1.0, np.inf])) == "R\n  loss: [1, inf]"
    assert summary("R", on=np.ones(9, bool)) == "R\n  on: shape 9, 9 of 9 true"
    assert summary("R", loss=np.full(9, np.nan)) == "R\n  loss: shape 9, none finite"
    assert summary("R", number=np.array(3.0)) == "R\n  number: 3"


def test_setups_show_what_differs_from_the_defaults():
    assert described(Setup()) == "Setup()"
    assert summary("R", setup=Setup(width=7)) == "R\n  setup: Setup(width=7)"


def test_outcomes_and_lists_show_their_words():
    stopped = Outcome(Status.DIVERGED, "lower `embedding_lr`")
    assert summary("R", status=stopped) == "R\n  status: diverged: lower embedding_lr"
    statuses = np.array([Outcome(), Outcome(), stopped], dtype=object)
    assert "2 x ok, 1 x diverged" in summary("R", status=statuses)
    assert summary("R", steps=[1, 2]) == "R\n  steps: 1, 2"
    assert summary("R", steps=range(3), names=()) == "R\n  steps: range(0, 3)\n  names: none"
    assert summary("R", steps=list(range(20))) == "R\n  steps: 20 entries, 0 ... 19"


def test_a_nested_result_is_indented():
    @dataclass(frozen=True)
    class Inner:
        values: tuple[int, ...] = ()

        def __repr__(self) -> str:
            return summary("Inner", values=self.values)

    assert summary("Outer", inner=Inner((1,))) == "Outer\n  inner: Inner\n    values: 1"
