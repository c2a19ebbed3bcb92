"""Studies of the life of the LV regime: how a step's update scales as the embedding ages.

Cells train finite networks and, beside them, solve the mean-field equations of the same setup
(`mean_field`, NaN where that is not affordable). Both record the mean square over tokens of
(W_{t+1} - W_t) e_i(t) at projection LR 1, step by step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dynsim import Setup, predict, train
from experiments.topics._seeds import run_seed
from experiments.topics._study import Cell, Study, grid

STILL = 1e-8  # a projection LR that leaves the projection where it was


def _steps(setup: Setup, seeds: int, particles: int) -> dict[str, tuple[Sequence[str], Any]]:
    trained = train(setup, seeds)
    measured = (trained.projection_step_rms[0] / setup.projection_lr) ** 2
    theory = np.full(setup.steps, np.nan)
    if particles:
        solved = predict(setup, particles=particles, replicas=4, error_estimate=False)
        theory = (solved.projection_step_rms[0] / setup.projection_lr) ** 2
    return {
        "mean_square": (("seed", "step"), measured),
        "mean_field": (("step",), theory),
        "loss": (("step",), trained.loss[0].mean(axis=0)),
    }


def _held_projection(width: int, vocab_size: int, outputs: int, steps: int, **fields: Any) -> Setup:
    """A network whose projection stands still; targets are signs for one output, else Gaussian."""
    stated = {
        "tokens": "uniform",
        "targets": "sign" if outputs == 1 else "gaussian",
        "loss": "mse",
        "optimizer": "sign",
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "projection_lr": STILL,
    }
    sizes = {"width": width, "vocab_size": vocab_size, "outputs": outputs, "steps": steps}
    return Setup(**{**sizes, **stated, **fields})


def _age_cell(
    width: int,
    vocab_size: int,
    outputs: int,
    seeds: int,
    steps: int,
    move: float,
    particles: int,
    seed: int = 0,
) -> Any:
    """One network size; the embedding moves by `move` sqrt(outputs) a step."""
    embedding_lr = move * math.sqrt(outputs)
    fields = {"embedding_lr": embedding_lr, "seed": run_seed(seed)}
    setup = _held_projection(width, vocab_size, outputs, steps, **fields)
    return _steps(setup, seeds, particles if outputs == 1 else 0)


def _age_cells(full: bool) -> list[Cell]:
    if not full:
        sizes = [*grid(width=(64, 128, 256), vocab_size=(512, 4096), outputs=(1,))]
        return [*sizes, *grid(width=(256,), vocab_size=(4096,), outputs=(8, 32))]
    one = grid(
        width=(32, 64, 128, 256, 512, 1024), vocab_size=(256, 1024, 4096, 16384), outputs=(1,)
    )
    many = grid(width=(64, 128, 256, 512), vocab_size=(1024, 4096, 16384), outputs=(4, 16, 64))
    return [c for c in (*one, *many) if c["width"] * c["vocab_size"] <= 2**23]


AGE = Study(
    "lv_age",
    cells=_age_cells,
    measure=_age_cell,
    config=lambda full: {
        "seeds": 12 if full else 4,
        "steps": 24,
        "move": 0.015,
        "particles": 2048 if full else 0,
    },
)

VARIANTS: dict[str, dict[str, Any]] = {
    "sign": {},
    "adam": {"optimizer": "adam", "epsilon": 1e-12},
    "smoothed": {"optimizer": "smoothed-sign", "epsilon": 1e-6},
    "batch": {"batch_size": 512, "embedding_lr": 0.04},
    "batch adam": {"batch_size": 512, "steps": 64, "optimizer": "adam"},
    "zipf:0.7": {"tokens": "zipf:0.7"},
    "4 outputs": {"outputs": 4, "embedding_lr": 0.01},
    "rank 4 of 32": {"outputs": 32, "target_rank": 4, "embedding_lr": 0.01},
    "32 outputs": {"outputs": 32, "embedding_lr": 0.03},
}
VARIANT_SIZE = {"width": 256, "vocab_size": 4096, "steps": 32}


def variant_setup(variant: str, seed: int = 0) -> Setup:
    """The setup of a variant: one sign output unless the variant says otherwise."""
    fields = {"outputs": 1, "embedding_lr": 0.005, **VARIANT_SIZE, **VARIANTS[variant]}
    return _held_projection(**fields, seed=run_seed(seed))


def _variant_cell(
    variant: str, seeds: int, particles: int, fields: Mapping[str, Any], seed: int = 0
) -> Any:
    setup = Setup(**{**fields[variant], "seed": run_seed(seed)})
    longest = max(one["steps"] for one in fields.values())
    missing = (0, longest - setup.steps)
    recorded = _steps(setup, seeds, particles if setup.output_count <= 4 else 0)
    return {
        name: (dims, np.pad(values, [(0, 0)] * (len(dims) - 1) + [missing], constant_values=np.nan))
        for name, (dims, values) in recorded.items()
    }


VARIANT = Study(
    "lv_variants",
    cells=lambda full: grid(variant=tuple(VARIANTS)) if full else [],
    measure=_variant_cell,
    config=lambda full: {
        "seeds": 24,
        "particles": 4096,  # every token an actual one
        "fields": {name: dataclasses.asdict(variant_setup(name)) for name in VARIANTS},
    },
)


def _entry_cell(
    embedding_lr: float,
    width: int,
    vocab_size: int,
    seeds: int,
    steps: int,
    projection_lr: float,
    particles: int,
    seed: int = 0,
) -> Any:
    """Zipf tokens; the projection learns the head in steps of the same effect at every width."""
    setup = Setup(
        width=width,
        vocab_size=vocab_size,
        tokens="zipf:1",
        targets="sign",
        optimizer="sign",
        steps=steps,
        embedding_lr=embedding_lr,
        projection_lr=projection_lr / width,
        seed=run_seed(seed),
    )
    return _steps(setup, seeds, particles)


ENTRY = Study(
    "lv_entry",
    cells=lambda full: (
        grid(embedding_lr=(0.0, 0.01), width=(64, 128, 256, 512, 1024)) if full else []
    ),
    measure=_entry_cell,
    config=lambda full: {
        "vocab_size": 4096,
        "projection_lr": 0.1,
        "steps": 128,
        "seeds": 32,
        "particles": 2048,
    },
)

STUDIES = (AGE, VARIANT, ENTRY)
