"""Heads at larger vocabularies: networks of fresh seeds.

`head_large_updates` and `head_large_rates` are at 4,096 and 16,384 types: single steps on the whole
law, and the rate of one layer at a time on batches of text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dynsim import token_law
from dynsim.laboratory import train_networks
from dynsim.laboratory._columns import run_columns
from dynsim.laboratory._training import trained_networks
from dynsim.theory import LOGITS, first_step, head_step
from dynsim.tokens import bigrams_of
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study

from .networks import (
    LAYERS,
    SIZES,
    Floats,
    ends_of,
    network,
    relative_losses,
    single_steps,
)

LARGE = 600  # number of the seed in a run
LARGE_WIDTHS: Mapping[str, tuple[int, ...]] = {
    "m 4096": (64, 128, 256),
    "m 16384": (64, 128, 256),
}
LARGE_MOMENTS: Mapping[str, tuple[int, ...]] = {
    "m 4096": (0, 1, 2, 4, 8),
    "m 16384": (0, 1, 2),
}
ALL_MOMENTS = LARGE_MOMENTS["m 4096"]
STEP_RATES = (0.03, 0.3, 0.3)
"""of embedding, hidden matrix and head at muP's scale, in single steps"""


def _step_cell(
    path: str, width: int, moments: Mapping[str, Sequence[int]], seeds: int, first_seed: int,
    seed: int = 0,
) -> Any:  # fmt: skip
    """Mean squares of single Adam steps, and what is derived for the first of a head below
    embeddings, from the text's bigrams and (wrong on purpose) from the number of types alone."""
    asked = moments[path]
    setup = network(
        path,
        width,
        "adam",
        "untied",
        STEP_RATES,
        targets="bigram",
        steps=asked[-1] + 1,
        seed=run_seed(seed, first_seed),
    )
    runs = trained_networks(setup, run_columns(setup, seeds=seeds), ends_of(asked))
    found = single_steps(setup, asked, seeds, runs)
    dims, size = found["size"]
    # Moments that this vocabulary lacks stay without a number.
    padded = np.full((seeds, len(ALL_MOMENTS), len(SIZES)), np.nan)
    padded[:, [ALL_MOMENTS.index(moment) for moment in asked]] = size
    law = token_law("corpus", setup.vocab_size)
    bigrams = bigrams_of("bigram", law, law.vocab_size)
    derived = head_step("head", "sign", width, law, bigrams).rms[:, 0]
    alike = first_step("projection", "sign", width, token_law("uniform", law.vocab_size)).rms
    return {
        "size": (dims, padded),
        "vocab_size": found["vocab_size"],
        "derived_rms": (("logits",), derived),
        "uniform_rms": ((), float(alike)),
    }


HEAD_LARGE_UPDATES = Study(
    "head_large_updates",
    cells=lambda full: [
        {"path": path, "width": width}
        for path, widths in LARGE_WIDTHS.items()
        for width in (widths if full else ())
    ],
    measure=_step_cell,
    config=lambda full: {
        "moments": {path: list(moments) for path, moments in LARGE_MOMENTS.items()},
        "seeds": 3,
        "first_seed": LARGE,
    },
    labels={"moment": list(ALL_MOMENTS), "update": list(SIZES), "logits": list(LOGITS)},
)


def _text_losses(
    path: str,
    width: int,
    optimizer: str,
    head: str,
    rates: Sequence[float],
    steps: int,
    seeds: int,
    seed: int,
) -> Floats:
    """Losses on text not trained on over initial ones, by seed."""
    setup = network(
        path,
        width,
        optimizer,
        head,
        (rates[0], rates[1], rates[2]),
        targets="next-token",
        batch_size=512,
        steps=steps,
        schedule="linear",
        seed=seed,
    )
    return relative_losses(train_networks(setup, seeds=seeds))


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
        losses[number] = _text_losses(
            *(path, width, "adam", "untied", tried, steps[path], seeds, run_seed(seed, first_seed))
        )
    return {"loss": (("place", "seed"), losses), "rate": (("place",), rates)}


HEAD_LARGE_RATES = Study(
    "head_large_rates",
    cells=lambda full: [
        {"path": path, "layer": layer, "width": width}
        for layer in ("head", "embedding")
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
