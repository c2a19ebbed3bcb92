"""Study of the optimal embedding LR / hidden LR in networks with a hidden layer and transformers.

Every network is in the gauge of multipliers one with muP's initial weights. Rates are base rates:
at width d the hidden (and readout) one is the base rate times d_0/d, muP's rule (Muon: times 1),
so that under muP optima stay where they are. Each axis begins with 0, a frozen layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dynsim.laboratory import NetworkSetup, train_networks
from experiments.topics._seeds import run_seed
from experiments.topics._study import Cell, Study, grid

MUP_WEIGHTS: Mapping[str, Any] = {
    "parametrization": "sp",
    "init_exponents": "0,-1/2,-1",
    "lr_exponents": "0,-1,-1",
    "base_width": 32,
}
LARGEST_VOCABULARY = 63_804  # all that byte-pair merges of Python's standard library can fill
# sum_i p_i c_i^2 of the text on which the study was measured, by vocabulary size: byte-pair tokens
# of the standard library of Python 3.11. Another Python has another text.
CORPUS_ALIGNMENT: Mapping[int, float] = {
    256: 0.25472188184613964,
    1024: 0.012092820446262748,
    4096: 0.01715276028429617,
    16384: 0.020163064256240266,
    LARGEST_VOCABULARY: 0.02113597610574935,
}
AXES = ("embedding", "hidden")
RESOLUTION = 2**14  # losses are stored as binary fractions: a third of the space


@dataclass(frozen=True)
class Case:
    """A task: vocabulary as a function of the width, fields of `NetworkSetup`, steps after which
    to evaluate (early, middle, late), widths of the CPU size, seeds, and the first and last
    position of each base rate in octaves."""

    vocab_size: Callable[[int], int]
    fields: Mapping[str, Any]
    horizons: tuple[int, int, int]
    widths: tuple[int, ...]
    seeds: int
    octaves: Mapping[str, tuple[int, int]]

    def setup(self, width: int) -> NetworkSetup:
        sizes = {"width": width, "vocab_size": self.vocab_size(width), "steps": self.horizons[-1]}
        return NetworkSetup(**{**MUP_WEIGHTS, **self.fields, **sizes})

    def positions(self, axis: str) -> list[float]:
        """Octaves of a base rate; the first is a frozen layer."""
        first, last = self.octaves[axis]
        return [-np.inf, *map(float, range(first, last + 1))]


def _synthetic(
    vocab_size: Callable[[int], int],
    widths: tuple[int, ...] = (64, 128, 256),
    **fields: Any,
) -> Case:
    """Embedding and one hidden layer trained, readout frozen; every token type at every step.

    Few outputs: the width must be large against them for a hidden layer to fit its targets.
    """
    shared = {"network": "mlp", "depth": 1, "outputs": 4, "readout_ratio": 0.0}
    octaves = {"embedding": (-6, 1), "hidden": (-6, 3)}
    return Case(vocab_size, {**shared, **fields}, (1, 4, 16), widths, 3, octaves)


CORPUS: Mapping[str, Any] = {
    "depth": 1,
    "targets": "next-token",
    "outputs": 256,
    "batch_size": 512,
}


def _bigram(vocab_size: int) -> Case:
    """Every layer trained on the next token of real text: its 255 most frequent and all others."""
    fields = {**CORPUS, "network": "mlp"}
    octaves = {"embedding": (-7, 0), "hidden": (-8, -1)}
    return Case(lambda _: vocab_size, fields, (10, 30, 100), (32, 64, 128), 2, octaves)


def _transformer(vocab_size: int) -> Case:
    """The same task with 32 tokens of context."""
    fields = {**CORPUS, "network": "transformer", "context": 32}
    octaves = {"embedding": (-6, 0), "hidden": (-10, -4)}
    return Case(lambda _: vocab_size, fields, (10, 25, 50), (32, 64, 128), 2, octaves)


CASES: Mapping[str, Case] = {
    "fixed": _synthetic(lambda _: 16, (64, 128, 256, 512)),
    "proportional": _synthetic(lambda width: 4 * width, (64, 128, 256, 512)),
    "superlinear": _synthetic(lambda width: width**2 // 8),
    "structured": _synthetic(lambda width: 4 * width, target_rank=1),
    "sign": _synthetic(lambda width: 4 * width, optimizer="sign"),
    "muon": _synthetic(lambda width: 4 * width, optimizer="muon", lr_exponents="0,0,-1"),
    **{f"corpus-{m}": _bigram(m) for m in (256, 1024, 4096, 16384, LARGEST_VOCABULARY)},
    **{f"transformer-{m}": _transformer(m) for m in (256, 1024, 4096)},
}


def _cell(case: str, width: int, seeds: int, seed: int = 0) -> Any:
    return case_losses(CASES[case], width, seeds, seed)


def case_losses(task: Case, width: int, seeds: int, seed: int = 0) -> Any:
    """Evaluation losses over both base rates, seeds and horizons (0, 1, 2: early, middle, late),
    as shares of the initial loss and above it cut off, which is all that an optimum needs."""
    setup = replace(task.setup(width), seed=run_seed(seed))
    positions = [task.positions(axis) for axis in AXES]
    count = max(seeds, task.seeds)
    octaves = np.meshgrid(*positions, np.arange(count), indexing="ij")
    embedding, hidden, number = (values.ravel() for values in octaves)
    result = train_networks(
        setup, 2.0**embedding, 2.0**hidden, number.astype(int), horizons=task.horizons
    )
    share = np.nan_to_num(result.loss / result.initial_loss[:, None], nan=1.0, posinf=1.0)
    share = np.round(share.clip(max=1.0) * RESOLUTION) / RESOLUTION
    shape = (*map(len, positions), count, len(task.horizons))
    names = [f"{axis}_octave" for axis in AXES]
    return {
        **{name: ((name,), values) for name, values in zip(names, positions, strict=True)},
        "seed": (("seed",), np.arange(count)),
        "loss": ((*names, "seed", "horizon"), share.reshape(shape).astype(np.float32)),
        "steps": (("horizon",), np.array(task.horizons)),
        "vocab_size": ((), float(setup.vocab_size)),
        "diverged": ((), float(result.diverged.mean())),
    }


def _cells(full: bool) -> list[Cell]:
    """Widths of the CPU size; in the GPU size each case goes on for two doublings."""

    def widths(case: Case) -> tuple[int, ...]:
        return (*case.widths, *(case.widths[-1] * factor for factor in (2, 4) if full))

    return [cell for name, case in CASES.items() for cell in grid(case=[name], width=widths(case))]


OPTIMAL_RATIO = Study(
    "optimal_ratio",
    cells=_cells,
    measure=_cell,
    config=lambda full: {"seeds": 8 if full else 1},
    laboratory=True,
)

STUDIES = (OPTIMAL_RATIO,)
