"""Runs of a study under another seed: no random number is shared, and run 0 is as it was."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import numpy as np
import pytest
from helpers import assert_refused

from dynsim import claim
from dynsim.claims._seeds import SEEDS_OF_A_RUN
from dynsim.scaling import Measurement
from experiments.results import study_config
from experiments.topics import _claim_study
from experiments.topics._parts import TOPICS, claim_files
from experiments.topics._registry import STUDIES
from experiments.topics._seeds import MOST_RUNS, check_run, run_seed
from experiments.topics._stored import stored_study

pytestmark = pytest.mark.xdist_group("studies")

SMALL = {
    "kernel": {"seeds": 2, "samples": 50, "neurons": 4},
    "lazy": {
        **{"vocab_size": 8, "seeds": 2, "steps": 2},
        **{"embedding_lr": 0.03, "projection_lr": 1e-4},
    },
    "transfer_coverage": {"trials": 1, "resamples": 2},
    "mean_residual": {"vocab_size": 8, "outputs": 2, "seeds": 1},
    "transfer_coverage_one_seed": {"trials": 1, "resamples": 2},
    "bigram_steps": {"seeds": 1},
    "decay_rows": {"seeds": 1, "steps": 512},
    "decay_width": {"seeds": 1, "steps": 512, "vocab_size": 32, "outputs": 4},
    "decay_independent": {"seeds": 1, "steps": 512, "vocab_size": 32, "outputs": 4},
    "heads": {"blocks": 2, "work": 2**20},
    "head_rules": {"blocks": 2, "work": 2**20},
    "head_muon": {"blocks": 2, "work": 2**20},
    "head_batches": {"blocks": 2, "work": 2**20},
    "muon_rows": {"seeds": 1},
    "muon_sharing": {"seeds": 1},
    "muon_sharing_small": {"seeds": 1},
    "muon_scales": {"seeds": 1, "vocab_size": 256},
    "muon_training": {"seeds": 1, "steps": 2},
}
TRAINERS = (
    "train",
    "token_updates",
    "predict",
    "train_networks",
    "trained_networks",
    "network_coordinates",
    "network_losses",
    "drawn",
)


class Reached(Exception):
    """A study has come to what draws random numbers."""


@pytest.mark.parametrize("name", STUDIES)
def test_run_zero_is_described_as_it_is_stored(name):
    """The seed 0 appears in no description, another one does."""
    config = study_config(stored_study(name))
    full = STUDIES[name].description(True)
    assert "seed" not in config
    assert config in (plain(full), plain(STUDIES[name].description(False)))
    assert STUDIES[name].description(True, seed=7) == {**full, "seed": 7}


# Studies whose run 0 has the seeds of a later one, since those of run 0 served pilot runs.
LATER = {"nonlinear_layers": 1, "nonlinear_few_tokens": 1}


def plain(value):
    """As JSON has it: lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def test_runs_share_no_seed():
    assert run_seed(0, 17) == 17  # of run 0 a seed is its number
    assert run_seed(1, 0) == run_seed(0, SEEDS_OF_A_RUN - 1) + 1
    assert run_seed(MOST_RUNS - 1, SEEDS_OF_A_RUN - 1) < 2**31
    for wrong in (-1, MOST_RUNS, 1.5, True):
        assert_refused("seed", partial(check_run, wrong))
        assert_refused("seed", partial(STUDIES["kernel"].run, False, seed=wrong))


def test_claims_with_another_first_seed_share_no_network():
    """The networks of a claim have the seeds from its own on, at most so many as it trains."""
    found = [one for topic in TOPICS for file in claim_files(topic).values() for one in file.claims]
    versions = [one for claim in found for one in (claim, claim.at_full())]
    ends: dict[int, int] = {}
    for one in versions:
        first = one.options["seed"]
        ends[first] = max(ends.get(first, 0), first + one.seeds)
    starts = sorted(ends)
    assert len(starts) > 3
    assert all(ends[first] <= other for first, other in pairwise(starts))
    assert ends[starts[-1]] <= SEEDS_OF_A_RUN


def test_cells_of_claims_hold_the_labels_of_their_networks():
    """Of two setups of equal sizes the second has networks of its own, in the name of its cell."""
    common = {"name": "x", "statement": "x.", "quantity": "loss", "prediction": 0, "tolerance": 1}
    grown = claim(**common, batch_sizes=[4, 8], width=16, vocab_size=4, seeds=5)
    first, second = (json.loads(one["cell"]) for one in _claim_study.claim_cells([grown]))
    assert "first" not in first  # as in data that are stored
    assert (second["seeds"], second["first"]) == (5, 5)
    alone = claim(**common, batch_sizes=[8, 16], width=16, vocab_size=4, seeds=5)
    cells = [one["cell"] for one in _claim_study.claim_cells([grown, alone])]
    assert len(cells) == 4  # a batch of 8 is trained with either labels
    asked = []
    recorded = Measurement("losses", lambda setup, labels, _: asked.append(labels) or {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_claim_study, "_measurements", lambda: {"losses": recorded})
        _claim_study.measured_cell(cells[1], full=False)
    assert asked[0].tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("name", sorted(set(STUDIES) - set(SMALL)))
def test_what_a_study_trains_or_solves_has_a_seed_of_its_run(name, monkeypatch):
    study = STUDIES[name]
    full = not study.cells(False)

    def reached(setup, *_, **__):
        raise Reached(setup.seed)

    topics = [module for at, module in sys.modules.items() if at.startswith("experiments.topics.")]
    for module in topics:
        for trainer in TRAINERS:
            if hasattr(module, trainer):
                monkeypatch.setattr(module, trainer, reached)
    measurements = {name: Measurement(name, reached) for name in _claim_study._measurements()}
    monkeypatch.setattr(_claim_study, "_measurements", lambda: measurements)
    for run in (0, 3):
        with pytest.raises(Reached) as found:
            study.measure(**study.cells(full)[0], **study.config(full), seed=run)
        (seed,) = found.value.args
        first = run + LATER.get(name, 0)
        assert SEEDS_OF_A_RUN * first <= seed < SEEDS_OF_A_RUN * (first + 1)


@pytest.mark.slow
@jax.numpy_rank_promotion("allow")
@pytest.mark.parametrize("name", SMALL)
def test_what_a_study_samples_itself_differs_between_runs(name, quick_compilation):
    full = not STUDIES[name].cells(False)
    cells = STUDIES[name].cells(full)[:1]
    settings = {**STUDIES[name].config(full), **SMALL[name]}
    small = replace(STUDIES[name], cells=lambda _: cells, config=lambda _: settings)
    first, again, other = (small.run(full, seed=seed) for seed in (0, 0, 1))
    variable = next(iter(first.data_vars))
    assert first.equals(again)
    assert not np.any(first[variable].to_numpy() == other[variable].to_numpy())
