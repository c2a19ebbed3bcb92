"""Studies of learning-rate transfer in the linear model: one base rate, three embedding rules.

At width d the projection's learning rate is eta (d/d0)^-1 and the embedding's rho eta (d/d0)^x;
the rules differ in x alone. At the base width d0, where they coincide, rho is the ratio of the
rates that are best for each layer while the other is frozen, found by mean-field theory (of both
layers trained together the best ratio is hardly determined). Mini-batches visit a token `VISITS`
times on average, so that the loss has a floor, which no learning rate gets rid of. Losses are in
units of that of a zero output.

A cell is measured by mean-field theory (`theory`) or by training finite networks (`networks`) on
the same tasks: seed k has its own targets. The predicted drift of the optimum places the grids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

import derivations
from dynsim import Setup, optimal_learning_rates, predict, targets, train
from experiments.topics._seeds import run_seed
from experiments.topics._study import SYMPY, Cell, Study, grid

BASE_WIDTH = 64
PROJECTION_EXPONENT = Fraction(-1)
RULES: Mapping[str, Fraction] = {
    "width": Fraction(0),
    "root": Fraction(-1, 2),
    "none": Fraction(-1),
}
LAYERS: tuple[derivations.LinearLayer, ...] = ("embedding", "projection")
CURVES = (*RULES, *(f"frozen {layer}" for layer in LAYERS))
STEPS, VISITS, OUTPUTS = 8, 2, 2
PARTICLES, TARGET_ROWS = 256, 2**18
TUNING_SEEDS = (1000, 1001)  # of the tasks that rho is tuned on, none of the measured ones
TUNING_OCTAVES = np.arange(-7, 3) / 2  # around the first step's optima
FEW_TOKENS = 256  # vocabularies below do not average by themselves: more networks, more replicas
MOST_FINITE_WIDTH = 2**12  # beyond, the limit is solved without its correction of order 1/width
MOST_LOSS = 1e3
OCTAVES = np.arange(-5, 8) / 2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Vocabulary coefficient * d^exponent and initial weights."""

    coefficient: Fraction
    vocab_exponent: int
    init: derivations.Init = "mup"

    def setup(self, width: int, seed: int = 0) -> Setup:
        vocab_size = int(self.coefficient * width**self.vocab_exponent)
        return Setup(
            width=width,
            vocab_size=vocab_size,
            outputs=OUTPUTS,
            init=self.init,
            optimizer="sign",
            schedule="linear",
            steps=STEPS + 1,
            batch_size=max(1, VISITS * vocab_size // STEPS),
            seed=seed,
        )

    def lr_exponents(self, curve: str) -> dict[derivations.LinearLayer, Fraction]:
        """x of both layers; networks with a frozen layer follow the rule `width`."""
        return {"embedding": RULES.get(curve, RULES["width"]), "projection": PROJECTION_EXPONENT}

    def base_rate(self, curve: str) -> derivations.BaseRate:
        """What the exponent side says of a rule, or of a network with a frozen layer."""
        trained: list[derivations.LinearLayer] = [
            layer for layer in LAYERS if curve != f"frozen {layer}"
        ]
        with SYMPY:
            return derivations.base_rate(
                self.lr_exponents(curve), self.init, self.vocab_exponent, trained
            )


CASES: Mapping[str, Case] = {
    "fixed": Case(Fraction(16), 0),
    "proportional": Case(Fraction(4), 1),
    "fixed-sp": Case(Fraction(16), 0, "sp"),
    "proportional-sp": Case(Fraction(4), 1, "sp"),
}


def relative_losses(
    setup: Setup, pairs: Floats, source: str, networks: int, replicas: int
) -> Floats:
    """Final losses at pairs of rates (2, pairs) over that of a zero output; at most `MOST_LOSS`."""
    rates: Any = {"embedding_lrs": pairs[0], "projection_lrs": pairs[1]}
    networks, replicas = (
        number * max(1, enough // setup.vocab_size)
        for number, enough in ((networks, FEW_TOKENS), (replicas, FEW_TOKENS // 8))
    )
    if source == "theory":
        solved = predict(
            setup,
            particles=PARTICLES,
            replicas=replicas,
            error_estimate=False,
            finite_width=setup.width <= MOST_FINITE_WIDTH,
            **rates,
        )
        loss = solved.loss
    else:
        loss = train(setup, networks, record_updates=False, **rates).loss.mean(axis=1)
    zero = 0.5 * np.mean(np.sum(targets(setup, TARGET_ROWS) ** 2, axis=1))
    # Below zero the finite-width correction means nothing: such a rate counts as diverged.
    return np.where(loss[:, -1] > 0, np.fmin(loss[:, -1] / zero, MOST_LOSS), MOST_LOSS)


_TUNING = Lock()


def base_rates(case: Case, run: int = 0) -> tuple[float, float]:
    """Each layer's best rate at the base width with the other frozen, to half an octave."""
    with _TUNING:
        return _base_rates(case, run)


@cache
def _base_rates(case: Case, run: int) -> tuple[float, float]:
    setup = case.setup(BASE_WIDTH)
    with SYMPY:
        centres = optimal_learning_rates(setup.width, setup.law(), init=setup.init)
    rates = []
    for layer, centre in enumerate(centres):
        pairs = np.zeros((2, len(TUNING_OCTAVES)))
        pairs[layer] = float(centre) * 2.0**TUNING_OCTAVES
        losses = [
            relative_losses(replace(setup, seed=run_seed(run, number)), pairs, "theory", 0, 2)
            for number in TUNING_SEEDS
        ]
        rates.append(float(pairs[layer, np.argmin(np.mean(losses, axis=0))]))
    return rates[0], rates[1]


def curve_rates(case: Case, width: int, run: int = 0) -> Floats:
    """Rates (curve, layer, octave) of the rules and of networks with a frozen layer."""
    factor = width / BASE_WIDTH
    rates = np.zeros((len(CURVES), len(LAYERS), len(OCTAVES)))
    for row, curve in zip(rates, CURVES, strict=True):
        x = case.lr_exponents(curve)
        base = factor ** float(case.base_rate(curve).exponent) * 2.0**OCTAVES
        for k, (layer, best) in enumerate(zip(LAYERS, base_rates(case, run), strict=True)):
            if curve != f"frozen {layer}":
                row[k] = best * factor ** float(x[layer]) * base
    return rates


def measure(
    case: Case,
    source: str,
    width: int,
    seeds: int,
    networks: int,
    replicas: int,
    seed: int = 0,
) -> Any:
    """Losses of every curve on its grid, seed by seed; frozen layers only at the limit's widths.

    `rate`: the base rate eta; 1 puts each layer on its own optimum at the base width.
    """
    curves = len(CURVES if width > MOST_FINITE_WIDTH else RULES)
    rates = curve_rates(case, width, seed)
    pairs = np.moveaxis(rates[:curves], 1, 0).reshape(2, -1)
    loss = np.full((seeds, len(CURVES), len(OCTAVES)), np.nan)
    for number in range(seeds):
        setup = case.setup(width, run_seed(seed, number))
        losses = relative_losses(setup, pairs, source, networks, replicas)
        loss[number, :curves] = losses.reshape(curves, -1)
    drift = [(width / BASE_WIDTH) ** float(case.base_rate(curve).exponent) for curve in CURVES]
    return {
        "loss": (("seed", "curve", "octave"), loss),
        "rate": (("curve", "octave"), np.outer(drift, 2.0**OCTAVES)),
        "base_rate": (("layer",), list(base_rates(case, seed))),
    }


def _cell(case: str, source: str, width: int, **numbers: int) -> Any:
    return measure(CASES[case], source, width, **numbers)


THEORY_WIDTHS = (64, 128, 256, 512, 1024, 4096, 2**16, 2**20)
NETWORK_WIDTHS = (64, 128, 256, 512)


def _cells(full: bool) -> list[Cell]:
    if not full:
        return []
    return [
        *grid(case=CASES, source=["theory"], width=THEORY_WIDTHS),
        *grid(case=CASES, source=["networks"], width=NETWORK_WIDTHS),
    ]


RATIOS = (0.25, 1.0, 4.0, 16.0, 64.0)


def _ratio_cell(ratio: float, **numbers: int) -> Any:
    return measure(Case(Fraction(ratio), 1), "theory", **numbers)


LABELS = {"curve": list(CURVES), "octave": OCTAVES.tolist(), "layer": list(LAYERS)}
TRANSFER_THEORY = Study(
    "transfer_theory",
    cells=_cells,
    measure=_cell,
    config=lambda full: {"seeds": 4, "networks": 4, "replicas": 2},
    labels=LABELS,
)
TRANSFER_RATIO = Study(
    "transfer_ratio",
    cells=lambda full: grid(ratio=RATIOS) if full else [],
    measure=_ratio_cell,
    config=lambda full: {"width": 2**16, "seeds": 2, "networks": 0, "replicas": 2},
    labels=LABELS,
)

STUDIES = (TRANSFER_THEORY, TRANSFER_RATIO)
