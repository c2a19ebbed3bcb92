"""Study of learning-rate transfer in trained networks: which rule, at which vocabulary and decay.

One global base learning rate is tuned at every width. At the base width, the narrowest, all rules
are one and the same network; at width d a rule multiplies initial weights and learning rates by
powers of d over the base width. Every rule is written with hidden layers at 1/d, which a global
rate cannot see: what is tuned is the rate after that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim.laboratory import NetworkSetup, parameter_count, train_networks
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

Floats = NDArray[np.float64]

NETWORKS = ("mlp", "transformer")
# Embedding LR over hidden LR at the base width: within a factor 2 of what `optimal_ratio` found
# best at width 32.
EMBEDDING_RATIO = {"mlp": 4.0, "transformer": 16.0}
START = {"mlp": -6, "transformer": -9}  # half octaves of the hidden LR around which to begin
# Half octaves of the learning rate: the first grid goes so far on either side of its centre, so
# many must lie on either side of the best, and no grid goes farther.
HALF_WIDTH, MARGIN, FARTHEST = 3, 2, 12
HALF, ONE = Fraction(1, 2), Fraction(1)


@dataclass(frozen=True)
class Rule:
    """By which powers of the width a rule multiplies SP's learning rates and readout.

    `embedding`, `gains`: powers of the learning rate of embedding and norm gains; `hidden`,
    `readout_lr`: those of hidden layers and readout, which SP has at 1/d; `readout`: power of the
    readout's initial weights beside SP's d^-1/2.
    """

    embedding: Fraction = Fraction(0)
    readout: Fraction = Fraction(0)
    gains: Fraction = Fraction(0)
    hidden: Fraction = Fraction(0)
    readout_lr: Fraction = Fraction(0)

    def fields(self) -> dict[str, str]:
        """The rule as exponents of `NetworkSetup` in the gauge of multipliers one."""
        init = (Fraction(0), -HALF, self.readout - HALF)
        rates = (self.embedding, self.hidden, self.readout_lr, self.gains)
        return {
            "parametrization": "sp",
            "init_exponents": ",".join(map(str, init)),
            "lr_exponents": ",".join(str(rate - ONE) for rate in rates),
        }


RULES: Mapping[str, Rule] = {
    "sp": Rule(),
    "sp, embedding x root": Rule(embedding=HALF),
    "sp, embedding x width": Rule(embedding=ONE),
    "sp, mup readout": Rule(readout=-HALF),
    "sp, mup gains": Rule(gains=ONE),
    "sp, mup hidden": Rule(hidden=-ONE),
    "mup": Rule(embedding=ONE, readout=-HALF, gains=ONE),
    "mup, embedding x root": Rule(embedding=HALF, readout=-HALF, gains=ONE),
    "mup, sp embedding": Rule(readout=-HALF, gains=ONE),
    "mup, sp readout": Rule(embedding=ONE, gains=ONE),
    "mup, sp gains": Rule(embedding=ONE, readout=-HALF),
    # Hidden layers as fast as embedding and gains; the readout, still 1/d slower, is at 1/d^2.
    "mup, sp hidden": Rule(readout=-HALF, readout_lr=-ONE),
}
SP_TO_MUP = ("sp", "sp, embedding x width", "mup")
WITH_ROOT = ("sp", "sp, embedding x root", "sp, embedding x width", "mup")
VOCABULARY = 4096
OTHER_VOCABULARIES = (256, 16_384)
SLOWER = 4.0  # by which the embedding LR is below the tuned one in some cases
DECAYS: Mapping[str, tuple[float, ...]] = {"coupled": (0.1, 0.3), "independent": (0.01, 0.03)}


@dataclass(frozen=True)
class Case:
    """One sweep: network, rule, vocabulary, weight decay, whether all widths train for the same
    number of `steps`, or for the same number of `tokens` per parameter, and by what the embedding's
    learning rate is slower than tuned, at every width."""

    network: str
    rule: str
    vocab_size: int = VOCABULARY
    decay: str = "coupled"
    weight_decay: float = 0.0
    budget: str = "steps"
    slower: float = 1.0

    @property
    def name(self) -> str:
        varied = [
            f"m {self.vocab_size}" * (self.vocab_size != VOCABULARY),
            f"{self.decay} decay {self.weight_decay:g}" * (self.weight_decay > 0),
            "tokens per parameter" * (self.budget == "tokens"),
            f"embedding LR / {self.slower:g}" * (self.slower > 1),
        ]
        return "; ".join([self.network, self.rule, *filter(None, varied)])


def _cases(network: str) -> list[Case]:
    return [
        *(Case(network, rule) for rule in RULES),
        *(
            Case(network, rule, decay=decay, weight_decay=rate)
            for decay, rates in DECAYS.items()
            for rate in rates
            for rule in SP_TO_MUP
        ),
        *(Case(network, rule, vocab_size=m) for m in OTHER_VOCABULARIES for rule in WITH_ROOT),
        *(Case(network, rule, budget="tokens") for rule in SP_TO_MUP),
        *(Case(network, rule, slower=SLOWER) for rule in WITH_ROOT),
    ]


CASES = {case.name: case for network in NETWORKS for case in _cases(network)}


@dataclass(frozen=True)
class Size:
    """Sizes of the study: `further` widths only for the MLP's comparison of rules.

    `steps`: of all widths, or, per parameter, of the width `reference`.
    """

    widths: tuple[int, ...]
    further: tuple[int, ...]
    reference: int
    depth: int
    steps: int
    batch_size: int
    seeds: int


SIZES = {
    False: Size((32, 64, 128, 256), (512,), 128, 1, 100, 512, 4),
    True: Size((64, 128, 256, 512, 1024), (2048,), 256, 2, 1000, 1024, 4),
}


def embedding_ratio(case: Case) -> float:
    """Embedding LR over hidden LR at the base width."""
    return EMBEDDING_RATIO[case.network] / case.slower


def setups(case: Case, size: Size) -> list[NetworkSetup]:
    """The networks of a case, narrowest first."""
    plain = case == Case(case.network, case.rule)
    widths = size.widths + size.further * (plain and case.network == "mlp")
    ratio = embedding_ratio(case)
    decay = case.weight_decay
    if case.decay == "independent":  # the same shrinkage in all, whatever the number of steps
        decay *= SIZES[False].steps / size.steps

    def setup(width: int, steps: int) -> NetworkSetup:
        fields: dict[str, Any] = {
            **RULES[case.rule].fields(),
            **{name: getattr(case, name) for name in ("network", "vocab_size", "decay")},
            **{name: getattr(size, name) for name in ("depth", "batch_size")},
        }
        return NetworkSetup(
            **fields,
            width=width,
            base_width=widths[0],
            context=32,
            targets="next-token",
            outputs=256,
            optimizer="adamw",
            weight_decay=decay,
            schedule="cosine",
            warmup_steps=steps // 10,
            steps=steps,
            vector_ratio=1 / ratio,
        )

    reference = parameter_count(setup(size.reference, size.steps))
    alike = [setup(width, size.steps) for width in widths]
    if case.budget == "steps":
        return alike
    return [setup(one.width, round(size.steps * parameter_count(one) / reference)) for one in alike]


def _losses(setup: NetworkSetup, ratio: float, places: list[int], seeds: int) -> dict[int, Floats]:
    """Final losses (seeds,) at hidden LRs in half octaves; infinite where diverged."""
    octave, seed = (axis.ravel() for axis in np.meshgrid(places, range(seeds), indexing="ij"))
    rate = 2.0 ** (octave / 2)
    result = train_networks(setup, ratio * rate, rate, seed)
    loss = np.where(result.diverged, np.inf, result.loss[:, -1]).reshape(len(places), seeds)
    return dict(zip(places, loss, strict=True))


def searched(setup: NetworkSetup, ratio: float, centre: int, seeds: int) -> dict[int, Floats]:
    """Losses by half octave of the hidden LR around an optimum that may lie elsewhere than at
    `centre`: the grid goes on until `MARGIN` learning rates lie on either side of the best."""
    found = _losses(setup, ratio, list(range(centre - HALF_WIDTH, centre + HALF_WIDTH + 1)), seeds)
    while True:
        low, high, best = min(found), max(found), best_place(found)
        more = []
        if best - low < MARGIN and low > centre - FARTHEST:
            more += [low - 2, low - 1]
        if high - best < MARGIN and high < centre + FARTHEST:
            more += [high + 1, high + 2]
        if not more:
            return dict(sorted(found.items()))
        found |= _losses(setup, ratio, more, seeds)


def best_place(found: Mapping[int, Floats]) -> int:
    """Half octave of the lowest mean loss."""
    return min(found, key=lambda place: found[place].mean())


def _cell(case: str, size: dict[str, Any], cases: dict[str, Any], seed: int = 0) -> Any:
    """One case: every width, each searched around the optimum of the one before."""
    one = Case(**cases[case])
    centre, ratio, tables = START[one.network], embedding_ratio(one), []
    networks = [replace(setup, seed=run_seed(seed)) for setup in setups(one, Size(**size))]
    for setup in networks:
        tables.append(searched(setup, ratio, centre, size["seeds"]))
        centre = best_place(tables[-1])
    places = sorted(set().union(*tables))
    shape = (len(tables), len(places), size["seeds"])
    loss, ran = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for at, table in enumerate(tables):
        for place, losses in table.items():
            loss[at, places.index(place)] = losses
            ran[at, places.index(place)] = True
    by = ("width", "learning_rate", "seed")
    failed = ran & ~np.isfinite(loss)
    return {
        **{name: ((), value) for name, value in cases[case].items()},
        "width": (("width",), [setup.width for setup in networks]),
        "learning_rate": (("learning_rate",), 2.0 ** (np.array(places) / 2)),
        "seed": (("seed",), np.arange(size["seeds"])),
        "loss": (by, np.where(failed, np.nan, loss)),
        "diverged": (by, np.where(ran, failed, np.nan)),
        "steps": (("width",), [setup.steps for setup in networks]),
    }


TRANSFER_NETWORKS = Study(
    "transfer_networks",
    cells=lambda full: grid(case=CASES),
    measure=_cell,
    config=lambda full: {
        "size": asdict(SIZES[full]),
        "cases": {name: asdict(case) for name, case in CASES.items()},
    },
    coordinates=[field.name for field in fields(Case)],
    laboratory=True,
)

STUDIES = (TRANSFER_NETWORKS,)
