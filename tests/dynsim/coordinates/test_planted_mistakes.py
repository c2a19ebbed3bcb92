"""Real transformer code in PyTorch: a right model passes, and each planted mistake is named at its
module."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pytest
from helpers import assert_refused

torch = pytest.importorskip("torch", reason="needs torch: pip install 'dynsim[torch]'")
import torch_models as models  # noqa: E402

from dynsim.coordinates import (  # noqa: E402
    CoordinateCheck,
    CoordinateRecorder,
    check_coordinates,
)

WIDTHS, STEPS = (32, 64, 128), (1, 3)
FAMILIES = {"gpt": models.Gpt, "llama": models.Llama}


def record(family: str, tied: bool, mistake: str, width: int, lr: float = 0.02) -> pd.DataFrame:
    torch.manual_seed(0)
    model = FAMILIES[family](models.Config(width, tied, mistake))
    stepping = models.optimizers(model, lr)
    recorder = CoordinateRecorder(
        model,
        models.batch(0),
        width=width,
        vocab_size=models.VOCAB_SIZE,
        optimizer=stepping,
        steps=STEPS,
        file=None,
    )
    models.trained(model, stepping, STEPS[-1])
    return recorder.records.table()


@cache
def checked(family: str, tied: bool, mistake: str) -> CoordinateCheck:
    tables = [record(family, tied, mistake, width) for width in WIDTHS]
    return check_coordinates(pd.concat(tables, ignore_index=True), "mup")


VARIANTS = [(family, tied) for family in FAMILIES for tied in (False, True)]


@pytest.mark.parametrize(("family", "tied"), VARIANTS)
def test_a_right_model_passes(family, tied):
    found = checked(family, tied, "")
    assert found.verdict == "as predicted", found
    assert {"scores", "outputs", "vector"} < {module.label for module in found.modules}


def matrices(family: str) -> set[str]:
    found = checked(family, False, "")
    return {module.name for module in found.modules if module.label == "hidden"}


WRONG = {"gpt": "h.0.mlp.c_fc", "llama": "layers.0.mlp.up_proj"}
EMBEDDING = {"gpt": "wte", "llama": "embed_tokens"}
SCORES = {"gpt": "h.0.attn scores", "llama": "layers.0.self_attn scores"}


def expected(family: str, tied: bool, mistake: str) -> tuple[set[str], str]:
    """The modules that must fail, and a word of what must be said of the first."""
    match mistake:
        case "init":
            return {WRONG[family]}, "initial standard deviation off by width^0.5"
        case "group":
            return {WRONG[family]}, "wrong parameter group"
        case "readout multiplier":
            return {"lm_head"}, "readout multiplier missing"
        case "attention scale":
            return {SCORES[family]}, "root of the head's width instead of"
        case "embedding group":  # a tied readout has the embedding's rate
            return {EMBEDDING[family]} | ({"lm_head"} if tied else set()), "the hidden's"
        case "weight decay":
            return matrices(family), "(learning rate)(weight decay)"
    raise AssertionError(mistake)


@pytest.mark.parametrize(
    "mistake", [m for m in models.MISTAKES if m not in ("two groups", "epsilon")]
)
@pytest.mark.parametrize(("family", "tied"), VARIANTS)
def test_a_mistake_is_named_at_its_module_and_nowhere_else(family, tied, mistake):
    found = checked(family, tied, mistake)
    names, words = expected(family, tied, mistake)
    assert {module.name for module in found.failing} == names, found
    first = found.failing[0]
    assert any(words in text for text in first.mistakes), first.mistakes
    assert set().union(*found.mistakes.values()) == names


@pytest.mark.parametrize(("family", "tied"), VARIANTS)
def test_an_epsilon_that_grows_damps_every_matrix(family, tied):
    found = checked(family, tied, "epsilon")
    failing = {module.name: module for module in found.failing}
    assert matrices(family) | {EMBEDDING[family], "lm_head"} <= set(failing)
    assert all("epsilon" in " ".join(module.mistakes) for module in failing.values())


@pytest.mark.parametrize(("family", "tied"), VARIANTS)
def test_a_weight_in_two_groups_is_refused(family, tied):
    words = "lm_head.weight", "must stand in one parameter group"
    assert_refused("optimizer", lambda: record(family, tied, "two groups", 32), *words)


def test_the_unscaled_standard_recipe_fails_at_hidden_matrices_and_readout():
    """One learning rate for all: updates of what reads the width are too large by d."""
    tables = []
    for width in WIDTHS:
        torch.manual_seed(0)
        model = models.Gpt(models.Config(width))
        stepping = torch.optim.Adam(model.parameters(), lr=0.01)
        recorder = CoordinateRecorder(
            model,
            models.batch(0),
            width=width,
            vocab_size=models.VOCAB_SIZE,
            optimizer=stepping,
            steps=(1,),
            file=None,
        )
        models.trained(model, [stepping], 1)
        tables.append(recorder.records.table())
    found = check_coordinates(pd.concat(tables, ignore_index=True), "mup")
    assert {module.name for module in found.failing} == matrices("gpt")
