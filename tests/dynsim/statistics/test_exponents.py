"""Exponents, optima, crossovers, collapses and their intervals, on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from dynsim import Estimate, bootstrap, fit_exponent
from dynsim.statistics import (
    collapse_spread,
    jackknife,
    jackknives,
    log_slope,
    parabola_minimum,
    unit_crossing,
)

SIZES = np.array([32.0, 64, 128, 256, 512])


def noisy_cells(random, exponent, seeds, noise=0.1):
    """Cells of y = 3 size^exponent with log-normal noise of mean one."""
    return [3 * size**exponent * random.lognormal(-(noise**2) / 2, noise, seeds) for size in SIZES]


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 0.5, 1.0])
def test_exact_power_laws(exponent):
    fit = fit_exponent(SIZES, [np.full(4, 2 * size**exponent) for size in SIZES])
    for value in (fit.value, fit.low, fit.high):
        assert value == pytest.approx(exponent, abs=1e-12)
    assert fit.drift == pytest.approx(0, abs=1e-12)


def test_power_turns_mean_squares_into_an_rms_exponent(random):
    cells = [random.normal(0, size, 4000) ** 2 for size in SIZES]
    fit = fit_exponent(SIZES, cells, power=0.5)
    assert fit.low < 1 < fit.high
    assert fit.high - fit.low < 0.05
    assert not fit.low < 0.9 < fit.high


def test_drift_sees_a_bias_of_small_sizes():
    """y = d^(1/2) (1 + 4/d) approaches its exponent from below."""
    fit = fit_exponent(SIZES, [np.full(2, d**0.5 * (1 + 4 / d)) for d in SIZES])
    assert fit.value < 0.5
    assert fit.value < fit.value + fit.drift < 0.5
    assert fit.drift > 0.25 * (0.5 - fit.value)
    two = fit_exponent(SIZES[:2], [np.ones(2), np.ones(2)])
    assert math.isnan(two.drift)


def test_one_seed_has_no_interval():
    fit = fit_exponent(SIZES, [np.array([size]) for size in SIZES])
    assert fit.value == fit.low == fit.high == pytest.approx(1)


def test_log_slope_is_least_squares(random):
    x, y = random.normal(size=(2, 9))
    assert log_slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0])


def test_bootstrap_covers_the_truth(random):
    """A nominal 95 % percentile interval over 16 seeds a cell: 88 to 99 % of 200 draws."""
    covered = [
        fit.low <= 0.5 <= fit.high
        for fit in (bootstrap_exponent(noisy_cells(random, 0.5, 16, noise=0.3)) for _ in range(200))
    ]
    assert 0.88 <= np.mean(covered) <= 0.99
    missed = [
        fit.low <= 0.65 <= fit.high
        for fit in (bootstrap_exponent(noisy_cells(random, 0.5, 16, noise=0.3)) for _ in range(20))
    ]
    assert np.mean(missed) < 0.2  # the interval is not wide for the sake of coverage


def bootstrap_exponent(cells):
    def slope(*resampled, axis=-1):
        return log_slope(np.log(SIZES), np.log([np.mean(cell, axis=axis) for cell in resampled]))

    return bootstrap(slope, cells, resamples=150)


def test_bootstrap_resamples_curves_whole():
    """Leading axes keep together: a difference along a seed's own curve has no spread."""
    offsets = np.random.default_rng(0).normal(0, 100, 12)
    curves = np.stack([offsets, offsets + 1])  # (rate, seed)

    def step(curve, axis=-1):
        return np.mean(curve[1] - curve[0], axis=axis)

    estimate = bootstrap(step, [curves], resamples=100)
    assert estimate.low == pytest.approx(1)
    assert estimate.high == pytest.approx(1)
    level = bootstrap(lambda curve, axis=-1: np.mean(curve[0], axis=axis), [curves], resamples=100)
    assert level.high - level.low > 10


def test_bootstrap_is_reproducible(random):
    cells = noisy_cells(random, 0.5, 8)
    assert fit_exponent(SIZES, cells) == fit_exponent(SIZES, cells)


@pytest.mark.parametrize("best", [0.02, 0.7, 3.3])
def test_parabola_minimum_is_exact_on_parabolas(best):
    rates = np.geomspace(1e-3, 10, 17)
    loss = 0.4 + 1.7 * (rates - best) ** 2
    assert parabola_minimum(rates, loss) == pytest.approx(best, rel=1e-9)
    assert parabola_minimum(rates, loss) != pytest.approx(1.01 * best, rel=1e-3)


def test_parabola_minimum_knows_when_there_is_none():
    rates = np.linspace(1, 5, 5)
    assert math.isnan(parabola_minimum(rates, rates))  # lowest at the lower edge
    assert math.isnan(parabola_minimum(rates, -rates))  # at the upper edge
    assert math.isnan(parabola_minimum(rates, np.full(5, np.nan)))
    assert math.isnan(parabola_minimum(rates, np.array([1, np.nan, 0, 1, 2.0])))
    assert math.isnan(parabola_minimum(rates, np.array([3, 2, 1, np.inf, np.inf])))
    assert parabola_minimum(rates, np.array([4, 1, 0, 1, np.inf])) == pytest.approx(3)


@pytest.mark.parametrize("crossover", [7.0, 40.0, 300.0])
def test_unit_crossing_of_a_power_law(crossover, random):
    rank = np.arange(1.0, 1001)
    ratio = (crossover / rank) ** 2
    assert unit_crossing(rank, ratio) == pytest.approx(crossover, rel=0.01)
    noisy = ratio * random.lognormal(0, 0.2, len(rank))
    assert unit_crossing(rank, noisy) == pytest.approx(crossover, rel=0.25)


def test_unit_crossing_is_nan_where_there_is_none():
    rank = np.arange(1.0, 51)
    assert math.isnan(unit_crossing(rank, 0.5 / rank))
    assert math.isnan(unit_crossing(rank, 2 + 1 / rank))
    assert math.isnan(unit_crossing(rank, np.full(50, 1.0)))


def test_collapse_spread_is_zero_for_a_true_collapse(random):
    d, m = np.exp(random.uniform(2, 8, (2, 40)))
    curve = np.sqrt(1 + 2 / np.pi * d / m)
    power = (d / m) ** 0.37
    assert collapse_spread(d / m, power) == pytest.approx(0, abs=1e-12)
    assert collapse_spread(d / m, curve) < 0.05
    assert collapse_spread(d * m, curve) > 0.3  # the wrong scaling variable
    assert collapse_spread(d / m, curve * random.lognormal(0, 0.5, 40)) > 0.3


def test_collapse_spread_does_not_depend_on_units(random):
    d, m = np.exp(random.uniform(2, 8, (2, 30)))
    value = np.sqrt(1 + d / m) * random.lognormal(0, 0.1, 30)
    spread = collapse_spread(d / m, value)
    assert collapse_spread(1e6 * d / m, value) == pytest.approx(spread)
    assert collapse_spread(d / m, 1e-6 * value) == pytest.approx(spread)


def test_jackknife_of_means_is_students_and_welchs_interval(random):
    def mean(one, axis=-1):
        return one.mean(axis=axis)

    def difference(one, other, axis=-1):
        return one.mean(axis=axis) - other.mean(axis=axis)

    few, many = random.normal(1, 1, 4), random.normal(0, 3, 7)
    for found, expected in (
        (jackknife(mean, [few]), scipy.stats.ttest_1samp(few, 0)),
        (jackknife(difference, [few, many]), scipy.stats.ttest_ind(few, many, equal_var=False)),
    ):
        interval = expected.confidence_interval()
        np.testing.assert_allclose([found.low, found.high], [interval.low, interval.high])
    assert jackknife(mean, [np.ones(3)]) == Estimate(1, 1, 1)
    alone = jackknife(mean, [np.ones(1)])
    assert alone.value == 1
    assert np.isnan([alone.low, alone.high]).all()


def test_jackknives_side_by_side_are_those_one_by_one(random):
    """Cells of several shapes and seeds, one of them with a single seed that is never left out."""
    cells = [random.normal(5, 1, (3, seeds)) for seeds in (4, 1, 3)]

    def statistics(*chosen, axis=-1):
        means = [one.mean(axis=axis) for one in chosen]
        return np.stack([means[0][0] * means[1][1] / means[2][2], means[2].max(axis=0)])

    together = jackknives(statistics, cells, vectorized=True)
    assert together == jackknives(statistics, cells)
    for place, found in enumerate(together):
        alone = jackknife(lambda *c, axis=-1, k=place: statistics(*c, axis=axis)[k], cells)
        assert found == alone
        assert found.low < found.value < found.high


def test_jackknife_leaves_whole_curves_out(random):
    """A sample's leading axes are left out together, a seed's curve at a time."""
    common = random.normal(size=5)
    curve = np.array([[0.0], [1.0]]) + common
    found = jackknife(lambda losses, axis=-1: np.ptp(losses.mean(axis=axis)), [curve])
    np.testing.assert_allclose([found.value, found.low, found.high], 1)
