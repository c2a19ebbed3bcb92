"""Studies of the life of the LV regime: how a step's update scales as the embedding ages.

Cells train finite networks and, beside them, solve the mean-field equations of the same setup
(`mean_field`, NaN where that is not affordable). Both record the mean square over tokens of
(W_{t+1} - W_t) e_i(t) at projection LR 1, step by step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
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
        return grid(width=(64, 128, 256), vocab_size=(512, 4096), outputs=(1,))
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

ZIPF_MOVE, ZIPF_STEPS = 0.005, 32


def zipf_setup(width: int, seed: int = 0) -> Setup:
    """One output, and tokens of which some are often seen and others seldom."""
    fields = {"tokens": "zipf:0.7", "embedding_lr": ZIPF_MOVE, "seed": run_seed(seed)}
    return _held_projection(width, 4096, 1, ZIPF_STEPS, **fields)


def _zipf_cell(width: int, seeds: int, particles: int, fields: object, seed: int = 0) -> Any:
    return _steps(zipf_setup(width, seed), seeds, particles)


ZIPF = Study(
    "lv_zipf",
    cells=lambda full: grid(width=(256,)) if full else [],
    measure=_zipf_cell,
    config=lambda full: {
        "seeds": 24,
        "particles": 4096,  # every token an actual one
        "fields": dataclasses.asdict(zipf_setup(256)),
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

STUDIES = (AGE, ZIPF, ENTRY)
