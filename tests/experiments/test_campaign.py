"""The campaign for one accelerator, in miniature: what it keeps, leaves out and goes on from."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.results import load
from experiments.topics._study import Study, grid

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.campaign.__main__ import main  # noqa: E402
from benchmarks.campaign.items import ITEMS, Item  # noqa: E402
from benchmarks.campaign.running import Campaign, Clock  # noqa: E402

sys.path.remove(str(ROOT))

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = [item.name for item in ITEMS]


@pytest.mark.slow
def test_the_campaign_in_miniature(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    assert main(["--out", str(out), "--miniature"]) == 0
    files = sorted(out.iterdir())
    assert len(files) <= 8
    assert sum(file.stat().st_size for file in files) < 2**24
    report = json.loads((out / "campaign.json").read_text())
    assert list(report["found"]) == NAMES
    assert all(report["found"].values())
    assert report["provenance"]["device"].startswith("cpu")
    assert "torch" in report["provenance"]
    agreement = load(out / "device_agreement.nc")
    assert float(agreement.gap.max()) == 0  # the CPU with itself, in another process
    assert "0.0e+00" in capsys.readouterr().out


class Counted:
    """A study of cells that take no time, which counts how often each is measured."""

    def __init__(self, failing: int = -1):
        self.calls: list[int] = []
        self.failing = failing

    def measure(self, place: int, seed: int = 0):
        self.calls.append(place)
        if place == self.failing:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")
        return {"square": ((), float(place**2))}

    def item(self, seconds: float = 1.0, budget: float = 100.0) -> Item:
        study = Study(
            "counted",
            cells=lambda full: grid(place=(0, 1, 2)),
            measure=self.measure,
            config=lambda full: {},
        )
        return Item(study, lambda cell, config: seconds * 10 ** cell["place"], budget, report)


def report(data):
    return [f"{float(data.square.sum()):g}"]


def campaign(item, folder, name, *, before=None, minutes=60.0, said=None):
    clock = Clock(60 * minutes, 60 * minutes)
    said = [] if said is None else said
    out, work = folder / name, folder / f"{name}.work"
    return Campaign([item], True, out, work, before, clock, said.append)


def test_a_slice_goes_on_where_another_machine_stopped(tmp_path):
    study, said = Counted(), []
    # Estimates are 1, 10 and 100 s, of which a minute leaves room for two.
    first = campaign(study.item(), tmp_path, "first", minutes=1, said=said)
    first.estimate = lambda item, cell: item.estimate(cell, {})  # not corrected by quick cells
    assert not first.run()
    assert study.calls == [0, 1]
    assert any("counted 2: left out, about 100 s" in line for line in said)
    data = load(tmp_path / "first" / "counted.nc")
    assert data.square.values.tolist() == [0, 1]
    brought = shutil.copytree(tmp_path / "first", tmp_path / "brought")
    second = campaign(study.item(), tmp_path, "second", before=brought)
    assert second.run()
    assert study.calls == [0, 1, 2]
    found = json.loads((tmp_path / "second" / "campaign.json").read_text())
    assert found["found"] == {"counted": ["5"]}
    assert len(found["slices"]) == 2


def test_a_cell_that_fails_twice_is_left_out(tmp_path):
    study = Counted(failing=1)
    for _ in range(3):
        assert not campaign(study.item(), tmp_path, "out").run()
    assert study.calls == [0, 1, 2, 1]
    found = json.loads((tmp_path / "out" / "campaign.json").read_text())
    (failed,) = [cell for cell in found["items"]["counted"].values() if cell["failures"]]
    assert failed["error"] == "RuntimeError: RESOURCE_EXHAUSTED: out of memory"
    data = load(tmp_path / "out" / "counted.nc")
    np.testing.assert_array_equal(data.place, [0, 2])


def test_every_cell_has_an_estimate_and_the_campaign_fits_its_time():
    seconds = {
        item.name: [item.estimate(cell, item.study.config(True)) for cell in item.study.cells(True)]
        for item in ITEMS
    }
    assert all(0 < one < 60 * 9 for item in seconds.values() for one in item)
    assert sum(item.budget for item in ITEMS) <= 60 * 25
    for item in ITEMS:
        assert seconds[item.name][0] <= item.budget


@pytest.mark.parametrize("damage", ["missing", "torn", "no report", "other", "nested"])
def test_files_that_are_no_slice_are_refused(tmp_path, capsys, damage):
    before = tmp_path / "before"
    before.mkdir()
    if damage != "no report":
        (before / "campaign.json").write_text('{"slices": [], "items": {}}')
    if damage == "other":
        (before / "campaign.json").write_text('{"slices": [], "items": [1]}')
    if damage == "nested":
        (before / "campaign.json").write_text("[" * 100_000)
    if damage in ("torn", "other", "nested"):
        (before / "cells.zip").write_bytes(b"PK\x03\x04")
    code = main(["--out", str(tmp_path / "out"), "--before", str(before), "--miniature"])
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "before" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "nan"], "--minutes nan: must be"),
        (["--all-minutes", "x\n"], "--all-minutes"),
        (["--min", "1"], "--min"),
        (["--work", "file"], "must be a folder to write to"),
        (["--out", "\0"], "must be a folder to write to"),
        (["--before", "9" * 3000], "too long"),
    ],
)
def test_a_bad_option_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["--out", "out", "--miniature", "--minutes", "0", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("campaign: error: ")
    assert said in error
    assert error.count("\n") == 1
    assert len(error) < 1000


def test_an_unknown_item_is_refused(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out"), "--only", "nothing"]) == 2
    assert "device_agreement" in capsys.readouterr().err
