"""The guide's way from a training script to the verdict runs as it stands, and its commands too."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dynsim import InputError
from dynsim.coordinates import read_records
from experiments.cli import main

torch = pytest.importorskip("torch", reason="needs torch: pip install 'dynsim[torch]'")
import torch_models as models  # noqa: E402

GUIDE = Path(__file__).parents[3] / "docs/guides/own_model.md"


def gpt(width: int, readout_std: float = models.BASE**-0.5):
    """A GPT without multipliers: its readout starts as 1/width, its attention has muP's scale."""
    model = models.Gpt(models.Config(width, mistake="readout multiplier"))
    torch.nn.init.normal_(model.lm_head.weight, std=readout_std * 64 / width)
    return model


@pytest.mark.slow
def test_ten_lines_lead_from_a_script_to_the_verdict(tmp_path, monkeypatch, capsys):
    text = GUIDE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    drawn = iter(range(1, 1000))
    script = {
        "GPT": gpt,
        "vocab_size": models.VOCAB_SIZE,
        "get_batch": lambda split: models.batch(0 if split == "val" else next(drawn)),
    }
    exec(compile(blocks[0], "guide", "exec"), script)
    assert set(read_records([Path("coordinates.csv")]).width) == {64, 128, 256}
    commands = re.findall(r"^    dynsim (coordinate-check .*\.csv.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    for line in commands:
        capsys.readouterr()
        assert main(shlex.split(line)) == 0
        assert "As predicted: " in capsys.readouterr().out
    assert {file.name for file in Path("check").iterdir()} == {
        "coordinates.png",
        "coordinates.pdf",
        "slopes.csv",
    }
    (measured,) = re.findall(r"^    dynsim (parametrization .*measured.*)$", text, re.MULTILINE)
    assert main(shlex.split(measured)) == 0
    assert "what limits the LR" in capsys.readouterr().out


def test_the_other_examples_of_the_guide_run(tmp_path, monkeypatch):
    text = GUIDE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    _, labelling, with_jax = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)

    class Vision(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.head = torch.nn.Linear(12, 32), torch.nn.Linear(32, 5)

    script = {"model": Vision()}
    (table,) = [line for line in labelling.splitlines() if line.startswith("print(")]
    with pytest.raises(InputError, match=r"patches\.weight"):  # ambiguous: asked for by name
        exec(labelling, dict(script))
    exec(labelling.replace(table, ""), script)
    assert script["labels"]["patches.weight"] == "embedding"

    random = np.random.default_rng(0)
    params = {
        "embed": jnp.asarray(random.standard_normal((7, 16)), jnp.float32),
        "head": jnp.asarray(random.standard_normal((16, 7)) / 16, jnp.float32),
    }
    script = {
        "apply": lambda params, tokens: params["embed"][tokens] @ params["head"],
        "params": params,
        "state": None,
        "tokens": jnp.arange(7),
        "train_step": lambda params, state: ({k: 0.9 * v for k, v in params.items()}, state),
        "width": 16,
        "vocab_size": 7,
    }
    exec(compile(with_jax, "guide", "exec"), script)
    assert set(read_records([Path("coordinates.csv")]).step) == {0, 1, 2, 4, 8}
