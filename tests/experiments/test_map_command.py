"""`dynsim map`: what it prints, the files it leaves, and one line for bad input."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dynsim import regime_map
from dynsim.scaling.quantities._measurements import TRAINING
from experiments.cli import main
from experiments.results import load

pytestmark = pytest.mark.usefixtures("quick_compilation")

AXES = ("--x", "width=16:1024:4", "--y", "vocab_size=16:4096:3")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main(["map", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_document_is_the_library(run):
    code, out, _ = run(
        *AXES, "--color", "rms", "--tokens", "zipf:1", "--batch-size", "8*d", "--json"
    )
    document = json.loads(out)
    same = regime_map("rms", AXES[1], AXES[3], tokens="zipf:1", batch_size="8*d")
    assert code == 0
    assert document["values"] == pytest.approx(same.values)
    assert document["axes"]["x"]["values"] == same.x.values.tolist()
    assert document["missing"] == {"counts": {}, "cells": np.zeros((3, 4)).tolist()}
    assert {line["name"] for line in document["boundaries"]} == {"first_step", "batch"}
    assert document["networks"] is None
    assert document["config"]["batch_size"] == "8*d"


@pytest.mark.slow
def test_files_of_a_map_with_networks_that_goes_on_after_an_interruption(run, monkeypatch):
    """What was trained before the interruption is not trained again."""
    trained = []

    def counted(setup, seeds, progress):
        trained.append((setup.width, setup.vocab_size))
        if len(trained) == 2:
            raise KeyboardInterrupt
        return original(setup, seeds, progress)

    original = TRAINING.run
    options = (*AXES, "--colour", "rms", "--networks", "2x1", "--seeds", 3, "--out", "maps")
    monkeypatch.setattr("dynsim.scaling._measured.SIDE_BY_SIDE", 1)
    object.__setattr__(TRAINING, "run", counted)
    try:
        code, _, err = run(*options)
        assert code == 130
        assert "what was finished is kept" in err
        code, out, _ = run(*options)
    finally:
        object.__setattr__(TRAINING, "run", original)
    assert code == 0
    assert len(trained) == 3
    assert "networks, 95 % interval" in out
    names = {path.name for path in Path("maps").iterdir()}
    suffixes = ("png", "pdf", "svg", "nc", "csv", "json")
    assert names == {*(f"map.{suffix}" for suffix in suffixes), "map_networks.csv"}
    assert len(pd.read_csv("maps/map.csv")) == 12
    assert len(pd.read_csv("maps/map_networks.csv")) == 2
    dataset = load(Path("maps/map.nc"))
    assert dataset.attrs["result"] == "RegimeMap"
    assert json.loads(dataset.attrs["config"])["networks"] == "2x1"
    assert json.loads(Path("maps/map.json").read_text())["x"] == "width=16:1024:4:log"


def test_the_share_says_of_which_cells_it_is(run):
    code, out, _ = run("--x", "width=16:4096:5", "--y", "vocab_size=16:1e5:5")
    values = regime_map("local_exponent", "width=16:4096:5", "vocab_size=16:1e5:5").values
    inside = np.count_nonzero(values > 0.75)
    assert code == 0
    told = f"Of the 25 cells with a value {inside} ({inside / 25:.0%}) are in the muP regime"
    assert told in " ".join(out.split())
    assert "update T (the first, T = 1, unless steps" in out


def test_cells_without_a_value_are_said(run, tmp_path):
    (tmp_path / "counts").write_text("5\n3\n1\n")
    code, out, _ = run(
        "--y", "vocab_size=1:9:9:lin", "--tokens", "counts:counts", "--plot", "a.svg"
    )
    assert code == 0
    assert "no value in 1188 of 1782 cells: the token law has 3 types and no more" in out
    assert "note: 200 values of --width are rounded to 198 distinct integers" in out
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--x", "width=64:16:9"), "--x"),
        (("--x", "widht=16:64:9"), "did you mean width"),
        (("--x", "width=16:64:1"), "--x"),
        (("--y", "width=16:64:9"), "--y"),
        (("--colour", "hue"), "--colour"),
        (("--x", "projection_lr=0.1:1:9"), "no effect on local_exponent"),
        (("--vocab-size", 7), "--vocab-size"),
        (("--networks", "many"), "--networks"),
        (("--batch-size", "d^-1/2"), "--batch-size"),
        (("--tokens", "counts:missing"), "--tokens"),
        (("--plot", "map.bmp"), "--plot"),
        (("--theory", "mean_field", "--particles", 1), "--particles"),
        (("--particles", 64), "must be left out for a closed-form map"),
        (("--replicas", 2), "must be left out for a closed-form map"),
        (("--seeds", -3), "must be left out for a map without --networks"),
        (("--colour", "restoration", "--theory", "mean_field"), "not solved by mean-field theory"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_exit_code_two(run, arguments, named):
    code, out, err = run(*AXES, *arguments)
    assert code == 2
    assert out == ""
    (line,) = [one for one in err.replace("\r", "\n").split("\n") if one.strip()]
    assert line.startswith("dynsim: error: ")
    assert named in line


@pytest.mark.parametrize(
    "given",
    [
        ("--tokens", "zipf:1", "--batch-size", "256"),
        ("--vocab-size", "4*d^1.2", "--x", "width=16:4096:5", "--y", "zipf=0.2:1:3"),
        ("--optimizer", "sgd", "--tokens", "zipf:0.5"),
        ("--outputs", "4", "--optimizer", "sign"),
    ],
    ids=["tokens and batch", "paths and an axis of exponents", "sgd", "outputs"],
)
def test_the_next_command_derives_the_cell_in_the_middle(run, capsys, given):
    axes = () if "--x" in given else AXES
    code, out, _ = run(*axes, *given, "--out", "maps")
    assert code == 0
    last = out.rstrip("\n").split("\n\n")[-1].replace("\\\n", " ")
    words = shlex.split(last[last.index("dynsim ") :])
    assert main([*words[1:], "--json"]) == 0
    derived = json.loads(capsys.readouterr().out)
    values = load(Path("maps/map.nc"))["local_exponent"].values
    middle = values[values.shape[0] // 2, values.shape[1] // 2]
    found = derived.get("local_exponent_without_self_term", derived["local_exponent"])
    assert found == pytest.approx(middle, rel=2e-3)
