"""Numbers and labels that are equal but for how they were written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynsim import fit_transfer
from dynsim.statistics._equal import merged, sorted_labels

RATES = 10.0 ** np.linspace(-4, -1, 13)


def test_rounding_is_no_difference():
    written = [float(f"{rate:.6g}") for rate in RATES]
    computed = np.exp(np.log(RATES))
    single = RATES.astype(np.float32).astype(float)
    together = merged(np.concatenate([RATES, RATES, written, computed, single]))
    assert np.unique(together).tolist() == sorted(RATES)  # the value that occurs most often


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0.0, 1.0, 1.0 + 1e-9, 1.001, -2.0, np.inf]), max_size=9))
def test_what_differs_stays_different(values):
    found = merged(values)
    assert found == pytest.approx(values, rel=1e-8)
    assert len(np.unique(found)) == len({round(value, 6) for value in values})


def test_labels_of_seeds():
    assert sorted_labels([2, 1.0, 1])[0].tolist() == [1.0, 2.0]
    labels, place = sorted_labels(np.array([0, "run", 1.0, "1"], dtype=object))
    assert labels.tolist() == ["0", "1", "run"]
    assert place.tolist() == [0, 2, 1, 1]
    assert sorted_labels([10**400, 1])[0].tolist()[0] == "1"


def test_a_fit_takes_seeds_of_any_kind_and_rates_as_they_were_logged():
    from transfer_runs import runs, values

    width, rate, seed, loss = runs(seeds=2, noise=1e-3)
    single = np.where(seed == 1, rate.astype(np.float32).astype(float), rate)
    labels = ["second" if one == 1 else 0 for one in seed]
    labels = np.array(labels, dtype=object)
    one = fit_transfer(width, rate, seed, loss, factor=3.0, resamples=5)
    other = fit_transfer(width, single, labels, loss, factor=3.0, resamples=5)
    half = np.where(seed == 1, rate.astype(np.float16).astype(float), rate)
    few_digits = fit_transfer(width, half, seed, loss, factor=3.0, resamples=5)
    assert few_digits.noise_error == pytest.approx(one.noise_error, rel=1e-2)
    assert values(other) == pytest.approx(values(one), rel=1e-4)
    assert other.noise_error == pytest.approx(one.noise_error, rel=1e-3)
