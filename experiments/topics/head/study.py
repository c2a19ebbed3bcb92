"""Studies of networks with a language-model head: one softmax output per token type.

An mlp with one hidden layer on the byte-pair tokens of real text, whose head is a matrix of its
own (untied) or the embedding itself (tied). `few` is the same network with 16 classes. Learning
rates are muP's: at width d the embedding's is a constant, those of a hidden matrix and of a head of
its own are constants over d, and Muon's of a hidden matrix is a constant. Norm gains are frozen.

Vocabularies are fixed at 1024 types or grow as 8 d. `head_rates` searches rates together,
`head_fixed_rates` each alone, with the others at rates that all widths share. Larger vocabularies
are in `large` and `vocabulary`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dynsim.theory import LOGITS
from experiments.topics._seeds import run_seed
from experiments.topics._study import Cell, Study

from .joint import HEAD_JOINT_LARGE_RATES, HEAD_JOINT_RATES
from .large import HEAD_LARGE_RATES
from .networks import (
    COMMON,
    LAYERS,
    SIZES,
    TRAINED,
    WIDTHS,
    searched_together,
    step_cell,
    text_losses,
    with_derived_step,
)
from .vocabulary import (
    HEAD_KINDS_UPDATES,
    HEAD_VOCABULARY_RATES,
    HEAD_VOCABULARY_UPDATES,
    HEAD_VOCABULARY_UPDATES_AGAIN,
)

HEADS = ("untied", "tied", "few")
MOMENTS = (0, 1, 2, 4, 8, 16, 32)  # steps before the one that is measured
OCTAVES = tuple(range(-3, 4))  # of a rate around where its search begins
START: Mapping[tuple[str, str], tuple[float, float, float]] = {
    ("adam", "untied"): (2.0**-2, 2.0**-1, 2.0**1),
    ("adam", "tied"): (2.0**-1, 2.0**0, 0.0),
    ("muon", "untied"): (2.0**-2, 2.0**-2, 2.0**1),
    ("muon", "tied"): (2.0**-1, 2.0**-1, 0.0),
}


# Update magnitudes.


def _update_cell(
    path: str,
    optimizer: str,
    head: str,
    width: int,
    seeds: int,
    first_seed: int = 0,
    seed: int = 0,
) -> Mapping[str, Any]:
    """Single steps of a network of this kind."""
    rates = TRAINED[optimizer]
    own = run_seed(seed, first_seed)
    return step_cell(path, optimizer, head, width, rates, MOMENTS, seeds, own)


def _update_cells(full: bool) -> list[Cell]:
    widths = (64, 128, 256, 512, 1024, 2048) if full else (32, 64, 128)
    kinds = [("adam", "untied"), ("adam", "few")]
    if full:
        kinds += [("adam", "tied"), ("muon", "untied"), ("muon", "tied")]
    return [
        {"path": path, "optimizer": optimizer, "head": head, "width": width}
        for path in (("proportional", "fixed") if full else ("proportional",))
        for optimizer, head in kinds
        for width in widths
    ]


HEAD_UPDATES = Study(
    "head_updates",
    cells=_update_cells,
    measure=_update_cell,
    config=lambda full: {"seeds": 4},
    labels={"moment": list(MOMENTS), "update": list(SIZES)},
    laboratory=True,
)


# Optimal rates.


def _rate_cell(
    path: str, optimizer: str, head: str, width: int, steps: int, seeds: int, seed: int = 0
) -> Mapping[str, Any]:
    """Losses and rates of a search of all layers' rates together, from `START`."""
    own = run_seed(seed)
    start = START[optimizer, head]
    return searched_together(path, optimizer, head, width, start, OCTAVES, steps, seeds, own)


def _rate_cells(full: bool) -> list[Cell]:
    widths = (64, 128, 256, 512, 1024, 2048) if full else (32, 64, 128)
    return [
        {"path": path, "optimizer": optimizer, "head": head, "width": width}
        for path in (("proportional", "fixed") if full else ("proportional",))
        for optimizer in (TRAINED if full else ("adam",))
        for head in (HEADS[:2] if full else ("untied",))
        for width in widths
    ]


HEAD_RATES = Study(
    "head_rates",
    cells=_rate_cells,
    measure=_rate_cell,
    config=lambda full: {"steps": 256 if full else 48, "seeds": 8 if full else 2},
    labels={"layer": list(LAYERS), "octave": list(OCTAVES)},
    laboratory=True,
)


# At one vocabulary, with random numbers of their own.

FRESH = 500  # number of the seed in a run
KINDS = (
    ("adam", "untied"),
    ("adam", "few"),
    ("adam", "tied"),
    ("muon", "untied"),
    ("muon", "tied"),
)


def _fixed_update_cell(width: int, **cell: Any) -> Mapping[str, Any]:
    """The same, and what is derived for the first step of a head below embeddings."""
    return with_derived_step(_update_cell(width=width, **cell), width)


HEAD_FIXED_UPDATES = Study(
    "head_fixed_updates",
    cells=lambda full: [
        {"path": "fixed", "optimizer": optimizer, "head": head, "width": width}
        for optimizer, head in KINDS
        for width in (WIDTHS if full else ())
    ],
    measure=_fixed_update_cell,
    config=lambda full: {"seeds": 4, "first_seed": FRESH},
    labels={"moment": list(MOMENTS), "update": list(SIZES), "logits": list(LOGITS)},
)

LONG = 192
CASES: Mapping[str, tuple[str, str, str, int]] = {
    # optimizer, head, layer whose rate is searched, steps
    "head": ("adam", "untied", "head", 48),
    "head, long": ("adam", "untied", "head", LONG),
    "head, muon": ("muon", "untied", "head", 48),
    "tied, muon": ("muon", "tied", "embedding", 48),
    "tied, muon, hidden": ("muon", "tied", "hidden", 48),
    "embedding, muon": ("muon", "untied", "embedding", 48),
}


def _alone_cell(
    case: str, width: int, octaves: Sequence[int], seeds: int, first_seed: int, seed: int = 0
) -> Mapping[str, Any]:
    """Losses on text not trained on, by octave of one layer's rate, all others at `COMMON`."""
    optimizer, head, layer, steps = CASES[case]
    place = LAYERS.index(layer)
    rates = COMMON[optimizer, head][place] * 2.0 ** np.array(octaves, float)
    losses = np.empty((len(octaves), seeds))
    for number, rate in enumerate(rates):
        tried = list(COMMON[optimizer, head])
        tried[place] = float(rate)
        losses[number] = text_losses(
            "fixed", width, optimizer, head, tried, steps, seeds, run_seed(seed, first_seed)
        )
    return {"loss": (("octave", "seed"), losses), "rate": (("octave",), rates)}


HEAD_FIXED_RATES = Study(
    "head_fixed_rates",
    cells=lambda full: [
        {"case": case, "width": width} for case in CASES for width in (WIDTHS if full else ())
    ],
    measure=_alone_cell,
    config=lambda full: {"octaves": [-2, -1, 0, 1, 2], "seeds": 4, "first_seed": FRESH},
    labels={"octave": [-2, -1, 0, 1, 2]},
)

# A claim that four networks had left undecided under every fresh seed, with other and more ones.
LONG_SEED = 560  # number of the first seed in a run

HEAD_LONG_RATES = Study(
    "head_long_rates",
    cells=lambda full: [
        {"case": "head, long", "width": width} for width in (WIDTHS if full else ())
    ],
    measure=_alone_cell,
    config=lambda full: {**HEAD_FIXED_RATES.config(full), "seeds": 16, "first_seed": LONG_SEED},
    labels=HEAD_FIXED_RATES.labels,
)

STUDIES = (
    HEAD_UPDATES,
    HEAD_RATES,
    HEAD_FIXED_UPDATES,
    HEAD_FIXED_RATES,
    HEAD_LONG_RATES,
    HEAD_LARGE_RATES,
    HEAD_VOCABULARY_UPDATES,
    HEAD_VOCABULARY_UPDATES_AGAIN,
    HEAD_VOCABULARY_RATES,
    HEAD_JOINT_RATES,
    HEAD_KINDS_UPDATES,
    HEAD_JOINT_LARGE_RATES,
)
