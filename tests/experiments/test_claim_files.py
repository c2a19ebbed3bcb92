"""`dynsim verify my_claims.toml`: a user's own claims, from the file to verdict and figure."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

from experiments.cli import main
from experiments.results import load
from experiments.topics import _claim_study

pytestmark = pytest.mark.usefixtures("quick_compilation")

MINE = """
[defaults]
quantity = "projection_step_rms"
targets = "sign"
optimizer = "sign"
outputs = 4
widths = [16, 32, 64]
seeds = 16

[[claim]]
name = "small-vocabulary"
statement = "With two token types the projection's first update grows like the width."
vocab_size = 2
prediction = "1 - mu/2"
tolerance = 0.15
registered = 2026-11-26

[[claim]]
name = "control-root"
statement = "With two token types the projection's first update grows like the root of the width."
vocab_size = 2
prediction = 0.5
tolerance = 0.15
expected = "fails"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("claims")


@pytest.fixture
def mine(folder):
    path = folder / "mine.toml"
    path.write_text(MINE, encoding="utf-8")
    return path


@pytest.fixture
def run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def call(*arguments, code=0):
        assert main([str(one) for one in arguments]) == code
        captured = capsys.readouterr()
        return captured.err if code == 2 else captured.out

    return call


@pytest.fixture
def trained(monkeypatch):
    """The cells that are trained, in place of being found."""
    cells = []
    original = _claim_study.measured_cell

    def measured(cell, **config):
        cells.append(json.loads(cell))
        return original(cell, **config)

    monkeypatch.setattr(_claim_study, "measured_cell", measured)
    return cells


def test_check_validates_and_trains_nothing(run, mine, trained):
    text = run("verify", "--check", mine)
    assert text.startswith(f"{mine}: valid, 2 claims, SHA-256 ")
    digest = json.loads(run("verify", "--check", mine, "--json"))["files"][0]["sha256"]
    assert digest in text
    assert (
        digest
        == subprocess.run(
            ["sha256sum", mine], capture_output=True, text=True, check=True
        ).stdout.split()[0]
    )
    assert not trained


def test_from_file_to_verdict_and_figure(run, mine, folder, trained):
    found = json.loads(run("verify", mine, "--out", "out", "--json"))
    assert len(trained) == 3  # both claims share their cells
    verdicts = {row["name"]: row["verdict"] for row in found["claims"]}
    assert verdicts == {"small-vocabulary": "holds", "control-root": "fails"}
    assert found["changed"] == []
    assert list(found["files"]) == [str(mine)]
    assert found["claims"][0]["registered"] == "2026-11-26"
    names = {"small-vocabulary", "control-root"}
    endings = ("png", "pdf", "svg")
    assert set(found["figures"]) == {f"out/{name}.{end}" for name in names for end in endings}
    assert load(folder / "out/mine.claims.nc").sizes["cell"] == 3

    # The same again, one claim of it, and with another tolerance: nothing is trained.
    text = run("verify", mine, "--out", "out", "--claim", "small-vocabulary")
    assert "1 of 1 verdicts as expected" in text
    assert "registered 2026-11-26" in text
    assert found["files"][str(mine)] in text
    mine.write_text(MINE.replace("tolerance = 0.15", "tolerance = 0.2", 1), encoding="utf-8")
    text = run("verify", mine, "--out", "out")
    assert "small-vocabulary was changed after it was measured: tolerance (SHA-256 then" in text
    assert "control-root was changed" not in text
    assert len(trained) == 3

    # One more claim trains its own cells only; other seeds are other networks.
    more = MINE + '\n[[claim]]\nname = "more"\nstatement = "More."\nvocab_size = 3\n'
    mine.write_text(f"{more}prediction = 1\ntolerance = 0.3\nwidths = [16, 32]\n", encoding="utf-8")
    run("verify", mine, "--out", "out")
    assert len(trained) == 5
    assert load(folder / "out/mine.claims.nc").sizes["cell"] == 5
    run("verify", mine, "--out", "out", "--claim", "more", "--seed", 3)
    before, after = (load(folder / f"out/{place}mine.claims.nc") for place in ("", "seed-3/"))
    (same,) = {json.dumps(one) for one in trained[-2:-1]}
    values = [one["training.projection_step_rms"].sel(cell=same) for one in (before, after)]
    assert not np.isclose(*values).any()


def test_a_refuted_claim_has_exit_code_one(run, mine, folder):
    (folder / "wrong.toml").write_text(MINE.replace('expected = "fails"\n', ""), encoding="utf-8")
    run("verify", mine, "--out", "out")
    (folder / "out/wrong.claims.nc").write_bytes((folder / "out/mine.claims.nc").read_bytes())
    text = run("verify", "wrong.toml", "--out", "out", code=1)
    assert "control-root" in text
    assert "fails  (!)" in text


@pytest.mark.parametrize(
    ("old", "new", "options", "fragments"),
    [
        ("1 - mu/2", "1 - mu/", (), ["mine.toml, line 14: claim small-vocabulary: prediction"]),
        ("1 - mu/2", "asymptotic", ("--claim", "other"), ["--claim 'other'"]),
        ("seeds = 16", "sedes = 16", (), ["mine.toml, line 8: ", "nearest is seeds"]),
        (
            "projection_step_rms",
            "projection_rms",
            (),
            ["line 10: claim small-vocabulary", "must be such as"],
        ),
        ("prediction = 0.5", "prediction = inf", ("--check",), ["line 22", "must be finite"]),
        ("outputs = 4", "projection_lr = 0", ("--check",), ["small-vocabulary: projection_lr 0"]),
        ("", "", ("--study", "updates"), ["--study 'updates'"]),
        ("", "", ("none.toml",), ["none.toml", "No such file"]),
        ("", "", ("mine.toml",), ["must have another name"]),
        ("", "", ("--seed", "-1"), ["--seed -1"]),
    ],
)
def test_a_mistake_is_one_line(run, mine, trained, old, new, options, fragments):
    mine.write_text(MINE.replace(old, new, 1), encoding="utf-8")
    message = run("verify", mine, *options, code=2)
    assert message.count("\n") == 1
    assert message.startswith("dynsim: error: ")
    for fragment in fragments:
        assert fragment in message
    assert not trained


def test_check_needs_a_file(run):
    assert "is missing" in run("verify", "--check", code=2)
