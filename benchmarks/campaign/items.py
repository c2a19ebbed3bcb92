"""What the campaign measures, the most valuable first, and about how long each cell takes.

Estimates are for one H100: `COMPILING` seconds for what a cell compiles, and its operations at
`RATE` a second. `running` corrects them by how long finished cells took.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr

from benchmarks import device_agreement
from dynsim import Setup, predict
from experiments.sweeps.work import operations
from experiments.topics._study import Cell, Study, grid
from experiments.topics.optimal_ratio.study import CORPUS, Case, case_losses
from experiments.topics.race.study import (
    OCTAVES,
    RACE,
    RULES,
    SMALL,
    TASKS,
    TUNING_SEEDS,
    race_setup,
    raced,
)
from experiments.topics.update_magnitude.study import UPDATE_MAGNITUDE, network_setup

from . import agreement, reports, throughput

RATE = 15e12
"""operations per second of training in float32 with full products"""
COMPILING = 12.0
SIGN, TEXT_VOCABULARY = "sign", 32_768


@dataclass(frozen=True)
class Item:
    """Part of the campaign.

    - `study`: its cells are measured in their order; `full` is the campaign, else the miniature.
    - `estimate`: seconds of a cell, given the study's config.
    - `budget`: seconds for the item as long as others are waiting.
    - `report`: a line or more about what was found, for people.
    """

    study: Study
    estimate: Callable[[Cell, Mapping[str, Any]], float]
    budget: float
    report: Callable[[xr.Dataset], Iterable[str]]

    @property
    def name(self) -> str:
        return self.study.name


def _seconds(work: float) -> float:
    return COMPILING + work / RATE


def _agreement_config(full: bool) -> Mapping[str, Any]:
    return {"names": list(device_agreement.SETUPS) if full else list(device_agreement.QUICK)}


AGREEMENT = Item(
    Study(
        "device_agreement",
        cells=lambda full: grid(precision=("float64", "float32") if full else ("float64",)),
        measure=agreement.measure,
        config=_agreement_config,
        laboratory=True,
    ),
    lambda cell, config: 10.0 + 6 * len(config["names"]),
    110,
    reports.agreement,
)


def _update_cells(full: bool) -> list[Cell]:
    """By the operations that they take. The largest mlp, whose batch is the whole vocabulary, needs
    more memory than a card has."""
    if not full:
        return grid(network=("linear",), optimizer=(SIGN,), width=(32,), vocab_size=(16,))
    cells = grid(
        network=("linear", "mlp", "transformer"),
        optimizer=(SIGN,),
        width=(512, 2048, 8192),
        vocab_size=(128, 4096, 131_072),
    )
    ordered = sorted(cells, key=lambda cell: operations(network_setup(**cell)))
    return ordered[:-1]


UPDATES = Item(
    replace(
        UPDATE_MAGNITUDE,
        cells=_update_cells,
        config=lambda full: {**UPDATE_MAGNITUDE.config(full), "seeds": 4 if full else 2},
    ),
    lambda cell, config: _seconds(
        2 * config["seeds"] * len(config["embedding_lrs"]) * operations(network_setup(**cell))
    ),
    330,
    reports.updates,
)


def _text_case(network: str, full: bool) -> Case:
    """The next token of a text, every layer trained, one output for each token type."""
    fields = {**CORPUS, "network": network, "outputs": None}
    if not full:  # the text of the derivations, which is always here
        octaves = {"embedding": (-2, -1), "hidden": (-4, -3)}
        fields |= {"batch_size": 32, "context": 8, "tokens": "corpus:derivations"}
        return Case(lambda _: 300, fields, (1, 2, 3), (32,), 1, octaves)
    if network == "transformer":
        octaves = {"embedding": (-6, -1), "hidden": (-9, -4)}
        fields["context"] = 32
    else:
        octaves = {"embedding": (-6, 0), "hidden": (-8, -2)}
    return Case(lambda _: TEXT_VOCABULARY, fields, (10, 25, 50), (128, 512, 2048), 1, octaves)


def _ratio_cells(full: bool) -> list[Cell]:
    networks = ("mlp", "transformer") if full else ("mlp",)
    widths = _text_case("mlp", full).widths
    return [cell for width in widths for cell in grid(network=networks, width=(width,))]


def _ratio_cell(network: str, width: int, seeds: int, full: bool, seed: int = 0) -> Any:
    return case_losses(_text_case(network, full), width, seeds, seed)


def _ratio_seconds(cell: Cell, config: Mapping[str, Any]) -> float:
    case = _text_case(cell["network"], config["full"])
    runs = config["seeds"] * math.prod(len(case.positions(axis)) for axis in case.octaves)
    return 15 + _seconds(runs * operations(case.setup(cell["width"])))  # and its tokens


RATIOS = Item(
    Study(
        "optimal_ratio",
        cells=_ratio_cells,
        measure=_ratio_cell,
        config=lambda full: {"seeds": 2 if full else 1, "full": full},
        laboratory=True,
    ),
    _ratio_seconds,
    440,
    reports.ratios,
)


def _race_cells(full: bool) -> list[Cell]:
    if not full:
        return grid(task=("unstructured",), width=(64,))
    cells = [cell for width in (256, 4096, 1024) for cell in grid(task=TASKS, width=(width,))]
    half = {"task": "corpus-transformer", "width": 2048}  # in place of eleven minutes
    return [half if (c["task"], c["width"]) == (half["task"], 4096) else c for c in cells]


def _race_seconds(cell: Cell, config: Mapping[str, Any]) -> float:
    setup = race_setup(cell["task"], cell["width"])
    axes = OCTAVES[setup.network].values()
    searched = TUNING_SEEDS * math.prod(last - first + 1 for first, last in axes)
    return 2 * COMPILING + _seconds((searched + len(RULES) * config["seeds"]) * operations(setup))


def _race_cell(task: str, width: int, seeds: int, full: bool, seed: int = 0) -> Any:
    small = race_setup(task, SMALL, seed)
    if full:
        return raced(small, width, OCTAVES[small.network], seeds)
    few = {"embedding": (-4, -2), "hidden": (-4, -2)}
    return raced(replace(small, vocab_size=32, steps=4), width, few, seeds)


RACES = Item(
    replace(
        RACE,
        cells=_race_cells,
        measure=_race_cell,
        config=lambda full: {"seeds": 4 if full else 1, "full": full},
    ),
    _race_seconds,
    260,
    reports.races,
)

CASES: Mapping[str, Mapping[str, Any]] = {
    "T = 20, n = 2": {"steps": 20, "outputs": 2},
    "T = 50, n = 8": {"steps": 50, "outputs": 8},
    "T = 100, n = 8": {"steps": 100, "outputs": 8},
    "T = 50, n = 32": {"steps": 50, "outputs": 32},
    "T = 200, n = 8": {"steps": 200, "outputs": 8},
    "tiny": {"steps": 2, "outputs": 2},
}


def _prediction(
    case: str, width: int, vocab_size: int, options: Mapping[str, Any], seed: int = 0
) -> Any:
    """The loss before every step, its error, and the seconds that it took, compilation included.

    One-hot classes. The projection's rate moves outputs by at most 0.3 a step.
    """
    started = time.perf_counter()
    setup = Setup(
        width=width,
        vocab_size=vocab_size,
        tokens="zipf:1",
        targets="onehot",
        embedding_lr=0.05,
        projection_lr=0.3 / width,
        seed=seed,
        **CASES[case],
    )
    found = predict(setup, **options)
    return {
        "loss": (("step",), found.loss[0]),
        "loss_error": (("step",), found.loss_error[0]),
        "particles": ((), float(found.particles)),
        "seconds": ((), time.perf_counter() - started),
    }


def _prediction_config(full: bool) -> Mapping[str, Any]:
    if full:
        return {"width": 10**6, "vocab_size": 10**7, "options": {}}
    options = {"particles": 64, "replicas": 2, "error_estimate": False, "finite_width": False}
    return {"width": 10**4, "vocab_size": 10**5, "options": options}


PREDICTIONS = Item(
    Study(
        "largest_predictions",
        cells=lambda full: grid(case=[name for name in CASES if (name != "tiny") == full]),
        measure=_prediction,
        config=_prediction_config,
        laboratory=True,
    ),
    lambda cell, config: {"T = 20, n = 2": 20.0, "T = 200, n = 8": 120.0}.get(cell["case"], 50.0),
    150,
    reports.predictions,
)


def _throughput_config(full: bool) -> Mapping[str, Any]:
    if not full:
        sizes = {"vocab_size": 32, "batch_size": 64, "steps": 2, "runs": 2}
        return {**sizes, "product": 128, "copied": 2**20}
    sizes = {"vocab_size": 4096, "batch_size": 1024, "steps": 20, "runs": 8}
    return {**sizes, "product": 8192, "copied": 2**30}


def _throughput_cells(full: bool) -> list[Cell]:
    if not full:
        return grid(network=("mlp",), width=(32,), precision=("float32",))
    return [
        cell
        for width in (256, 2048)
        for precision in throughput.PRECISIONS
        for cell in grid(network=("mlp", "transformer"), width=(width,), precision=(precision,))
    ]


THROUGHPUT = Item(
    Study(
        "device_throughput",
        cells=_throughput_cells,
        measure=throughput.measure,
        config=_throughput_config,
        laboratory=True,
    ),
    lambda cell, config: 25.0,
    200,
    reports.throughput,
)

ITEMS = (AGREEMENT, UPDATES, RATIOS, RACES, PREDICTIONS, THROUGHPUT)
