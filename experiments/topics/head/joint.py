"""Rates of a head's layers searched together: at 1,024 and 16,384 types and along m = 8 d."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.topics._seeds import run_seed
from experiments.topics._study import Study

from .networks import COMMON, LAYERS, searched_together

SEED, LARGE_SEED = 800, 850  # numbers of the seeds in a run
WIDTHS = (64, 128, 256)
OCTAVES = (-2, -1, 0, 1, 2)
KINDS = (
    ("fixed", "adam", "untied"),
    ("fixed", "adam", "tied"),
    ("proportional", "adam", "tied"),
    ("proportional", "muon", "untied"),
    ("proportional", "muon", "tied"),
)
LARGE_KINDS = (
    ("m 16384", "adam", "untied"),
    ("m 16384", "adam", "tied"),
    ("m 16384", "muon", "untied"),
    ("m 16384", "muon", "tied"),
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


def _study(name: str, kinds: Sequence[tuple[str, str, str]], seed: int) -> Study:
    return Study(
        name,
        cells=lambda full: [
            {"path": path, "optimizer": optimizer, "head": head, "width": width}
            for path, optimizer, head in kinds
            for width in (WIDTHS if full else ())
        ],
        measure=_cell,
        config=lambda full: {"octaves": list(OCTAVES), "steps": 48, "seeds": 3, "first_seed": seed},
        labels={"layer": list(LAYERS), "octave": list(OCTAVES)},
    )


HEAD_JOINT_RATES = _study("head_joint_rates", KINDS, SEED)
HEAD_JOINT_LARGE_RATES = _study("head_joint_large_rates", LARGE_KINDS, LARGE_SEED)
