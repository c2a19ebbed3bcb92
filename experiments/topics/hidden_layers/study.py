"""The study of linear hidden layers: mean-field predictions beside finite networks, case by case.

Cells hold the predictions with their numerical errors, the negative control without responses, and
every seed of the networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim import predict
from dynsim.laboratory import NetworkSetup, train_networks
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

UPDATES = ["projection_update_rms", "embedding_update_rms", "projection_step_rms"]
WIDTH = 256
MOST_LAYERS = 4

# Learning rates are those at this width; the readout starts with 1/width, or 1/sqrt(width) for SP.
PLAIN: Mapping[str, Any] = {"residual": "no"}
SP: Mapping[str, Any] = {"init_exponents": "0,-1/2,-1/2"}
CLASSES: Mapping[str, Any] = {"targets": "onehot", "loss": "ce"}
FAST: Mapping[str, Any] = {"embedding_lr": 0.02, "hidden_lr": 0.002, "readout_ratio": 0.5}
# (tokens over width, what differs)
CASES: Mapping[str, tuple[float, Mapping[str, Any]]] = {
    "1 layer, sign": (4, {"depth": 1, "outputs": 2, **FAST}),
    "1 layer, hidden alone": (
        1,
        {"depth": 1, "embedding_lr": 0.0, "hidden_lr": 0.004, "readout_ratio": 0.0, **SP},
    ),
    "2 layers, oscillating": (
        4,
        {"depth": 2, "embedding_lr": 0.08, "hidden_lr": 0.006, "readout_ratio": 1.0},
    ),
    "2 plain layers, few tokens, Adam": (
        1 / 16,
        {"depth": 2, "outputs": 2, "optimizer": "adam", **PLAIN, **FAST},
    ),
    "4 layers, SP, Muon": (
        4,
        {
            "depth": 4,
            "optimizer": "muon",
            "embedding_lr": 0.02,
            "hidden_lr": 0.02,
            "readout_ratio": 0.1,
            **SP,
        },
    ),
    "1 layer, many tokens, Zipf 1.2, SGD": (
        32,
        {
            "depth": 1,
            "tokens": "zipf:1.2",
            "outputs": 4,
            "optimizer": "sgd",
            "embedding_lr": 10.0,
            "hidden_lr": 0.1,
            "readout_ratio": 0.2,
            **CLASSES,
        },
    ),
    "4 plain layers, mini-batch, Zipf 1, Adam": (
        8,
        {
            "depth": 4,
            "tokens": "zipf:1",
            "outputs": 2,
            "optimizer": "adam",
            "beta2": 0.95,
            "batch_size": 256,
            **PLAIN,
            **FAST,
        },
    ),
    "2 plain layers, Zipf 1, Muon": (
        16,
        {
            "depth": 2,
            "tokens": "zipf:1",
            "outputs": 4,
            "optimizer": "muon",
            "embedding_lr": 0.02,
            "hidden_lr": 0.1,
            "readout_ratio": 0.01,
            **CLASSES,
            **PLAIN,
        },
    ),
    "3 layers, momentum": (
        1,
        {
            "depth": 3,
            "optimizer": "momentum",
            "beta1": 0.8,
            "embedding_lr": 5.0,
            "hidden_lr": 0.03,
            "readout_ratio": 0.1,
        },
    ),
    "2 layers, cosine, AdamW": (
        4,
        {"depth": 2, "optimizer": "adamw", "weight_decay": 1.0, "schedule": "cosine", **FAST},
    ),
    "1 plain layer, smoothed sign": (
        1 / 4,
        {"depth": 1, "outputs": 2, "optimizer": "smoothed-sign", "epsilon": 1e-5, **PLAIN, **FAST},
    ),
    "1 layer, corpus": (
        4,
        {"depth": 1, "tokens": "corpus", "targets": "bigram", "outputs": 8, **FAST},
    ),
}


def case_setup(case: str, steps: int, seed: int = 0) -> NetworkSetup:
    """A case at the width of the study, whose learning rates are those of this width."""
    ratio, fields = CASES[case]
    setup = NetworkSetup(
        network="mlp",
        activation="identity",
        normalisation="none",
        precision="float64",
        width=WIDTH,
        base_width=1,
        vocab_size=round(ratio * WIDTH),
        init_exponents="0,-1/2,-1",
        lr_exponents="0,0,0",
        optimizer="sign",
        steps=steps,
        seed=run_seed(seed),
    )
    return replace(setup, **fields)


def _measure(
    case: str, width: int, steps: int, particles: int, replicas: int, seeds: int, seed: int = 0
) -> Mapping[str, tuple[Sequence[str], Any]]:
    """Prediction, control and every network's curve; layers that a case has not are NaN."""
    assert width == WIDTH
    setup = case_setup(case, steps, seed)
    solver: dict[str, Any] = {"particles": particles, "replicas": replicas}
    found = predict(setup, **solver)
    control = predict(setup, responses=False, finite_width=False, error_estimate=False, **solver)
    networks = train_networks(setup, seeds=seeds, horizons=range(1, steps), record_updates=True)
    losses = np.hstack([networks.initial_loss[:, None], networks.loss])
    assert found.hidden_update_rms is not None
    assert found.hidden_update_rms_error is not None
    assert networks.hidden_update_rms is not None
    hidden = np.moveaxis(networks.hidden_update_rms, 2, 0)
    squares = np.stack([*(getattr(networks, name) for name in UPDATES), *_filled(hidden)]) ** 2

    def curves(suffix: str = "") -> np.ndarray:
        layers = getattr(found, f"hidden_update_rms{suffix}")[0].T
        return np.stack([*(getattr(found, n + suffix)[0] for n in UPDATES), *_filled(layers)])

    return {
        "predicted": (("step",), found.loss[0]),
        "predicted_error": (("step",), found.loss_error[0]),
        "correction": (("step",), found.finite_width_correction[0]),
        "without_responses": (("step",), control.loss[0]),
        "predicted_rms": (("update", "step"), curves()),
        "predicted_rms_error": (("update", "step"), curves("_error")),
        "loss": (("step", "seed"), losses.T.astype(np.float32)),
        "mean_square": (("update", "step", "seed"), squares.swapaxes(1, 2).astype(np.float32)),
    }


def _filled(layers: np.ndarray) -> np.ndarray:
    """Layers first, `MOST_LAYERS` of them."""
    missing = [(0, MOST_LAYERS - len(layers))] + [(0, 0)] * (layers.ndim - 1)
    return np.pad(layers, missing, constant_values=np.nan)


HIDDEN_LAYERS = Study(
    "hidden_layers",
    cells=lambda full: grid(case=CASES, width=(WIDTH,)) if full else [],
    measure=_measure,
    config=lambda full: {"steps": 12, "particles": 1024, "replicas": 16, "seeds": 16},
    labels={"update": [*UPDATES, *(f"hidden_{layer}" for layer in range(1, MOST_LAYERS + 1))]},
)
STUDIES = (HIDDEN_LAYERS,)
