"""Study that races rules for the embedding's learning rate: tuned at a small width, run at a large.

All networks have muP's initial weights, in the gauge of multipliers one. Embedding and hidden
(readout) rates are tuned together on a grid at `SMALL`; each rule says by what they are multiplied
at the large width, and the same grid is searched there as well, which no rule can know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim import LayerValues, recommend
from dynsim.laboratory import NetworkSetup, NetworkTraining, train_networks
from experiments.topics._seeds import run_seed
from experiments.topics._study import SYMPY, Cell, Study, grid
from experiments.topics.optimal_ratio.study import AXES, CORPUS, MUP_WEIGHTS

SMALL = 32
LARGE = {False: 256, True: 1024}
TUNING_SEEDS = 3

RULES: Mapping[str, str] = {
    "mup": "x width: embedding 1, hidden 1/d",
    "lv": "sqrt(d), slower embedding, which is u-muP too: embedding d^-1/2, hidden 1/d",
    "lv-hidden": "sqrt(d), faster hidden: embedding 1, hidden d^-1/2",
    "interpolated": "ratio interpolated by token law, slower embedding",
    "interpolated-hidden": "ratio interpolated by token law, faster hidden",
    "global": "no rule: both as at the small width",
}

_SYNTHETIC = {"network": "mlp", "depth": 1, "outputs": 16}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "unstructured": {**_SYNTHETIC, "vocab_size": 1024, "steps": 16},
    "structured": {**_SYNTHETIC, "vocab_size": 1024, "steps": 16, "target_rank": 2},
    "corpus-mlp": {**CORPUS, "network": "mlp", "vocab_size": 4096, "steps": 100},
    "corpus-transformer": {
        **CORPUS,
        "network": "transformer",
        "context": 32,
        "vocab_size": 4096,
        "steps": 100,
    },
}
OCTAVES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "mlp": {"embedding": (-7, 0), "hidden": (-8, -1)},
    "transformer": {"embedding": (-6, 0), "hidden": (-9, -4)},
}


def rule_factors(rule: str, setup: NetworkSetup) -> LayerValues:
    """By what a rule multiplies learning rates from `SMALL` to the setup's width, layer by layer,
    in the gauge of multipliers one."""
    if rule == "global":
        return LayerValues(1.0, 1.0, 1.0, 1.0)
    name, _, faster = rule.partition("-")
    answer = recommend(
        setup.width,
        SMALL,
        setup.vocab_size,
        setup.law(),
        "sp",
        setup.optimizer,
        anchor="embedding" if faster else "hidden",
    )
    return getattr(answer, name).factors


def _raced(setup: NetworkSetup, factors: LayerValues, tuned: Any, seeds: Any) -> NetworkTraining:
    """Networks whose tuned rates are multiplied layer by layer."""
    ratios = replace(
        setup,
        readout_ratio=factors.readout / factors.hidden,
        vector_ratio=factors.vector / factors.embedding,
    )
    return train_networks(ratios, tuned[0] * factors.embedding, tuned[1] * factors.hidden, seeds)


def _losses(
    setup: NetworkSetup, octaves: Mapping[str, tuple[int, int]], seeds: int
) -> tuple[list[Any], Any]:
    """Base rates of both axes and final losses (K_E, K_H, seed), infinite where diverged."""
    axes = [2.0 ** np.arange(octaves[axis][0], octaves[axis][1] + 1) for axis in AXES]
    rates = np.meshgrid(*axes, np.arange(seeds), indexing="ij")
    embedding, hidden, seed = (values.ravel() for values in rates)
    result = train_networks(setup, embedding, hidden, seed)
    shape = (*map(len, axes), seeds)
    loss = np.where(np.isfinite(result.loss[:, -1]), result.loss[:, -1], np.inf)
    return axes, loss.reshape(shape)


def race_setup(task: str, width: int, seed: int = 0) -> NetworkSetup:
    """The network of one task."""
    fields = {**MUP_WEIGHTS, "lr_exponents": "0,0,0", "base_width": SMALL, **TASKS[task]}
    return NetworkSetup(width=width, seed=seed, **fields)


def _cell(task: str, seeds: int, width: int, seed: int = 0) -> Any:
    small = race_setup(task, SMALL, run_seed(seed))
    return raced(small, width, OCTAVES[small.network], seeds)


def raced(
    small: NetworkSetup, width: int, octaves: Mapping[str, tuple[int, int]], seeds: int
) -> Any:
    """One task: tuning at `SMALL`, every rule at `width`, and the grid at `width`.

    Rates are actual ones, the same for all layers but the embedding. `octaves` are the first and
    last of each axis.
    """
    large = replace(small, width=width)
    axes, tuning = _losses(small, octaves, TUNING_SEEDS)
    best = np.unravel_index(np.argmin(tuning.mean(axis=-1)), tuning.shape[:2])
    tuned = np.array([axis[place] for axis, place in zip(axes, best, strict=True)])
    with SYMPY:
        factors = [rule_factors(rule, large) for rule in RULES]
    # Seeds of the race are none of those that the rates were tuned on.
    race = [_raced(large, by, tuned, TUNING_SEEDS + np.arange(seeds)) for by in factors]
    shift = round(np.log2(width / SMALL))  # muP's rule moves the hidden axis by so many octaves
    moved = {**octaves, "hidden": tuple(place - shift for place in octaves["hidden"])}
    searched, tuning_there = _losses(large, moved, TUNING_SEEDS)
    positions = {
        name: ((name,), np.arange(size))
        for name, size in {
            "position": max(map(len, axes)),
            "embedding_position": len(axes[0]),
            "hidden_position": len(axes[1]),
        }.items()
    }
    return {
        **positions,
        "tuning_rate": (("axis", "position"), _padded(axes)),
        "tuning_loss": (("embedding_position", "hidden_position", "tuning_seed"), tuning),
        "tuned_rate": (("axis",), tuned),
        "tuned_inside": (
            (),
            all(0 < place < len(axis) - 1 for axis, place in zip(axes, best, strict=True)),
        ),
        "factor": (("rule", "axis"), [[by.embedding, by.hidden] for by in factors]),
        "loss": (("rule", "seed"), [result.loss[:, -1] for result in race]),
        "initial_loss": (("seed",), race[0].initial_loss),
        "searched_rate": (("axis", "position"), _padded(searched)),
        "searched_loss": (
            ("embedding_position", "hidden_position", "tuning_seed"),
            tuning_there,
        ),
    }


def _padded(axes: list[Any]) -> Any:
    longest = max(map(len, axes))
    return np.stack(
        [np.pad(axis, (0, longest - len(axis)), constant_values=np.nan) for axis in axes]
    )


def _cells(full: bool) -> list[Cell]:
    return grid(task=TASKS)


RACE = Study(
    "race",
    cells=_cells,
    measure=_cell,
    config=lambda full: {"seeds": 16 if full else 8, "width": LARGE[full]},
    labels={"rule": list(RULES), "axis": list(AXES)},
    laboratory=True,
)

STUDIES = (RACE,)
