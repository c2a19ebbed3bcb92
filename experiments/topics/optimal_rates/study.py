"""Studies of optimal learning rates: losses over rates, horizons and widths.

Each cell is measured by mean-field theory (`theory`) or by training finite networks (`networks`)
on the same tasks: seed k has its own targets and weights. Losses are in units of the initial one
and above it cut off, which is all that an optimum needs. Rates are powers of two around the first
step's closed-form optimum, which only places the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim import Setup, optimal_learning_rates, predict, train
from experiments.topics._seeds import run_seed
from experiments.topics._study import SYMPY, Cell, Study


@dataclass(frozen=True)
class Family:
    """Sizes (vocabulary as a function of width) and fields of `Setup` that differ from sign
    descent on unstructured targets."""

    vocab_size: Callable[[int], int]
    fields: Mapping[str, Any] = field(default_factory=dict)

    def setup(self, width: int, steps: int) -> Setup:
        fields = {"optimizer": "sign", "epsilon": 1e-8, **self.fields}
        return Setup(width=width, vocab_size=self.vocab_size(width), steps=steps, **fields)


def _fixed(_width: int) -> int:
    return 16


def _proportional(width: int) -> int:
    return 4 * width


def _superlinear(width: int) -> int:
    return round(width**1.5)


SP = {"init": "sp"}
FAMILIES = {
    "fixed": Family(_fixed),
    "proportional": Family(_proportional),
    "superlinear": Family(_superlinear),
    "fixed-sp": Family(_fixed, SP),
    "proportional-sp": Family(_proportional, SP),
    "adam": Family(_proportional, {"optimizer": "adam"}),
    "unstructured": Family(_proportional, {"outputs": 8}),
    "structured": Family(_proportional, {"outputs": 8, "target_rank": 1}),
}

THEORY_WIDTHS = (64, 128, 256, 512, 1024, 4096, 16384)
NETWORK_WIDTHS = {"fixed": (64, 256, 1024, 4096), "fixed-sp": (64, 256, 1024, 4096), "adam": ()}
LAYERWISE = ("fixed", "proportional", "superlinear", "fixed-sp", "proportional-sp", "adam")
JOINT = ("proportional", "proportional-sp", "fixed", "unstructured", "structured")


RESOLUTION = 2**11


def _losses(
    setup: Setup,
    rates: NDArray[np.float64],
    source: str,
    seeds: int,
    networks: int,
    particles: int,
    seed: int,
) -> NDArray[np.float32]:
    """Relative losses (seed, pair, step) at pairs of rates of shape (2, pairs).

    A seed is a task; its loss is a mean over `networks`, or over the solver's two replicas.
    """
    pairs: Any = {"embedding_lrs": rates[0], "projection_lrs": rates[1]}
    rows = []
    for task in (replace(setup, seed=run_seed(seed, number)) for number in range(seeds)):
        if source == "theory":
            solved = predict(task, particles=particles, replicas=2, error_estimate=False, **pairs)
            loss = solved.loss
        else:
            loss = train(task, networks, record_updates=False, **pairs).loss.mean(axis=1)
        rows.append(np.nan_to_num(loss / loss[0, 0], nan=1.0, posinf=1.0))
    # Binary fractions are stored in a third of the space; 5e-4 is far below an optimum's noise.
    return (np.round(np.minimum(rows, 1.0) * RESOLUTION) / RESOLUTION).astype(np.float32)


def _positions(low: float, high: float, per_octave: int) -> NDArray[np.float64]:
    return np.arange(round(low * per_octave), round(high * per_octave) + 1) / per_octave


def _grids(setup: Setup, *octaves: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Rates of the embedding and of the projection at positions in octaves from their centres."""
    with SYMPY:
        centres = optimal_learning_rates(setup.width, setup.law(), init=setup.init)
    return [
        float(centre) * 2.0**position for centre, position in zip(centres, octaves, strict=True)
    ]


LAYER_OCTAVES = _positions(-5, 1, 3)


def _layer_cell(
    family: str,
    source: str,
    width: int,
    horizons: list[int],
    seeds: int,
    networks: int,
    particles: int,
    seed: int = 0,
) -> Any:
    """Each layer trained with the other frozen."""
    setup = FAMILIES[family].setup(width, max(horizons) + 1)
    rates = np.stack(_grids(setup, LAYER_OCTAVES, LAYER_OCTAVES))
    losses = [
        _losses(
            setup,
            rates * np.array([[layer == 0], [layer == 1]]),
            source,
            seeds,
            networks,
            particles,
            seed,
        )
        for layer in (0, 1)
    ]
    loss = np.stack(losses)[..., horizons]  # (layer, seed, position, horizon)
    return {
        "loss": (("layer", "seed", "octave", "horizon"), loss),
        "rate": (("layer", "octave"), rates),
        "vocab_size": ((), float(setup.vocab_size)),
    }


Sizes = Mapping[str, tuple[int, ...]]


def _layer_cells(full: bool) -> list[Cell]:
    if not full:
        return []
    networks: Sizes = {
        family: NETWORK_WIDTHS.get(family, (64, 128, 256, 512)) for family in LAYERWISE
    }
    return _by_source(dict.fromkeys(LAYERWISE, THEORY_WIDTHS), networks)


def _by_source(theory: Sizes, networks: Sizes) -> list[Cell]:
    return [
        {"family": family, "source": source, "width": width}
        for source, sizes in (("theory", theory), ("networks", networks))
        for family, widths in sizes.items()
        for width in widths
    ]


LAYER_RATES = Study(
    "optimal_rates",
    cells=_layer_cells,
    measure=_layer_cell,
    config=lambda full: {
        "horizons": [1, 2, 4, 16],
        "seeds": 6,
        "networks": 4,
        "particles": 512,
    },
    labels={"layer": ["embedding", "projection"], "octave": LAYER_OCTAVES.tolist()},
)

JOINT_OCTAVES = {"embedding": _positions(-5, 1, 2), "projection": _positions(-9.5, 0.5, 2)}


def _joint_cell(
    family: str,
    source: str,
    width: int,
    horizons: list[int],
    seeds: int,
    networks: int,
    particles: int,
    seed: int = 0,
) -> Any:
    """Both layers trained, at every pair of rates of a grid that includes frozen layers."""
    setup = FAMILIES[family].setup(width, max(horizons) + 1)
    axes = [np.append(0.0, rates) for rates in _grids(setup, *JOINT_OCTAVES.values())]
    pairs = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")])
    loss = _losses(setup, pairs, source, seeds, networks, particles, seed)
    loss = loss.reshape(seeds, len(axes[0]), len(axes[1]), setup.steps)[..., horizons]
    return {
        "loss": (("seed", "embedding_octave", "projection_octave", "horizon"), loss),
        "embedding_rate": (("embedding_octave",), axes[0]),
        "projection_rate": (("projection_octave",), axes[1]),
        "vocab_size": ((), float(setup.vocab_size)),
    }


def _joint_cells(full: bool) -> list[Cell]:
    if not full:
        return []
    several = {family for family in JOINT if "outputs" in FAMILIES[family].fields}
    theory: Sizes = {
        family: (64, 256, 4096) if family in several else (64, 256, 1024, 4096, 16384)
        for family in JOINT
    }
    networks: Sizes = {
        family: (64, 128, 256) if family in several else (64, 128, 256, 512) for family in JOINT
    }
    return _by_source(theory, networks)


JOINT_RATES = Study(
    "joint_rates",
    cells=_joint_cells,
    measure=_joint_cell,
    config=lambda full: {
        "horizons": [1, 2, 4],
        "seeds": 4,
        "networks": 4,
        "particles": 512,
    },
    labels={
        f"{layer}_octave": [-np.inf, *octaves.tolist()] for layer, octaves in JOINT_OCTAVES.items()
    },
)

STUDIES = (LAYER_RATES, JOINT_RATES)
