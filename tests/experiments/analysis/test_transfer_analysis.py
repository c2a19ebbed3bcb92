"""Groups of runs: their labels, and what the command prints of each."""

from __future__ import annotations

import json

import numpy as np
import pytest
from transfer_runs import cases, stored

from experiments.analysis.transfer import telling_columns
from experiments.cli import main


def test_labels_are_the_fewest_columns_that_tell_groups_apart():
    def telling(*rows):
        return telling_columns([dict(zip("abc", row, strict=True)) for row in rows])

    assert telling((1, 2, 3)) == ()
    assert telling((1, 2, 3), (1, 3, 4)) == ("b",)
    assert telling((1, 1, 7), (1, 2, 8), (2, 1, 9)) == ("c",)
    assert telling((1, 1, 7), (1, 2, 7), (2, 1, 7), (2, 2, 8)) == ("a", "b")
    assert telling((1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1)) == ("a", "b", "c")
    assert telling((1, np.nan, 7), (2, np.nan, 7), (3, float("nan"), 7)) == ("a",)


def test_both_errors_are_printed_with_their_own_noise(tmp_path, capsys):
    path = tmp_path / "sweep.nc"
    stored(tmp_path, cases(rule=("case", ["mup", "sp"])))
    assert main(["transfer", str(path), "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [one["group"] for one in groups] == [
        {"case": "a", "rule": "mup"},
        {"case": "b", "rule": "sp"},
    ]
    assert main(["transfer", str(path)]) == 0
    metrics, costs = capsys.readouterr().out.split("\nLoss lost by")
    assert "\ncase b " in costs
    lines = metrics.split("\n")
    head = next(line for line in lines if line.startswith("group "))
    assert [name.strip() for name in head.split("  ") if name][:5] == [
        *("group", "E", "its noise", "held out", "its noise")
    ]
    for group, name in zip(groups, "ab", strict=True):
        row = next(line for line in lines[lines.index(head) :] if line.startswith(f"case {name} "))
        shown = [float(cell) for cell in row.split()[2:6]]
        errors = [group["E"][key] for key in ("value", "noise", "held_out", "held_out_noise")]
        assert shown == pytest.approx(errors, rel=1e-3)
        assert len(set(shown)) == 4
    assert main(["transfer", str(path), "--group-by", "rule", "case"]) == 0
    assert "rule mup, case a " in capsys.readouterr().out
