"""The setups of the study of linear hidden layers: what differs from sign descent in full batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dynsim.laboratory import NetworkSetup
from experiments.topics._seeds import run_seed

WIDTH, STEPS = 256, 12

# Learning rates hold at the width of the study, but for a parametrization that is named. The
# readout starts with 1/width as under muP; with 1/sqrt(width) for SP.
PLAIN: Mapping[str, Any] = {"residual": "no"}
SP: Mapping[str, Any] = {"init_exponents": "0,-1/2,-1/2"}
NAMED: Mapping[str, Any] = {"init_exponents": "auto", "lr_exponents": "auto", "base_width": 64}
CLASSES: Mapping[str, Any] = {"targets": "onehot", "loss": "ce"}
TEXT: Mapping[str, Any] = {"tokens": "corpus", "targets": "bigram"}
ADAM95: Mapping[str, Any] = {"optimizer": "adam", "beta2": 0.95}


def _rates(embedding: float, hidden: float, readout: float = 1.0) -> Mapping[str, Any]:
    return {"embedding_lr": embedding, "hidden_lr": hidden, "readout_ratio": readout}


FAST, SLOW, WILD = _rates(0.02, 0.002, 0.5), _rates(0.01, 0.001), _rates(0.06, 0.006)
# (hidden layers, tokens over width, what differs); `width` is a field like others.
CASES: Mapping[str, tuple[int, float, Mapping[str, Any]]] = {
    "1 layer, sign": (1, 4, {"outputs": 2, **FAST}),
    "1 layer, sign, SP, few tokens": (1, 1 / 16, {**SP, **SLOW}),
    "1 layer, sign, many tokens": (1, 32, {**FAST}),
    "1 layer, sign, oscillating, SP": (1, 4, {**SP, **WILD}),
    "1 layer, sign, d = 512": (1, 4, {"width": 512, **FAST}),
    "1 layer, hidden alone, SP": (1, 1, {**SP, **_rates(0.0, 0.004, 0.0)}),
    "1 layer, embedding alone": (1, 4, {"tokens": "zipf:1", **_rates(0.06, 0.0)}),
    "1 plain layer, smoothed sign": (
        1,
        1 / 4,
        {"outputs": 2, "optimizer": "smoothed-sign", "epsilon": 1e-5, **PLAIN, **FAST},
    ),
    "1 plain layer, Adam": (1, 4, {"outputs": 2, "optimizer": "adam", **PLAIN, **FAST}),
    "1 layer, Adam, Zipf 1.2, batch of 32": (
        1,
        4,
        {"tokens": "zipf:1.2", "batch_size": 32, **ADAM95, **FAST},
    ),
    "1 layer, Adam, Zipf 1, batch of 256, 30 steps": (
        1,
        8,
        {"tokens": "zipf:1", "batch_size": 256, "steps": 30, **ADAM95, **FAST},
    ),
    "1 layer, AdamW, cosine, SP": (
        1,
        4,
        {"optimizer": "adamw", "weight_decay": 2.0, "schedule": "cosine", **SP, **FAST},
    ),
    "1 layer, Muon": (1, 4, {"outputs": 2, "optimizer": "muon", **_rates(0.02, 0.02, 0.1)}),
    "1 plain layer, Muon, d = 512": (
        1,
        1,
        {"width": 512, "optimizer": "muon", **PLAIN, **_rates(0.02, 0.02, 0.1)},
    ),
    "1 layer, momentum, linear schedule": (
        1,
        1,
        {"optimizer": "momentum", "beta1": 0.8, "schedule": "linear", **_rates(10.0, 0.1, 0.1)},
    ),
    "1 layer, SGD, Zipf 1.2, many tokens": (
        1,
        16,
        {"tokens": "zipf:1.2", "outputs": 4, "optimizer": "sgd", **CLASSES, **_rates(10, 0.1, 0.2)},
    ),
    "1 plain layer, corpus": (1, 4, {"outputs": 8, **TEXT, **PLAIN, **FAST}),
    "2 layers, sign, oscillating": (2, 4, {**WILD}),
    "2 layers, sign, batch of 16": (2, 4, {"batch_size": 16, **SLOW}),
    "2 plain layers, sign, Zipf 1.2": (
        2,
        16,
        {"tokens": "zipf:1.2", "outputs": 2, **PLAIN, **FAST},
    ),
    "2 plain layers, Adam, few tokens": (
        2,
        1 / 16,
        {"outputs": 2, "optimizer": "adam", **PLAIN, **FAST},
    ),
    "2 layers, Adam, Zipf 1.2, classes": (
        2,
        4,
        {"tokens": "zipf:1.2", "outputs": 4, **ADAM95, **CLASSES, **FAST},
    ),
    "2 layers, Adam, d = 512": (2, 1, {"width": 512, **ADAM95, **SP, **SLOW}),
    "2 plain layers, Adam, corpus, classes": (
        2,
        4,
        {"outputs": 4, "optimizer": "adam", "loss": "ce", **TEXT, **PLAIN, **FAST},
    ),
    "2 layers, AdamW, cosine": (
        2,
        4,
        {"optimizer": "adamw", "weight_decay": 2.0, "schedule": "cosine", **FAST},
    ),
    "2 plain layers, Muon, Zipf 1, classes": (
        2,
        16,
        {
            "tokens": "zipf:1",
            "outputs": 4,
            "optimizer": "muon",
            **CLASSES,
            **PLAIN,
            **_rates(0.02, 0.1, 0.01),
        },
    ),
    "2 layers, Muon, SP, few tokens": (
        2,
        1 / 4,
        {"optimizer": "muon", **SP, **_rates(0.02, 0.02, 0.1)},
    ),
    "2 layers, SGD, Zipf 1.2, 30 steps": (
        2,
        4,
        {"tokens": "zipf:1.2", "optimizer": "sgd", "steps": 30, **_rates(10.0, 0.1, 0.1)},
    ),
    "2 plain layers, SGD, SP": (2, 4, {"optimizer": "sgd", **SP, **PLAIN, **_rates(10, 0.1, 0.1)}),
    "3 layers, momentum": (
        3,
        1,
        {"optimizer": "momentum", "beta1": 0.8, **_rates(5.0, 0.03, 0.1)},
    ),
    "3 plain layers, sign, SP, Zipf 1": (3, 4, {"tokens": "zipf:1", **SP, **PLAIN, **SLOW}),
    "3 layers, Adam, NTK": (
        3,
        4,
        {"optimizer": "adam", "parametrization": "ntk", **NAMED, **_rates(0.02, 0.002)},
    ),
    "3 plain layers, Muon, batch of 128": (
        3,
        4,
        {"optimizer": "muon", "batch_size": 128, **PLAIN, **_rates(0.02, 0.05, 0.02)},
    ),
    "4 layers, sign": (4, 4, {"outputs": 2, **SLOW}),
    "4 layers, sign, oscillating": (4, 1, {**WILD}),
    "4 layers, Adam, SP, few tokens": (4, 1 / 16, {**ADAM95, **SP, **SLOW}),
    "4 plain layers, Adam, Zipf 1, batch of 256": (
        4,
        8,
        {"tokens": "zipf:1", "outputs": 2, "batch_size": 256, **ADAM95, **PLAIN, **FAST},
    ),
    "4 layers, AdamW, Zipf 1.2, batch of 64": (
        4,
        4,
        {
            "tokens": "zipf:1.2",
            "batch_size": 64,
            "weight_decay": 0.02,
            "decay": "independent",
            **ADAM95,
            "optimizer": "adamw",
            **SLOW,
        },
    ),
    "4 layers, Muon, SP": (4, 4, {"optimizer": "muon", **SP, **_rates(0.02, 0.02, 0.1)}),
    "4 plain layers, Muon, few tokens, 30 steps": (
        4,
        1 / 4,
        {"optimizer": "muon", "steps": 30, **PLAIN, **_rates(0.01, 0.02, 0.02)},
    ),
    "4 plain layers, SGD, classes": (
        4,
        8,
        {"outputs": 2, "optimizer": "sgd", **CLASSES, **PLAIN, **_rates(10.0, 0.1, 0.1)},
    ),
    "4 layers, smoothed sign, corpus": (
        4,
        4,
        {"outputs": 2, "optimizer": "smoothed-sign", "epsilon": 1e-5, **TEXT, **SLOW},
    ),
    "4 plain layers, Adam, mu-P": (
        4,
        1,
        {"optimizer": "adam", "parametrization": "mup", **NAMED, **PLAIN, **_rates(0.02, 0.01)},
    ),
    "8 layers, sign": (8, 1, {**SLOW}),
    "8 plain layers, Adam": (8, 4, {**ADAM95, **PLAIN, **SLOW}),
}


def case_setup(case: str, seed: int = 0) -> NetworkSetup:
    """A case, with the seed of a run."""
    depth, ratio, fields = CASES[case]
    width = fields.get("width", WIDTH)
    setup = NetworkSetup(
        network="mlp",
        activation="identity",
        normalisation="none",
        precision="float64",
        depth=depth,
        width=width,
        base_width=1,
        vocab_size=round(ratio * width),
        init_exponents="0,-1/2,-1",
        lr_exponents="0,0,0",
        optimizer="sign",
        steps=STEPS,
        seed=run_seed(seed),
    )
    return replace(setup, **fields)
