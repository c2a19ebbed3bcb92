"""The example of a small GPT, at tiny sizes: it passes, and a planted mistake is named."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path

import pytest

from experiments.cli import main as dynsim_main

torch = pytest.importorskip("torch", reason="needs torch: pip install 'dynsim[torch]'")
ROOT = Path(__file__).parents[2]
TINY = ("--layers", "1", "--vocab-size", "256", "--steps", "5")


@pytest.fixture
def example(monkeypatch, text_folder, tmp_path):
    """Runs the script as from the command line; returns its exit code."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module("gpt").main
    threads = torch.get_num_threads()
    yield lambda *options: main([*TINY, "--text", str(text_folder), *options])
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_with_the_recommended_groups_nothing_fails(example, capsys, tied):
    """With one block and three seeds a power may stay undecided."""
    assert example("--seeds", "3", *(["--tied"] if tied else [])) == 0
    out = capsys.readouterr().out
    assert "modules against mup: " in out
    assert "mup: fails" not in out
    assert out.count("on held-out text after 5 steps") == 2
    recommended, check = (line for line in out.splitlines() if line.startswith("dynsim "))
    assert dynsim_main([*shlex.split(recommended)[1:], "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["mup"]["learning_rates"]
    assert all(f"{label} {printed[label]:.6g}" in out for label in ("embedding", "hidden"))
    assert dynsim_main(shlex.split(check)[1:]) == 0


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ("--mistake embedding-group", "wte: updates go like width^-1, should be width^0"),
        ("--mistake readout", "lm_head: initial entries (multiplier included) go like width^-0.5"),
        ("--mistake readout --tied", "lm_head: readout multiplier missing"),
        ("--mistake weight-decay", "qkv, blocks.0.attention.proj, blocks.0.up, blocks.0.down"),
    ],
)
def test_a_planted_mistake_is_named(example, capsys, mistake, named):
    assert example("--seeds", "1", *mistake.split()) == 1
    out = capsys.readouterr().out
    assert "against mup: fails" in out
    assert named in " ".join(out.split())
