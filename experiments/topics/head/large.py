"""Heads at larger vocabularies: networks of fresh seeds.

`head_large_rates` is at 4,096 types: the rate of one layer on batches of text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.topics._seeds import run_seed
from experiments.topics._study import Study

from .networks import LAYERS, text_losses

LARGE = 600  # number of the seed in a run
LARGE_WIDTHS: Mapping[str, tuple[int, ...]] = {"m 4096": (64, 128, 256)}

CENTRES: Mapping[str, tuple[float, float, float]] = {
    # Rates at muP's scale that all widths share, near the best of pilot runs at d = 64.
    "m 4096": (0.5, 1.5, 2.0),
    "m 16384": (0.6, 1.5, 2.0),
}
OCTAVES: Mapping[str, tuple[float, ...]] = {
    "m 4096": (-2.0, -1.0, 0.0, 1.0, 2.0),
    "m 16384": (-1.5, -0.5, 0.5, 1.5),
}
STEPS: Mapping[str, int] = {"m 4096": 48, "m 16384": 24}
PLACES = max(map(len, OCTAVES.values()))


def _rate_cell(
    path: str, layer: str, width: int, steps: Mapping[str, int],
    octaves: Mapping[str, Sequence[float]], seeds: int, first_seed: int, seed: int = 0,
) -> Any:  # fmt: skip
    """Losses by place on the grid of one layer's rate and seed, all other rates at `CENTRES`."""
    place = LAYERS.index(layer)
    losses, rates = np.full((PLACES, seeds), np.nan), np.full(PLACES, np.nan)
    for number, octave in enumerate(octaves[path]):
        tried = list(CENTRES[path])
        tried[place] *= 2.0**octave
        rates[number] = tried[place]
        losses[number] = text_losses(
            *(path, width, "adam", "untied", tried, steps[path], seeds, run_seed(seed, first_seed))
        )
    return {"loss": (("place", "seed"), losses), "rate": (("place",), rates)}


HEAD_LARGE_RATES = Study(
    "head_large_rates",
    cells=lambda full: [
        {"path": path, "layer": layer, "width": width}
        for layer in ("head",)
        for path, widths in LARGE_WIDTHS.items()
        for width in (widths if full else ())
    ],
    measure=_rate_cell,
    config=lambda full: {
        "steps": dict(STEPS),
        "octaves": {path: list(octaves) for path, octaves in OCTAVES.items()},
        "seeds": 3,
        "first_seed": LARGE,
    },
)
