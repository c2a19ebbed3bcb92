"""Optima of tables: known surfaces over one rate and over two, with the power of the width."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from helpers import assert_refused
from transfer_runs import runs

from experiments.analysis.optima_tables import NEARLY, table_answer
from experiments.tables.options import TableOptions


def answer(path, *group_by, **options):
    return table_answer([path], group_by, 3.0, TableOptions(**options))


def test_optima_of_one_rate_and_their_power(tmp_path):
    """eta* ~ width^-1/2 by a rule multiplied in; what is nearly as good is the parabola's."""
    width, rate, seed, loss = runs(seeds=2, rate_amplitude=0.0)
    table = pd.DataFrame({"h": width, "lr": rate / np.sqrt(width), "seed": seed, "loss": loss})
    parts = [
        table.assign(rule=rule, loss=table.loss + shift) for rule, shift in (("a", 0), ("b", 1))
    ]
    pd.concat(parts).to_csv(tmp_path / "a.csv", index=False)
    found = answer(tmp_path / "a.csv", width_column="h", learning_rate_column="lr")
    assert [group["label"] for group in found["groups"]] == ["rule a", "rule b"]
    for group in found["groups"]:
        assert group["exponent"]["value"] == pytest.approx(-0.5)
        assert group["bend"]["value"] == pytest.approx(0, abs=1e-9)
        for one in group["optima"]:
            optimum = np.exp(-5) / np.sqrt(one["width"])
            assert one["optimum"]["value"] == pytest.approx(optimum)
            reach = np.sqrt(2 * NEARLY * one["loss"] / (0.1 * one["width"] ** 0.2))
            assert one["near_optimal"] == pytest.approx(optimum * np.exp([-reach, reach]))


def two_rates(embedding, hidden, **columns) -> pd.DataFrame:
    rows = itertools.product((64, 128, 256), embedding, hidden, (0, 1))
    table = pd.DataFrame(rows, columns=["width", "embedding_lr", "hidden_lr", "seed"])
    best = np.log(0.01), np.log(0.01) - np.log(table.width / 64)
    away = (np.log(table.embedding_lr) - best[0]) ** 2 + (np.log(table.hidden_lr) - best[1]) ** 2
    return table.assign(loss=2 + 0.05 * away + 0.001 * table.seed, **columns)


def test_the_best_ratio_of_two_rates_and_its_power(tmp_path):
    rates = 0.01 * 2.0 ** np.arange(-4, 4)
    table = two_rates(rates, rates / 2, initial_loss=3.5)
    table.to_csv(tmp_path / "a.csv", index=False)
    (group,) = answer(tmp_path / "a.csv")["groups"]
    fits = {row["rate"]: row for row in group["exponents"]}
    assert fits["embedding"]["exponent"] == pytest.approx(0, abs=0.01)
    assert fits["hidden"]["exponent"] == pytest.approx(-1, abs=0.01)
    assert fits["ratio"]["exponent"] == pytest.approx(1, abs=0.01)
    ratios = [row["ratio"]["base"] for row in group["optima"]]
    assert ratios == pytest.approx([1, 2, 4], rel=0.02)


def test_rates_that_are_nearly_geometric_and_those_that_are_not(tmp_path):
    rates = np.array([0.001, 0.003, 0.01, 0.03, 0.1])
    two_rates(rates, rates / 3).to_csv(tmp_path / "a.csv", index=False)
    found = answer(tmp_path / "a.csv")
    assert any("taken as geometric" in note for note in found["notes"])
    assert any("no column initial_loss" in note for note in found["notes"])
    uneven = np.array([0.001, 0.002, 0.01, 0.05, 0.1])
    two_rates(uneven, rates).to_csv(tmp_path / "a.csv", index=False)
    assert_refused("FILE", lambda: answer(tmp_path / "a.csv"), "no grid of both rates", "geometric")
    again = pd.concat([two_rates(rates, rates), two_rates(rates, rates).head(1)])
    again.to_csv(tmp_path / "a.csv", index=False)
    assert_refused("FILE", lambda: answer(tmp_path / "a.csv"), "more than once")
