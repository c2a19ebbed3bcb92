"""Sweeps with one seed, what an optimum costs elsewhere, and how it moves with the width."""

from __future__ import annotations

import numpy as np
import pytest
from transfer_runs import RATES, TRUTH, WIDTHS, fitted, runs

from dynsim import Status, fit_transfer
from dynsim.transfer import TRANSFER_PARAMETERS, asymptotic_penalties
from dynsim.transfer._runs import runs_by_width
from dynsim.transfer._scatter import noise_of
from dynsim.transfer._surface import Surface, joined, parabolas


def test_without_noise_one_seed_is_enough():
    fit = fitted(seeds=1)
    assert fit.intervals == "scatter"
    for name in TRANSFER_PARAMETERS:
        found = getattr(fit, name)
        assert found.status is Status.OK
        assert (found.low, found.high) == pytest.approx((found.value, found.value), rel=1e-5)


def test_both_kinds_of_noise_are_told_apart():
    """Over many widths, about the true surface: own noise of points and common noise of curves."""
    widths = np.geomspace(32, 4096, 60)
    for own, common in ((0.01, 0.0), (0.004, 0.02)):
        table = runs(widths=widths, seeds=1, noise=own, common=common, rate_amplitude=0.0)
        found, _ = runs_by_width(*table, factor=3.0)
        points = joined([one.points(number) for number, one in enumerate(found)])
        loss = np.concatenate([one.means[one.near] for one in found])
        centre = points.log_width.mean()
        amplitude = TRUTH["loss_amplitude"] * np.exp(-0.5 * centre)
        true = Surface(  # k = alpha A N_0^-alpha, and no shift of the optimum
            *(0.5, 1.0, 0.2, -5.0, 0.0, 1.2 + amplitude, 0.5 * amplitude),
            *(0.1 * np.exp(0.2 * centre), centre),
        )
        noise = noise_of(points, loss, parabolas(points, loss), true)
        assert noise.own == pytest.approx(own, rel=0.1)
        assert noise.common == pytest.approx(common, rel=0.25, abs=0.002)
        assert noise.common_freedom == 57


def test_less_than_five_widths_do_not_say_how_levels_scatter():
    """The optimum's power has an interval, since noise of a whole curve does not move it."""
    fit = fit_transfer(*runs(widths=WIDTHS[:4], seeds=1, noise=0.002), factor=3.0, resamples=40)
    for name in ("loss_limit", "loss_amplitude", "loss_exponent", "robustness"):
        found = getattr(fit, name)
        assert found.status is Status.NO_INTERVAL
        assert np.isnan([found.low, found.high]).all()
    assert fit.rate_exponent.status is Status.OK
    assert fit.rate_exponent.low < fit.rate_exponent.value < fit.rate_exponent.high
    few = fit_transfer(*runs(rates=RATES[2:8:2], seeds=1, widths=WIDTHS[:2]), factor=9.0)
    assert few.intervals == "none"  # two parabolas through three points each


def test_a_group_of_one_seed_beside_one_of_several():
    """Their difference has an interval from both kinds of noise, of the same size either way."""
    several = fitted(seeds=4, noise=0.002)
    single = fitted(seeds=1, noise=0.002, loss_limit=2.0)
    reference, (_, penalty) = asymptotic_penalties([several, single])
    assert reference == 0
    assert penalty.low < 0.8 < penalty.high
    assert penalty.high - penalty.low > single.loss_limit.high - single.loss_limit.low
    back = (several.resampled - single.resampled).interval()[:, 0]
    assert -back[::-1] == pytest.approx([penalty.low, penalty.high], rel=0.05)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_cost_of_another_widths_optimum(seeds):
    """H/2 (shift)^2 in closed form, and the same read from the curves, which are parabolas."""
    fit = fitted(seeds=seeds)
    assert len(fit.costs) == 5 * 4
    for one in fit.costs:
        shift = 2.0 * (one.tuned**-0.4 - one.used**-0.4)
        expected = 0.1 * one.used**0.2 / 2 * shift**2
        assert one.cost.value == pytest.approx(expected)
        assert one.read == pytest.approx(expected, abs=1e-9)
        assert one.cost.low == pytest.approx(expected, abs=1e-9)
    still = fitted(seeds=2, noise=0.001, rate_amplitude=0.0)
    assert still.robustness.status is Status.UNDETERMINED  # and yet every cost is known
    assert all(one.cost.low < 1e-3 for one in still.costs)
    assert all(one.cost.high < 2e-3 for one in still.costs)


def test_a_cost_read_from_a_curve_knows_what_the_parabola_does_not():
    skewed = fitted(seeds=1, skew=0.3)
    far = max(skewed.costs, key=lambda one: one.cost.value)
    assert abs(far.read / far.cost.value - 1) > 0.1
    table = runs(seeds=1, rate_amplitude=6.0)
    lost = (table[0] == 1024) & (table[1] > 1.1 * RATES[5])  # below the optimum of 64
    table[3] = np.where(lost, np.nan, table[3])
    costs = {(one.tuned, one.used): one for one in fit_transfer(*table, factor=3.0).costs}
    assert np.isnan(costs[64, 1024].read)
    assert costs[64, 1024].cost.value > costs[512, 1024].cost.value
    assert costs[512, 1024].read == pytest.approx(costs[512, 1024].cost.value)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_power_and_the_bend_of_the_optimum(seeds):
    """ln eta* = const + p ln N + (bend/2) (ln N - mean)^2, which least squares give back."""
    centre = np.log(WIDTHS).mean()
    for power, bend in ((-0.5, 0.0), (0.3, -0.2)):
        width, rate, seed, loss = runs(seeds=seeds, noise=0.001, rate_amplitude=0.0)
        offset = np.log(width) - centre
        moved = rate * np.exp(power * offset + bend / 2 * offset**2)
        trend = fit_transfer(width, moved, seed, loss, factor=3.0, resamples=60).trend
        assert trend.slope.value == pytest.approx(power, abs=0.01)
        assert trend.bend.value == pytest.approx(bend, abs=0.01)
        assert trend.slope.low < trend.slope.value < trend.slope.high
        expected = Status.OK if bend == 0 else Status.MISFIT
        assert trend.outcome.status is expected
    two = fitted(widths=WIDTHS[:2], seeds=seeds).trend
    assert two.slope.value == pytest.approx(-2 * (64**-0.4 - 128**-0.4) / np.log(2))
    assert two.outcome.status is Status.UNDETERMINED
    assert fitted(widths=WIDTHS[:1]).trend.outcome.status is Status.UNDETERMINED
