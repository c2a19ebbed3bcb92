"""Rates of a head's layers searched together: at 1,024 types and along m = 8 d, tied and untied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.topics._seeds import run_seed
from experiments.topics._study import Study

from .networks import COMMON, LAYERS, searched_together

SEED = 800  # number of the seed in a run
WIDTHS = (64, 128, 256)
OCTAVES = (-2, -1, 0, 1, 2)
KINDS = (
    ("fixed", "adam", "untied"),
    ("fixed", "adam", "tied"),
    ("proportional", "adam", "tied"),
    ("proportional", "muon", "untied"),
    ("proportional", "muon", "tied"),
)


def _cell(
    path: str,
    optimizer: str,
    head: str,
    width: int,
    octaves: Sequence[int],
    steps: int,
    seeds: int,
    first_seed: int,
    seed: int = 0,
) -> Mapping[str, Any]:
    """Losses and rates of a search of all layers' rates together, from `COMMON`."""
    own, start = run_seed(seed, first_seed), COMMON[optimizer, head]
    return searched_together(path, optimizer, head, width, start, octaves, steps, seeds, own)


HEAD_JOINT_RATES = Study(
    "head_joint_rates",
    cells=lambda full: [
        {"path": path, "optimizer": optimizer, "head": head, "width": width}
        for path, optimizer, head in KINDS
        for width in (WIDTHS if full else ())
    ],
    measure=_cell,
    config=lambda full: {"octaves": list(OCTAVES), "steps": 48, "seeds": 3, "first_seed": SEED},
    labels={"layer": list(LAYERS), "octave": list(OCTAVES)},
)
