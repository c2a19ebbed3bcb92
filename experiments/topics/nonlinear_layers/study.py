"""Studies of mean-field theory with nonlinear hidden layers: predictions beside finite networks.

`nonlinear_layers` has tokens and neurons in proportion, where neurons are treated by Gaussian
equivalence; `nonlinear_few_tokens` has few tokens, where the theory is exact in the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim import predict, train
from dynsim._programs import compiled_sooner
from dynsim.laboratory import NetworkSetup
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

BASE = NetworkSetup(
    network="mlp",
    depth=1,
    activation="tanh",
    normalisation="none",
    residual="no",
    parametrization="sp",
    init_exponents="0,-1/2,-1",
    lr_exponents="0,0,0,0",
    base_width=1,
    optimizer="sign",
    epsilon=1e-8,
)
FRESH = 1  # run 0 was seen before the self term of the outputs was part of the theory
FROZEN = "frozen"  # in the name of a case: embedding and readout are not trained
ALL = (0.1, 0.15, 0.1)  # rates of embedding, hidden matrix times sqrt(d), readout times d
HIDDEN_ONLY = (0.0, 0.3, 1e-9)
# (tokens over width, rates as above, what differs from tanh under sign descent, uniform tokens)
CASES: Mapping[str, tuple[float, tuple[float, float, float], Mapping[str, Any]]] = {
    "tanh, m = d, frozen": (1, HIDDEN_ONLY, {}),
    "tanh, m = 4d, frozen": (4, HIDDEN_ONLY, {}),
    "tanh, m = d": (1, ALL, {}),
    "tanh, m = 4d": (4, ALL, {}),
    "tanh, m = 16d": (16, ALL, {}),
    "tanh, mini-batch": (4, (0.05, 0.15, 0.1), {"batch_size": 256}),
    "tanh, larger readout": (4, ALL, {"base_width": 4}),
    "relu, frozen": (4, HIDDEN_ONLY, {"activation": "relu"}),
    "relu": (4, ALL, {"activation": "relu"}),
    "gelu": (4, ALL, {"activation": "gelu"}),
    "tanh, three outputs": (4, ALL, {"outputs": 3}),
    "tanh, cross-entropy": (
        4,
        ALL,
        {"outputs": 3, "loss": "ce", "targets": "onehot"},
    ),
    "tanh, Adam": (4, (0.05, 0.1, 0.1), {"optimizer": "adam"}),
    "tanh, Zipf 1": (4, (0.05, 0.15, 0.1), {"tokens": "zipf:1"}),
}
FEW_CASES: Mapping[str, tuple[int, tuple[float, float, float], Mapping[str, Any]]] = {
    "identity, RMS norm": (4, ALL, {"activation": "identity", "normalisation": "rms"}),
    "tanh": (8, ALL, {}),
    "tanh, layer norm": (4, ALL, {"normalisation": "layer"}),
    "relu": (8, ALL, {"activation": "relu"}),
    "relu, RMS norm, residual": (
        4,
        ALL,
        {"activation": "relu", "normalisation": "rms", "residual": "yes"},
    ),
    "gelu, two layers": (4, ALL, {"activation": "gelu", "depth": 2}),
    "relu, three layers": (4, (0.05, 0.1, 0.1), {"activation": "relu", "depth": 3}),
    "gelu, layer norm, Muon": (
        4,
        (0.05, 3.0, 0.3),
        {"activation": "gelu", "normalisation": "layer", "optimizer": "muon"},
    ),
    "relu, Adam, cross-entropy": (
        8,
        (0.05, 0.1, 0.3),
        {
            "activation": "relu",
            "optimizer": "adam",
            "outputs": 3,
            "loss": "ce",
            "targets": "onehot",
        },
    ),
    "tanh, Zipf 1, mini-batch": (8, (0.05, 0.1, 0.1), {"tokens": "zipf:1", "batch_size": 16}),
}


def case_setup(
    case: tuple[float, tuple[float, float, float], Mapping[str, Any]],
    width: int,
    vocab_size: int,
    steps: int,
    seed: int = 0,
) -> NetworkSetup:
    """A case at a width: rates ~ 1/sqrt(d) of the hidden matrix, ~ 1/d of the readout."""
    _, (embedding, hidden, readout), fields = case
    rate = hidden / width**0.5
    return replace(
        BASE,
        width=width,
        vocab_size=vocab_size,
        steps=steps,
        embedding_lr=embedding,
        hidden_lr=rate,
        readout_ratio=readout / width / rate,
        seed=run_seed(seed + FRESH),
        **fields,
    )


def _measured(
    setup: NetworkSetup, replicas: int, seeds: int, control: bool
) -> Mapping[str, tuple[Sequence[str], Any]]:
    """Prediction with its error, control (NaN if there is none), and every network's curve."""
    with compiled_sooner():
        found = predict(setup, replicas=replicas)
        without = np.full(setup.steps, np.nan)
        if control:
            without = predict(setup, replicas=max(2, replicas // 2), responses=False).loss[0]
        networks = train(setup, seeds, horizons=range(1, setup.steps))
    losses = np.hstack([networks.initial_loss[:, None], networks.loss])
    return {
        "predicted": (("step",), found.loss[0]),
        "predicted_error": (("step",), found.loss_error[0]),
        "without_noise": (("step",), without),
        "loss": (("step", "seed"), losses.T.astype(np.float32)),
    }


def _proportional_cell(
    case: str, width: int, steps: int, replicas: int, seeds: int, seed: int = 0
) -> Any:
    chosen = CASES[case]
    setup = case_setup(chosen, width, round(chosen[0] * width), steps, seed)
    return _measured(setup, replicas, seeds, FROZEN in case)


NONLINEAR = Study(
    "nonlinear_layers",
    cells=lambda full: grid(case=CASES, width=(256,)) if full else [],
    measure=_proportional_cell,
    config=lambda full: {"steps": 6, "replicas": 8, "seeds": 64},
)


def _few_token_cell(
    case: str, width: int, steps: int, replicas: int, seeds: int, seed: int = 0
) -> Any:
    chosen = FEW_CASES[case]
    setup = case_setup(chosen, width, int(chosen[0]), steps, seed)
    return _measured(setup, replicas, seeds, False)


FEW_TOKENS = Study(
    "nonlinear_few_tokens",
    cells=lambda full: grid(case=FEW_CASES, width=(512,)) if full else [],
    measure=_few_token_cell,
    config=lambda full: {"steps": 6, "replicas": 32, "seeds": 64},
)

STUDIES = (NONLINEAR, FEW_TOKENS)
