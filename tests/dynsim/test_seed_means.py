"""Means over seeds: Student's interval, by a second route."""

from __future__ import annotations

import numpy as np
import pytest

from dynsim._seed_means import seed_mean, seed_rms
from dynsim.statistics import jackknife


def test_the_interval_of_a_mean_is_that_of_the_jackknife(random):
    """For a mean both are Student's."""
    samples = random.normal(2.0, 1.0, size=(3, 5))
    band = seed_mean(samples)
    for row in range(3):
        other = jackknife(np.mean, [samples[row]])
        assert band.mean[row] == pytest.approx(other.value)
        assert (band.low[row], band.high[row]) == pytest.approx((other.low, other.high))
    assert np.array_equal(seed_mean(samples.T, axis=0).low, band.low)


def test_it_covers_the_mean_as_often_as_it_says(random):
    """95 % of 4000 samples of four seeds, and a shifted mean far less."""
    band = seed_mean(random.normal(1.0, 3.0, size=(4000, 4)))
    inside = np.mean((band.low < 1.0) & (band.high > 1.0))
    assert inside == pytest.approx(0.95, abs=0.015)
    assert np.mean((band.low < 7.0) & (band.high > 7.0)) < 0.7


def test_a_root_mean_square_is_the_root_of_the_mean_of_squares():
    band = seed_rms([3.0, 4.0, 5.0])
    squares = seed_mean([9.0, 16.0, 25.0])
    assert band.mean**2 == pytest.approx(squares.mean)
    assert band.high**2 == pytest.approx(squares.high)
    assert seed_rms([0.0, 10.0]).low == 0


def test_one_seed_has_no_interval():
    band = seed_mean([[2.0], [3.0]])
    assert band.mean.tolist() == [2.0, 3.0]
    assert np.isnan(band.low).all()
    assert np.isnan(band.high).all()
