"""The instrument: its rule, its verdicts on measured studies, and that it sees wrong data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import xarray as xr

from dynsim import bootstrap, claims
from dynsim.statistics import _verdict
from experiments.commands._verdicts import exit_code
from experiments.topics._claim import LINEAR_MODEL, NEGATIVE, WRONG
from experiments.topics._parts import TOPICS, claim_files
from experiments.topics._registry import CLAIMS, STUDIES
from experiments.topics._stored import stored_evidence, stored_study
from experiments.topics.exact_limits import estimators as flows
from experiments.topics.first_step import estimators as first_step
from experiments.topics.lv_lifetime import estimators as lv_lifetime

# What the stored studies say of every claim; `test_stored_numbers.py` says that it is so.
PINNED = {
    name: found
    for study in json.loads(
        (Path(__file__).parents[1] / "stored_numbers.json").read_text()
    ).values()
    for name, found in study["claims"].items()
}
PAPER = re.compile(r"[A-Z][a-z]+( et al\.| & [A-Z][a-z]+)? \d{4}(, arXiv \d{4}\.\d{4,5})?")
ANCHOR = re.compile(r"docs/theory/[a-z_]+\.md#[a-z0-9-]+")


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([("holds", "holds"), ("fails", "fails")], 0),
        ([("holds", "holds"), ("holds", "fails")], 1),  # a claim fails
        ([("fails", "holds"), ("holds", "holds")], 1),  # a negative control is not caught
        ([("fails", "undecided")], 1),
        ([("undecided", "undecided"), ("undecided", "fails"), ("undecided", "holds")], 0),
        ([("holds", "undecided")], 0),  # no refutation
        ([], 0),
    ],
)
def test_exit_code(verdicts, code):
    rows = [{"expected": expected, "verdict": verdict} for expected, verdict in verdicts]
    assert exit_code(rows) == code


def test_claims_are_complete():
    assert all(one.study in STUDIES for one in CLAIMS.values())
    assert all(one.prediction and one.quantity for one in CLAIMS.values())
    assert all(one.tolerance > 0 for one in CLAIMS.values())
    controls = {name for name, one in CLAIMS.items() if one.expected == "fails"}
    assert controls == {name for name in CLAIMS if name.startswith(("control-", "not-seen-"))}
    assert len(controls) >= 3
    required = {
        "sign-kernel",
        "projection-exponent-mup",
        "projection-exponent-lv",
        "projection-exponent-proportional",
        "data-collapse",
        "embedding-exponent-vocab",
        "lr-ratio-fixed-vocab",
        "lr-ratio-proportional",
        "zipf-rank-crossover",
        "corpus-rank-crossover",
        "minibatch-effective-vocab",
    }
    assert required <= set(CLAIMS)


# What has no meaning outside this project, or says less than a plain word.
JARGON = ("immortal", "for ever", "heard", "hears", "next to nothing", "born", "...", "wins")


@pytest.mark.parametrize("name", CLAIMS)
def test_statements_are_whole_sentences(name):
    """A capital at the beginning, a full stop at the end, and no reference to another row."""
    statement = CLAIMS[name].statement
    assert statement[0].isupper()
    assert statement.endswith(".")
    assert len(statement.split()) >= 12
    assert not [word for word in JARGON if word in statement]
    assert " It " not in statement
    assert statement.count("the linear model") == statement.count(LINEAR_MODEL)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_control_says_that_it_is_one_and_what_it_contradicts(name):
    """Statement and citation begin with it; no other claim says that it is wrong."""
    control = name.startswith("control-")
    assert CLAIMS[name].statement.startswith((WRONG, NEGATIVE)) == control
    assert CLAIMS[name].citation.startswith("contradicts ") == control


@pytest.mark.parametrize("name", CLAIMS)
def test_citations_name_papers_anchors_or_claims(name):
    """Each a paper by authors and year, an anchor of the theory pages, or a contradicted claim;
    whether an anchor exists is tested with all other citations of the project."""
    parts = CLAIMS[name].citation.split("; ")
    for part in parts:
        cited = part.removeprefix("contradicts ")
        claim = cited in CLAIMS and part.startswith("contradicts ")
        assert claim or PAPER.fullmatch(cited) or ANCHOR.fullmatch(cited), part
    assert any("#" in part for part in parts)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_rival_lies_outside_the_band(name):
    """A claim that holds refutes the other value. Every exponent that is claimed has one."""
    one = CLAIMS[name]
    if one.quantity.startswith("exponent") and one.expected != "fails":
        assert one.rival is not None
    if one.rival is not None:
        assert abs(one.rival - PINNED[name]["predicted"]) > one.tolerance


def test_no_two_claims_rest_on_the_same_numbers():
    """A control is another experiment or another route, not a claim's number with a new target."""
    numbers = [(found["measured"], found["low"], found["high"]) for found in PINNED.values()]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", CLAIMS)
def test_no_verdict_rests_on_an_interval_of_no_width(name):
    assert PINNED[name]["low"] < PINNED[name]["high"]


@pytest.mark.parametrize("name", CLAIMS)
def test_verdict_is_the_expected_one(name, studies):
    one = CLAIMS[name]
    data = studies[one.study]
    found = stored_evidence(name) if data is stored_study(one.study) else one.evidence(data)
    assert one.verdict(found) == one.expected, found
    assert found.measured.low <= found.measured.value <= found.measured.high


# Corruptions: each makes the data of a claim wrong by a stated amount.
Corruption = Callable[[xr.Dataset], xr.Dataset]


def growing(axis: str, power: float) -> Corruption:
    """Mean squares times axis^(2 power): every RMS exponent in that axis is off by `power`."""
    return lambda data: data.assign(mean_square=data.mean_square * data[axis] ** (2 * power))


def scaled(variable: str, factor: float) -> Corruption:
    return lambda data: data.assign({variable: data[variable] * factor})


def scattered(data: xr.Dataset) -> xr.Dataset:
    """Every cell off the common curve by its own factor, some 15 % in the RMS."""
    factors = np.random.default_rng(0).lognormal(0, 0.3, (data.sizes["width"], 1))
    factors = factors * np.random.default_rng(1).lognormal(0, 0.3, (1, data.sizes["vocab_size"]))
    return data.assign(
        mean_square=data.mean_square * xr.DataArray(factors, dims=("width", "vocab_size"))
    )


def coherent(factor: Callable[[xr.DataArray], xr.DataArray | float]) -> Corruption:
    """The coherent part, mean square / d - 1, times a factor of the width."""

    def corrupt(data: xr.Dataset) -> xr.Dataset:
        part = data.mean_square / data.width - 1
        return data.assign(mean_square=data.width * (1 + part * factor(data.width)))

    return corrupt


def slower(factor: float, **cells: object) -> Corruption:
    """The coherent power of later steps over a factor squared, in the chosen cells."""

    def corrupt(data: xr.Dataset) -> xr.Dataset:
        step = data.mean_square.copy(deep=True)
        aged = data.width + (step - data.width) / factor**2
        chosen = xr.ones_like(step, dtype=bool)
        for name, value in cells.items():
            chosen = chosen & (data[name] == value)
        return data.assign(mean_square=step.where(~chosen, aged))

    return corrupt


def tilted(variable: str, power: float, factor: float = 1.0, **cells: str) -> Corruption:
    """Learning rates times factor (d/64)^power in the chosen cells."""

    def corrupt(data: xr.Dataset) -> xr.Dataset:
        rate = data[variable]
        chosen = xr.ones_like(rate, dtype=bool)
        for name, value in cells.items():
            chosen = chosen & (data[name] == value)
        moved = rate * factor * (data.width / 64) ** power
        return data.assign({variable: rate.where(~chosen, moved)})

    return corrupt


def frozen_projection_costs(data: xr.Dataset) -> xr.Dataset:
    """A tenth of the initial loss more wherever the projection is frozen."""
    return data.assign(loss=data.loss + 0.1 * (data.projection_octave == -np.inf))


def of_update(corruption: Corruption) -> Corruption:
    """A corruption of what an update does to the outputs, and not of the update's entries."""

    def corrupt(data: xr.Dataset) -> xr.Dataset:
        wrong = corruption(data).mean_square
        return data.assign(mean_square=wrong.where(data.quantity == "update", data.mean_square))

    return corrupt


def embedding_octaves_per_doubling(data: xr.Dataset) -> xr.Dataset:
    """Losses of every further width moved by one more octave of the embedding's learning rate."""
    loss = data.loss.transpose("width", "embedding_octave", ...).copy(deep=True)
    trained = np.flatnonzero(data.embedding_octave.values >= -6)
    for index in range(data.sizes["width"]):
        moved = np.clip(trained + index, trained[0], trained[-1])
        loss.values[index, trained] = loss.values[index, moved]
    return data.assign(loss=loss)


def base_octaves_per_doubling(data: xr.Dataset) -> xr.Dataset:
    """Losses of every further width moved by one more octave of the base learning rate."""
    loss = data.loss.transpose("width", "base_lr", ...).copy(deep=True)
    places = np.arange(data.sizes["base_lr"])
    for index in range(data.sizes["width"]):
        loss.values[index] = loss.values[index, np.clip(places + index, 0, places[-1])]
    return data.assign(loss=loss)


def costly(rule: str, factor: float) -> Corruption:
    """So many times the loss by one rule; still below the initial loss, at which losses end."""
    return lambda data: data.assign(loss=data.loss * xr.where(data.rule == rule, factor, 1.0))


def dearer(update: str) -> Corruption:
    """1.3 times the excess loss of an embedding with this update."""
    return lambda data: data.assign(text=data.text * xr.where(data["update"] == update, 1.3, 1.0))


def drifting(power: float) -> Corruption:
    """Base rates times width^power: every drift of the best one is off by `power`."""
    return lambda data: data.assign(rate=data.rate * data.width**power)


def worse(axis: str, names: Sequence[str]) -> Corruption:
    """1.4 times the loss at these entries of an axis."""
    return lambda data: data.assign(loss=data.loss * xr.where(data[axis].isin(names), 1.4, 1.0))


def exchanged(*pairs: tuple[str, str]) -> Corruption:
    """The runs of cases that belong to one rule given to another, and the other way round."""

    def corrupt(data: xr.Dataset) -> xr.Dataset:
        names = [str(name) for name in data.case.values]
        swapped = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
        return data.assign_coords(case=[swapped.get(name, name) for name in names])

    return corrupt


def of_network(network: str, one: str, other: str, condition: str = "") -> Corruption:
    return exchanged((f"{network}; {one}{condition}", f"{network}; {other}{condition}"))


def steeper(name: str, power: float, along: str, **cells: str) -> Corruption:
    """A mean square times a power of a coordinate, in the chosen entries."""

    def corrupt(data: xr.Dataset) -> xr.Dataset:
        chosen = xr.ones_like(data[name], dtype=bool)
        for axis, value in cells.items():
            chosen = chosen & (data[axis] == value)
        grown = data[name] * data[along] ** (2 * power)
        return data.assign({name: data[name].where(~chosen, grown)})

    return corrupt


ROOT, WIDTH = "sp, embedding x root", "sp, embedding x width"
SLOWER = "; embedding LR / 4"


def off(claim: claims.Claim) -> Corruption:
    """What a written claim measures times s^p, s the growing size, or for a ratio times a factor:
    two tolerances off, in the raw arrays of every cell. (Steps of another size move the end of
    the LV regime in proportion.)"""
    miss = 2 * claim.tolerance

    def corrupt(data: xr.Dataset) -> xr.Dataset:
        cells = [json.loads(cell) for cell in data.cell.values]
        sizes = [float(cell.get(claim.along, 1)) / claim.sizes[0] for cell in cells]
        ratio = claim.form == "ratio"
        factor = data.cell.copy(data=[1 + miss if ratio else size**miss for size in sizes])
        name = MEASURED[claim.quantity]
        power = 2 if name.startswith("training.") else 1
        return data.assign({name: data[name] * factor**power})

    return corrupt


MEASURED = {  # the array in which a quantity stands
    "projection_step_rms": "training.projection_step_rms",
    "embedding_step_rms": "training.embedding_step_rms",
    "optimal_rate_ratio": "layerwise_rates.embedding_rates",
    "restoration": "restoration.embedding_lr",
}


def more_steps(power: float = 0.0, factor: float = 1.0) -> Corruption:
    """Networks of bigram tasks take steps that grow by another power of the vocabulary."""
    return lambda data: data.assign(steps=data.steps * factor * data.vocab_size**power)


CORRUPTIONS: Mapping[str, Corruption] = {
    **{
        f"bigram-{name}": more_steps(power=-0.4)
        for name in ("gradient-zipf", "gradient-half", "sign-zipf", "sign-steep")
    },
    **{f"bigram-{name}": more_steps(power=0.4) for name in ("gradient-steep", "sign-flat")},
    "bigram-steps": more_steps(factor=1.2),
    "bigram-flow": lambda data: data.assign(loss=data.loss ** xr.where(data.step > 0, 2.0, 1.0)),
    **{
        one.name: off(one)
        for topic in TOPICS
        for file in claim_files(topic).values()
        for one in file.claims
        if one.expected == "holds"
    },
    "transfer-root-slower-transformer": of_network("transformer", ROOT, WIDTH, SLOWER),
    "transfer-slower-transformer": of_network("transformer", "sp", WIDTH, SLOWER),
    "transfer-vocabulary-mlp": of_network("mlp", "sp", "mup", "; m 16384"),
    **{
        name: corruption
        for prefix, corruption in (
            ("transfer-drift-", drifting(0.5)),
            ("transfer-limit-", worse("curve", ["width", "root", "none"])),
        )
        for name, one in CLAIMS.items()
        if name.startswith(prefix) and one.study == "transfer_theory" and one.expected == "holds"
    },
    "transfer-networks-loss": worse("source", ["networks"]),
    "transfer-networks-penalty": lambda data: data.assign(
        loss=data.loss * xr.where((data.source == "networks") & (data.curve == "width"), 1.6, 1.0)
    ),
    **{
        f"update-magnitude-{network}-{short}": of_update(corruption)
        for network in ("linear", "mlp", "transformer")
        for short, corruption in (
            ("small-vocab", growing("width", -0.2)),
            ("large-vocab", growing("width", 0.2)),
            ("formula", scaled("mean_square", 1.2)),
            ("restored", growing("width", -0.6)),
        )
        if (network, short) != ("transformer", "restored")  # undecided
    },
    "update-magnitude-adam": of_update(scaled("mean_square", 1.2)),
    "update-magnitude-collapse": of_update(scattered),
    "hidden-ratio-structured": embedding_octaves_per_doubling,
    "race-interpolated": costly("interpolated", 1.2),
    "race-root-synthetic": costly("lv-hidden", 3.0),
    "sign-kernel": scaled("moment", 1.05),
    "arcsine-law": scaled("moment", 1.05),
    "data-collapse": scattered,
    "cross-term-exponent": growing("width", 0.3),
    "zipf-rank-crossover": coherent(lambda d: d / 128),
    "corpus-rank-crossover": coherent(lambda d: 3.0),
    "minibatch-effective-vocab": coherent(lambda d: 1.5),
    "minibatch-absent-tokens": scaled("mean_square", 1.15),
    **{
        name: scaled("mean_square", 1.15)
        for name, one in CLAIMS.items()
        if one.study == "heads" and one.expected == "holds"
    },
    "lv-age-update": slower(1.5),
    "lv-age-collapse": growing("width", 0.15),
    "optimum-mean-field": tilted("rate", 0, 1.4, layer="embedding", source="networks"),
    "joint-second-step": tilted("embedding_rate", -0.7),
    "joint-flat": frozen_projection_costs,
    "lv-age-zipf": slower(2),
    "mean-field-loss": scaled("loss", 1.1),
    "many-outputs-loss": scaled("loss", 1.1),
    "nonlinear-layers-equivalence": scaled("loss", 1.1),
    "mean-field-updates": scaled("mean_square", 1.3),
    "hidden-layers-loss-of-each": scaled("loss", 1.2),
    "hidden-layers-updates-of-each": scaled("mean_square", 1.3),
    "flow-infinite-width": scaled("loss", 1.1),
    "flow-proportional": scaled("loss", 1.1),
    "lazy-keeps-lv": growing("width", 0.3),
    "lv-entered-frozen-embedding": growing("width", 0.5),
    "lv-not-entered-trained-embedding": growing("width", -0.3),
    **{
        name: growing("width", 0.3)
        for name, one in CLAIMS.items()
        if one.study in ("mean_residual", "depth_alignment") and one.expected == "holds"
    },
    **{
        name: scaled("row_square", 1.4)
        for name in (
            "muon-rows-squared-error",
            "muon-rows-starved",
            "muon-rows-half",
            "muon-rows-batch",
        )
    },
    **{
        name: dearer(update)
        for update, names in {
            "muon": (
                "muon-rows-repaired",
                "muon-rows-repaired-after",
                "muon-rows-repair-not-needed",
            ),
            "row norm, then muon": ("muon-rows-repaired-below-adam",),
            "fourth root": ("muon-rows-fourth-root",),
        }.items()
        for name in names
    },
    **{
        name: steeper("size", 0.4, "width")
        for name in (
            "head-fixed-step-on-targets",
            "head-fixed-step-on-all-logits",
            "head-fixed-later-steps-on-targets",
            "head-fixed-tied-step-on-targets",
            "head-fixed-muon-hidden-step",
        )
    },
    **{
        name: drifting(0.4)
        for name in (
            "head-fixed-readout-rate",
            "head-fixed-readout-rate-long",
            "head-fixed-readout-rate-muon",
        )
    },
    "head-fixed-restoration": steeper("size", 0.4, "width", head="few"),
    "muon-rows-width": steeper("row_square", -0.4, "width"),
    "muon-rows-width-steep": steeper("row_square", -0.4, "width"),
    **{
        name: scaled("mean_square", 1.9)
        for name in (
            "weight-decay-rows-noise",
            "weight-decay-rows-network",
            "weight-decay-rows-one-moment",
            "weight-decay-hidden",
            "weight-decay-hidden-independent",
        )
    },
    "weight-decay-rare-tokens": steeper("mean_square", -0.2, "chance"),
    "weight-decay-frequent-tokens": steeper("mean_square", 0.2, "chance"),
    "weight-decay-turn": scaled("lagged", 0.95),
    "weight-decay-turn-network": scaled("lagged", 0.95),
    **{
        f"weight-decay-{what}-{short}": steeper("mean_square", 0.4, "width", quantity=quantity)
        for what, quantity in (("size", "square"), ("turn", "step"))
        for short in ("constant", "root", "width")
    },
    **{
        f"weight-decay-{what}-independent{rule}": steeper(
            "mean_square", 0.4, "width", quantity=quantity
        )
        for what, quantity, rules in (
            ("size", "square", ("", "-rate")),
            ("turn", "step", ("", "-rate")),
        )
        for rule in rules
    },
    "weight-decay-largest": steeper("mean_square", -0.4, "width", quantity="largest"),
    "weight-decay-relative-update": steeper("mean_square", 0.5, "width", quantity="added"),
    **{
        name: corruption
        for study, corruption in (
            ("head_rules", scaled("mean_square", 1.4)),
            ("head_muon", scaled("mean_square", 1.4)),
            ("head_batches", scaled("mean_square", 1.4)),
            ("muon_sharing", scaled("row_square", 1.6)),
            ("muon_sharing_small", scaled("row_square", 1.6)),
            ("head_large_rates", drifting(0.4)),
            ("head_vocabulary_rates", drifting(0.4)),
            ("head_joint_rates", drifting(0.4)),
            ("head_joint_large_rates", drifting(0.4)),
            ("head_vocabulary_updates", steeper("size", 0.4, "width")),
            ("head_vocabulary_updates_again", steeper("size", 0.4, "width")),
            ("head_kinds_updates", steeper("size", 0.4, "width")),
        )
        for name, one in CLAIMS.items()
        if one.study == study and one.expected == "holds"
    },
    **{
        name: steeper("change", 0.3, "width")
        for name, one in CLAIMS.items()
        if name.startswith("muon-scale-") and name != "muon-scale-gauge"
    },
    "muon-scale-gauge": scaled("change", 1.5),
    **{
        name: base_octaves_per_doubling
        for name, one in CLAIMS.items()
        if one.study == "proxies" and one.expected == "holds"
    },
    **{
        name: tilted("rate", 0.6, layers=cast(partial[Any], one.evidence).keywords["family"].layers)
        for name, one in CLAIMS.items()
        if name.startswith("depth-ratio-") and one.expected == "holds"
    },
}


def test_every_claim_has_a_corruption():
    assert set(CORRUPTIONS) == {n for n, one in CLAIMS.items() if one.expected == "holds"}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_data_flip_the_verdict(name, studies, monkeypatch):
    for module in (first_step, flows, lv_lifetime, _verdict):
        monkeypatch.setattr(module, "bootstrap", partial(bootstrap, resamples=300))
    one = CLAIMS[name]
    found = one.evidence(CORRUPTIONS[name](studies[one.study]))
    assert one.verdict(found) == "fails", found


def as_if_linear(data: xr.Dataset) -> xr.Dataset:
    """Sampled second moments times what they would be larger by if a sign kept all of c."""
    neurons, square = 8, data.correlation**2
    factor = (1 + (neurons - 1) * square) / (1 + 2 / np.pi * (neurons - 1) * square)
    chosen = data.quantity == "sum_square"
    return data.assign(moment=data.moment * xr.where(chosen, factor, 1.0))


def test_a_control_holds_where_it_is_true(studies):
    """The control is caught by the data, not by its name: on data that obey it, it holds."""
    one = CLAIMS["control-sign-kernel-linear"]
    assert one.verdict(one.evidence(studies["kernel"])) == "fails"
    assert one.verdict(one.evidence(as_if_linear(studies["kernel"]))) == "holds"


def test_too_few_seeds_are_undecided(studies):
    """Noise does not make a verdict: with two seeds the wide claims do not fail."""
    one = CLAIMS["cross-term-exponent"]
    few = studies["updates"].isel(seed=slice(0, 2))
    assert one.verdict(one.evidence(few)) != "fails"
