"""The study of the fit: coverage of its intervals, in the stored run and in a small one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dynsim.transfer import TRANSFER_PARAMETERS
from experiments.results import STORED, load
from experiments.topics.transfer_coverage.figures import (
    SHOWN,
    coverage,
    one_seed_intervals,
    penalty_intervals,
)
from experiments.topics.transfer_coverage.study import COVERAGE


def test_the_stored_trial_covers_where_the_status_is_ok():
    study = load(STORED / "transfer_coverage.nc")
    wrong = {"no noise", "skewed valley", "second power"}
    right = [name for name in study.scenario.values if name not in wrong]
    share = coverage(study.sel(scenario=right), "drawn out", sure=True)
    assert np.nanmean(share) > 0.92
    assert np.nanmin(np.nanmean(share, axis=1)) > 0.88
    assert np.nanmean(share, axis=0).min() > 0.9
    plain = coverage(study.sel(scenario=right), "percentile", sure=True)
    assert np.nanmean(plain) < np.nanmean(share) - 0.05  # what the recipe is for
    held, half = penalty_intervals(study.sel(scenario=right))
    assert held.sel(pairing="paired").mean() > 0.92
    assert held.sel(pairing="paired").min() > 0.85
    common = half.sel(scenario=[name for name in right if name != "independent noise"])
    assert (common.sel(pairing="paired") < common.sel(pairing="independent")).all()
    names = study.parameter.values.tolist()
    exact = study.sel(scenario="no noise")
    error = np.abs(exact.value / exact.truth - 1).where(exact.parameter != "robustness")
    assert float(error.max()) < 1e-6
    rest = study.sel(scenario="optimum at rest", parameter="rate_exponent")
    assert float((rest.status == 2).mean()) > 0.9
    skewed = study.sel(scenario="skewed valley", parameter="rate_limit")
    assert float((skewed.status == 0).mean()) < 0.05
    assert set(SHOWN) <= set(names)


def test_intervals_of_one_seed_hold_the_truth_nearly_as_often():
    """In the stored trial, where the model is right; few widths say nothing about levels."""
    study = load(STORED / "transfer_coverage_one_seed.nc")
    right = [name for name in study.scenario.values if name != "skewed valley"]
    share, half = one_seed_intervals(study.sel(scenario=right))
    assert float(share.mean()) > 0.92
    assert float(share.min()) > 0.84
    assert float(share.sel(parameter=["rate_exponent", "curvature_exponent"]).min()) > 0.9
    assert float(share.sel(parameter="transfer_cost").min()) > 0.85
    few = ["3 widths", "4 widths", "as networks"]
    assert half.sel(scenario=few, parameter="loss_exponent").isnull().all()
    assert half.sel(scenario=few, parameter="rate_exponent").notnull().all()


def test_a_trial_is_repeatable_and_labelled():
    config = {**COVERAGE.config(True), "trials": 2, "resamples": 3}
    small = replace(
        COVERAGE, cells=lambda full: [{"scenario": "plain"}], config=lambda full: config
    )
    one, other = small.run(True), small.run(True)
    assert one.identical(other)
    assert one.parameter.values.tolist() == list(TRANSFER_PARAMETERS)
    assert one.interval.dims == ("scenario", "trial", "recipe", "parameter", "end")
    assert np.all(np.isfinite(one.value))
