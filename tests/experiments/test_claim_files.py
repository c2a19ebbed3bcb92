"""`dynsim verify my_claims.toml`: a user's own claims, from the file to verdict and figure."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dynsim import Setup
from experiments.cli import main
from experiments.plots import _write
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


@pytest.fixture
def undrawn(monkeypatch):
    """No figures, which take longer than the rest."""
    monkeypatch.setattr(_write, "write_result", lambda *_: [])


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


def test_check_says_what_a_claim_leaves_out(run, folder):
    """A vocabulary that the file does not give is the default one, and not what its author had in
    mind, perhaps."""
    Path("short.toml").write_text(
        '[[claim]]\nname = "short"\nstatement = "S."\nquantity = "projection_step_rms"\n'
        "widths = [32, 64]\nprediction = 1\ntolerance = 0.1\n"
    )
    default = Setup().vocab_size
    assert f"short gives no vocab_size: {default} is taken" in run(
        "verify", "--check", "short.toml"
    )
    found = json.loads(run("verify", "--check", "short.toml", "--json"))["files"][0]
    assert found["sizes_left_out"] == {"short": {"vocab_size": default}}


@pytest.mark.slow
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
    kept = json.loads((folder / "out/mine.claims.json").read_text())["claims"]
    names = ("predicted", "simulated", "measured", "low", "high", "drift", "last", "verdict")
    for one, row in zip(kept, found["claims"], strict=True):
        assert {name: one[name] for name in (*names, "digest")} == {
            name: row[name] for name in (*names, "digest")
        }
        assert one["claim"]["name"] == row["name"]


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(run, mine, folder, trained, undrawn):
    """Another tolerance trains nothing, one more claim its own cells, another seed all."""
    run("verify", mine, "--out", "out")
    trained.clear()
    mine.write_text(
        MINE.replace("tolerance = 0.15", "tolerance = 0.2", 1)
        + '\n[[claim]]\nname = "more"\nstatement = "More."\nvocab_size = 3\n'
        "prediction = 1\ntolerance = 0.3\nwidths = [16, 32]\n",
        encoding="utf-8",
    )
    text = run("verify", mine, "--out", "out", "--claim", "small-vocabulary")
    assert "1 of 1 verdicts as expected" in text
    assert "registered 2026-11-26" in text
    assert "small-vocabulary was changed after it was measured: tolerance (SHA-256 then" in text
    assert not trained
    text = run("verify", mine, "--out", "out")
    assert "control-root was changed" not in text
    assert len(trained) == 2
    assert load(folder / "out/mine.claims.nc").sizes["cell"] == 5
    run("verify", mine, "--out", "out", "--claim", "more", "--seed", 3)
    before, after = (load(folder / f"out/{place}mine.claims.nc") for place in ("", "seed-3/"))
    assert len(trained) == 4
    values = [
        one["training.projection_step_rms"].sel(cell=json.dumps(trained[-1]))
        for one in (before, after)
    ]
    assert not np.isclose(*values).any()


def test_a_refuted_claim_has_exit_code_one(run, mine, folder, undrawn):
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
        (
            "1 - mu/2",
            "asymptotic",
            ("--claim", "other"),
            ["--claim 'other': must be one of small-vocabulary"],
        ),
        ("seeds = 16", "sedes = 16", (), ["mine.toml, line 8: ", "nearest is seeds"]),
        (
            "projection_step_rms",
            "projection_rms",
            (),
            ["line 3: claim small-vocabulary", "must be one of projection_step_rms"],
        ),
        (
            "prediction = 0.5",
            'steps = 99\nprediction = "asymptotic"',
            ("--check",),
            ["line 23: claim control-root", "does not exist here"],
        ),
        (
            "projection_step_rms",
            "hidden_step_rms",
            ("--check",),
            ["line 3: claim small-vocabulary: network 'linear': must be mlp"],
        ),
        (
            "widths = [16, 32, 64]",
            "widths = [16, 32, 900000000]",
            ("--check",),
            ["line 7: claim small-vocabulary: width 900000000", "GiB of this device"],
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


GUIDE = Path(__file__).parents[2] / "docs/guides/claims.md"


def blocks(language):
    """The examples of the guide in a language, in their order."""
    text = GUIDE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_guide_does_what_it_says(run, folder, capsys):
    example, formula = blocks("toml")
    (folder / "formula.toml").write_text(formula, encoding="utf-8")
    assert "valid, 1 claim, " in run("verify", "--check", "formula.toml")
    (folder / "my_claims.toml").write_text(example, encoding="utf-8")
    outputs = [
        run(*line.removeprefix("dynsim ").split())
        for block in blocks("sh")
        for line in block.splitlines()
    ]
    assert "my_claims.toml: valid, 1 claim, " in outputs[0]
    assert "1 of 1 verdicts as expected" in outputs[1]
    assert (folder / "results/my-projection.svg").is_file()
    names = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["verdicts"][0].verdict == "holds"
    printed = capsys.readouterr().out
    assert printed.count("1 of 1 verdicts as expected") == 2


def test_check_needs_a_file(run):
    assert "is missing" in run("verify", "--check", code=2)
