"""Heads at 1,024, 4,096 and 16,384 types: single steps and the head's best rate, side by side;
single steps of tied heads and below Muon at the largest.

Networks and learning rates are those of `study`; all vocabularies share the rates of the other
layers, the number of steps and the seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dynsim.theory import LOGITS
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study

from .networks import SIZES, TRAINED, step_cell, text_losses, with_derived_step

SEED = 700  # number of the seed in a run
WIDTHS = (64, 128, 256)
MOMENTS = (0, 2, 8)  # steps before the one that is measured
STEPS_OF = ("m 4096", "m 16384")
KINDS, KINDS_SEED = (("adam", "tied"), ("muon", "untied"), ("muon", "tied")), 750

SHORT, LONG = 48, 192
CASES: Mapping[str, tuple[str, int]] = {  # vocabulary, steps
    "m 1024": ("fixed", SHORT),
    "m 4096": ("m 4096", SHORT),
    "m 16384": ("m 16384", SHORT),
    "m 4096, long": ("m 4096", LONG),
}
COMMON = (0.5, 1.5)  # rates of embedding and hidden matrix at muP's scale
CENTRE = 2.5  # the middle of the rates of the head that are tried
OCTAVES = (-2, -1, 0, 1, 2)


def _kind_cell(
    path: str, optimizer: str, head: str, width: int, seeds: int, first_seed: int, seed: int = 0
) -> Mapping[str, Any]:
    """Single full-batch steps."""
    own = run_seed(seed, first_seed)
    return step_cell(path, optimizer, head, width, TRAINED[optimizer], MOMENTS, seeds, own)


def _step_cell(width: int, **cell: Any) -> Mapping[str, Any]:
    """The same, and the derived RMS of the first one below embeddings."""
    return with_derived_step(_kind_cell(width=width, **cell), width)


HEAD_VOCABULARY_UPDATES = Study(
    "head_vocabulary_updates",
    cells=lambda full: [
        {"path": path, "optimizer": "adam", "head": "untied", "width": width}
        for path in STEPS_OF
        for width in (WIDTHS if full else ())
    ],
    measure=_step_cell,
    config=lambda full: {"seeds": 3, "first_seed": SEED},
    labels={"moment": list(MOMENTS), "update": list(SIZES), "logits": list(LOGITS)},
)


# A claim that three networks had left undecided under every fresh seed, with other and more ones.
AGAIN_SEED = 780  # number of the first seed in a run

HEAD_VOCABULARY_UPDATES_AGAIN = Study(
    "head_vocabulary_updates_again",
    cells=lambda full: [
        {"path": "m 16384", "optimizer": "adam", "head": "untied", "width": width}
        for width in (WIDTHS if full else ())
    ],
    measure=_step_cell,
    config=lambda full: {"seeds": 9, "first_seed": AGAIN_SEED},
    labels=HEAD_VOCABULARY_UPDATES.labels,
)

HEAD_KINDS_UPDATES = Study(
    "head_kinds_updates",
    cells=lambda full: [
        {"path": "m 16384", "optimizer": optimizer, "head": head, "width": width}
        for optimizer, head in KINDS
        for width in (WIDTHS if full else ())
    ],
    measure=_kind_cell,
    config=lambda full: {"seeds": 3, "first_seed": KINDS_SEED},
    labels={"moment": list(MOMENTS), "update": list(SIZES)},
)


def _rate_cell(
    case: str, width: int, octaves: Sequence[int], seeds: int, first_seed: int, seed: int = 0
) -> Mapping[str, Any]:
    """Losses on text not trained on, by octave of the head's rate, all others at `COMMON`."""
    path, steps = CASES[case]
    rates = CENTRE * 2.0 ** np.array(octaves, float)
    losses = [
        text_losses(
            *(path, width, "adam", "untied", (*COMMON, float(rate))),
            *(steps, seeds, run_seed(seed, first_seed)),
        )
        for rate in rates
    ]
    return {"loss": (("octave", "seed"), np.array(losses)), "rate": (("octave",), rates)}


HEAD_VOCABULARY_RATES = Study(
    "head_vocabulary_rates",
    cells=lambda full: [
        {"case": case, "width": width} for case in CASES for width in (WIDTHS if full else ())
    ],
    measure=_rate_cell,
    config=lambda full: {"octaves": list(OCTAVES), "seeds": 6, "first_seed": SEED},
    labels={"octave": list(OCTAVES)},
)
