"""Optima and exponents of stored sweeps, as analysed and as the command prints them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_refused
from printed import unwrapped
from rate_surfaces import stored, sweep

from dynsim.statistics import surface_optimum
from dynsim.statistics._optimum import FROM_BEST_TO_WORST
from experiments.analysis.optima import read_sweep, surfaces
from experiments.cli import main
from experiments.commands.optima import EXPONENTS_LEGEND, OPTIMA_LEGEND


def optima(capsys, *arguments: str) -> Mapping:
    assert main(["optima", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    return stored(sweep(), tmp_path_factory.mktemp("sweep"))


def test_every_horizon_size_and_rate_is_answered(file, capsys):
    document = optima(capsys, file)
    assert [answer["horizon"] for answer in document["horizons"]] == [10, 40]
    truths = {
        ("embedding", "width"): 0.25,
        ("embedding", "vocab_size"): 0.5,
        ("hidden", "width"): -0.5,
        ("hidden", "vocab_size"): -0.25,
        ("ratio", "width"): 0.75,
        ("ratio", "vocab_size"): 0.75,
    }
    for answer in document["horizons"]:
        assert len(answer["optima"]) == 6
        assert len(answer["exponents"]) == 3 * (2 + 3)
        for fit in answer["exponents"]:
            truth = truths[fit["rate"], fit["size"]]
            assert fit["exponent"] == pytest.approx(truth, abs=0.03), fit
            rule = {"embedding": 0, "hidden": -1, "ratio": 1}[fit["rate"]]
            rule *= fit["size"] == "width"
            assert fit["actual_exponent"] == pytest.approx(fit["exponent"] + rule)
            assert fit["ci"] == pytest.approx([fit["exponent"]] * 2)  # seeds differ by a constant
    early, late = (answer["optima"][0] for answer in document["horizons"])
    assert early["embedding"]["base"] == pytest.approx(0.5, rel=0.02)
    assert early["hidden"]["base"] == pytest.approx(2.0, rel=0.02)
    assert late["hidden"]["base"] == pytest.approx(1.0, rel=0.02)
    wide = document["horizons"][0]["optima"][-1]
    assert (wide["width"], wide["vocab_size"], wide["seeds"]) == (256, 800, 2)
    assert wide["hidden"]["actual"] == pytest.approx(wide["hidden"]["base"] / 4)
    assert wide["ratio"]["actual"] == pytest.approx(wide["ratio"]["base"] * 4)
    assert wide["embedding"]["loss"] == pytest.approx(0.3 + 0.05, abs=5e-3)  # mean of two seeds


@pytest.mark.slow
def test_one_horizon_as_a_table_with_a_figure(file, capsys, tmp_path):
    assert main(["optima", file, "--horizon", "40", "--out", str(tmp_path)]) == 0
    out = unwrapped(capsys.readouterr().out)
    assert "After 40 steps" in out
    assert "After 10 steps" not in out
    assert "embedding/hidden" in out
    assert "m=800" in out
    assert "d=256" in out
    assert [out.count(line) for line in OPTIMA_LEGEND + EXPONENTS_LEGEND] == [1] * 5
    tables, legend = out.split(OPTIMA_LEGEND[0])
    columns = [line for line in tables.split("\n") if line.startswith("of ")]
    for name in ("base", "actual", "drift", "narrower fit", "Theil-Sen", "compatible", "fit"):
        assert any(name in line for line in columns)
        assert f"{name}: " in legend
    for status in FROM_BEST_TO_WORST:
        assert status == "ok" or f"{status}: " in legend
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optima_40.pdf", "optima_40.png"]
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())


@pytest.mark.slow
def test_one_seed_and_one_size_say_so(capsys, tmp_path):
    single = stored(sweep(seeds=1, horizon=[10]), tmp_path)
    assert main(["optima", single]) == 0
    assert "One seed" in capsys.readouterr().out
    fits = optima(capsys, single)["horizons"][0]["exponents"]
    assert all(fit["ci"] == [None, None] for fit in fits)
    point = stored(sweep(horizon=[10], width=[64], vocab_size=[100]), tmp_path)
    assert main(["optima", point, "--out", str(tmp_path / "figures")]) == 0
    out = unwrapped(capsys.readouterr().out)
    assert "no exponents" in out
    assert OPTIMA_LEGEND[0] in out
    assert EXPONENTS_LEGEND[0] not in out
    assert optima(capsys, point)["horizons"][0]["exponents"] == []
    line = stored(sweep(horizon=[10], width=[64]), tmp_path)
    fits = optima(capsys, line)["horizons"][0]["exponents"]
    assert {fit["size"] for fit in fits} == {"vocab_size"}


def test_frozen_rates_alone(capsys, tmp_path):
    """Only the embedding is swept, the hidden layer is frozen: a table and a figure of that."""
    data = sweep(horizon=[10]).isel(hidden_lr=[4]).assign_coords(hidden_lr=[0.0])
    path = stored(data, tmp_path)
    assert main(["optima", path, "--out", str(tmp_path / "figures")]) == 0
    assert "rest frozen" in capsys.readouterr().out
    rates = {fit["rate"] for fit in optima(capsys, path)["horizons"][0]["exponents"]}
    assert rates == {"embedding_alone"}


def test_what_was_not_trained_is_left_out(tmp_path):
    """A cell without losses is no cell, a seed without losses no seed; order does not matter."""
    data = sweep(seeds=3)
    data["loss"].loc[{"width": 128, "vocab_size": 800}] = np.nan
    data["loss"][{"width": 0, "vocab_size": 0, "seed": 1}] = np.nan
    mixed = data.isel(width=[2, 0, 1], embedding_lr=slice(None, None, -1))
    cells = surfaces(read_sweep(Path(stored(mixed, tmp_path))), 10)
    assert (128, 800) not in cells
    assert len(cells) == 5
    assert cells[64, 100].loss.shape == (9, 9, 2)
    assert cells[64, 800].loss.shape == (9, 9, 3)
    assert surface_optimum(cells[64, 100], "embedding").value == pytest.approx(0.5, rel=0.02)


def test_diverged_flags(tmp_path):
    """A flag without horizon is one at the last; with horizon, at that one."""
    data = sweep()
    data["diverged"][{"width": 0, "vocab_size": 0, "embedding_lr": 4}] = True
    read = read_sweep(Path(stored(data, tmp_path)))
    early, late = (surfaces(read, horizon)[64, 100].change[4] for horizon in (10, 40))
    assert np.all(late == 0)
    assert np.any(early < 0)
    data["diverged"] = data.diverged.expand_dims(horizon=data.horizon).copy()
    data["diverged"][{"horizon": 1}] = False
    read = read_sweep(Path(stored(data, tmp_path)))
    early, late = (surfaces(read, horizon)[64, 100].change[4] for horizon in (10, 40))
    assert np.all(early == 0)
    assert np.any(late < 0)


def without(name):
    return lambda data: data.drop_vars(name)


BROKEN = {
    "no loss": (without("loss"), "loss("),
    "no factor": (without("hidden_lr_factor"), "hidden_lr_factor("),
    "no coordinate": (without("hidden_lr"), "coordinate hidden_lr"),
    "words": (lambda data: data.assign_coords(width=list("abc")), "coordinate width"),
    "twice": (lambda data: data.assign_coords(width=[64, 64, 128]), "coordinate width"),
    "no seeds": (lambda data: data.rename(seed="draw"), "loss("),
    "uneven": (lambda data: data.isel(embedding_lr=[0, 1, 3, 4]), "geometric"),
    "two rates": (lambda data: data.isel(embedding_lr=[0, 1], hidden_lr=[0, 1]), "three"),
    "empty": (lambda data: data.assign(loss=data.loss * np.nan), "three"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_other_files_are_bad_input(case, tmp_path, capsys):
    change, fragment = BROKEN[case]
    path = stored(change(sweep()), tmp_path)
    assert_refused("FILE", lambda: read_sweep(Path(path)), fragment)
    assert main(["optima", path]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_missing_files_and_horizons_are_bad_input(file, tmp_path, capsys):
    (tmp_path / "text.nc").write_text("no netCDF")
    for arguments, fragment in (
        ([str(tmp_path / "missing.nc")], "no such file"),
        ([str(tmp_path / "text.nc")], "netCDF"),
        ([file, "--horizon", "11"], "10, 40"),
        ([file, "--out", file], "--out"),
    ):
        assert main(["optima", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert fragment in captured.err
