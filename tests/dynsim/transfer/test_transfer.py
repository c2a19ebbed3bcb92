"""Transfer metrics: known surfaces come back, symmetries hold, and every status has its case."""

from __future__ import annotations

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from dynsim import InputError, Outcome, Status, fit_transfer
from dynsim.statistics import Resampled, SeedResamples
from dynsim.transfer import TRANSFER_PARAMETERS, asymptotic_penalties, loss_penalties
from dynsim.transfer._runs import mean_losses, runs_by_width
from dynsim.transfer._surface import Points, _Projected, fit_surface
from experiments.plots.transfer import _rate_ticks, transfer_metrics
from experiments.sweeps.run_tables import read_runs
from experiments.sweeps.transfer_analysis import telling_columns

WIDTHS = np.array([64.0, 128, 256, 512, 1024])
RATES = np.exp(np.linspace(-6.5, -2.5, 9))
TRUTH = {
    "loss_limit": 1.2,
    "loss_amplitude": 3.0,
    "loss_exponent": 0.5,
    "rate_limit": np.exp(-5.0),
    "rate_amplitude": 2.0,
    "rate_exponent": 0.4,
    "curvature_amplitude": 0.1,
    "curvature_exponent": 0.2,
    "robustness": 0.5 - 0.8 + 0.2,
}


def runs(*, widths=WIDTHS, rates=RATES, seeds=2, noise=0.0, common=0.0, skew=0.0, **changes):
    """Runs of a surface with some parameters changed: widths, rates, seeds, losses."""
    truth = {**TRUTH, **changes}
    width, rate, seed = np.meshgrid(widths, rates, np.arange(seeds), indexing="ij")
    lowest = truth["loss_limit"] + truth["loss_amplitude"] * width ** -truth["loss_exponent"]
    shift = truth["rate_amplitude"] * width ** -truth["rate_exponent"]
    distance = np.log(rate) - np.log(truth["rate_limit"]) - shift
    curvature = truth["curvature_amplitude"] * width ** truth["curvature_exponent"]
    loss = lowest + curvature / 2 * distance**2 * (1 + skew * distance)
    random = np.random.default_rng(5)
    own = noise * random.normal(size=loss.shape)
    shared = common * random.normal(size=(len(widths), 1, seeds))
    return [width.ravel(), rate.ravel(), seed.ravel(), (loss * (1 + own + shared)).ravel()]


def values(fit) -> np.ndarray:
    return np.array([getattr(fit, name).value for name in TRANSFER_PARAMETERS])


def fitted(**changes):
    return fit_transfer(*runs(**changes), factor=3.0, resamples=20)


# The fit


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rate_amplitude": -1.5},
        {"loss_exponent": 1.3, "loss_amplitude": 60.0},
        {"rate_exponent": 1.0, "rate_amplitude": 40.0, "curvature_exponent": -0.3},
        {"widths": WIDTHS[:3]},
    ],
)
def test_a_surface_without_noise_comes_back(changes):
    fit = fitted(**changes)
    truth = {**TRUTH, **{k: v for k, v in changes.items() if k in TRUTH}}
    kappa = truth["loss_exponent"] - 2 * truth["rate_exponent"] + truth["curvature_exponent"]
    truth["robustness"] = kappa
    for name in TRANSFER_PARAMETERS:
        found = getattr(fit, name)
        assert found.value == pytest.approx(truth[name], rel=1e-6, abs=1e-6), name
        assert found.low == pytest.approx(found.high, rel=1e-6, abs=1e-6)
        assert found.status == "ok"
    assert fit.error < 1e-9
    assert np.isnan(fit.held_out_error) == (len(fit.curves) < 4)
    assert not fit.held_out_error > 1e-6
    for curve in fit.curves:
        shift = truth["rate_amplitude"] * curve.width ** -truth["rate_exponent"]
        assert np.log(curve.learning_rate.value) == pytest.approx(-5 + shift)
        lowest = (
            truth["loss_limit"] + truth["loss_amplitude"] * curve.width ** -truth["loss_exponent"]
        )
        assert curve.loss.value == pytest.approx(lowest)
        assert fit.predict(curve.width, curve.learning_rate.value) == pytest.approx(lowest)


def test_rates_in_other_units_change_only_their_limit():
    table = runs(noise=0.004, seeds=3)
    one = fit_transfer(*table, resamples=5)
    other = fit_transfer(table[0], 7.3 * table[1], *table[2:], resamples=5)
    expected = values(one)
    expected[3] *= 7.3
    assert values(other) == pytest.approx(expected, rel=1e-5)
    assert other.rate_limit.high == pytest.approx(7.3 * one.rate_limit.high, rel=1e-4)
    assert (other.error, other.held_out_error) == pytest.approx(
        (one.error, one.held_out_error), rel=1e-5
    )


def test_widths_in_other_units_change_amplitudes_only():
    table = runs(noise=0.004, seeds=3)
    one = fit_transfer(*table, resamples=5)
    other = fit_transfer(table[0] / 64, *table[1:], resamples=5)
    expected = values(one)
    expected[1] *= 64**-one.loss_exponent.value
    expected[4] *= 64**-one.rate_exponent.value
    expected[6] *= 64**one.curvature_exponent.value
    assert values(other) == pytest.approx(expected, rel=1e-5)


def test_a_constant_added_to_the_loss_shifts_its_limit_only():
    expected = values(fitted())
    expected[0] += 2.5
    assert values(fitted(loss_limit=TRUTH["loss_limit"] + 2.5)) == pytest.approx(expected, rel=1e-6)


def test_the_error_is_the_relative_rms_residual():
    table = runs(noise=0.01, seeds=2)
    fit = fit_transfer(*table, factor=3.0, resamples=5)
    loss = table[3].reshape(5, 9, 2).mean(axis=2)
    residual = (loss - fit.predict(WIDTHS[:, None], RATES)) / loss
    assert fit.error == pytest.approx(np.sqrt(np.mean(residual**2)))
    # 45 points, 8 parameters, and the mean of two seeds
    assert fit.noise_error == pytest.approx(0.01 / np.sqrt(2) * np.sqrt(37 / 45), rel=0.25)
    scipy_free = fit_transfer(*(column[table[0] < 1024] for column in table), factor=3.0)
    last = (loss[-1] - scipy_free.predict(1024, RATES)) / loss[-1]
    assert fit.held_out_error == pytest.approx(np.sqrt(np.mean(last**2)), rel=1e-4)


def test_the_fit_is_the_least_of_its_squares():
    """No parameter of the eight improves the weighted residual, by an independent minimiser."""
    from scipy.optimize import minimize

    table = runs(noise=0.02, seeds=2)
    fit = fit_transfer(*table, factor=3.0, resamples=2)
    loss = table[3].reshape(5, 9, 2).mean(axis=2)
    nu = np.log(WIDTHS / 256)[:, None]

    def squares(p):
        optimum = p[3] + p[4] * np.exp(-p[5] * nu)
        model = p[0] + p[1] * np.exp(-p[2] * nu)
        model = model + p[6] / 2 * np.exp(p[7] * nu) * (np.log(RATES) - optimum) ** 2
        return 45 * np.mean(((loss - model) / loss) ** 2)

    start = [1.2, 3 / 16, 0.5, -5, 2 * 256**-0.4, 0.4, 0.1 * 256**0.2, 0.2]
    least = minimize(squares, start, method="BFGS", options={"gtol": 1e-9})
    assert 45 * fit.error**2 == pytest.approx(least.fun, rel=1e-6)
    exponents = [fit.loss_exponent.value, fit.rate_exponent.value, fit.curvature_exponent.value]
    assert exponents == pytest.approx(least.x[[2, 5, 7]], abs=1e-3)


def test_the_projected_gradient_is_that_of_finite_differences():
    width, rate, _, loss = runs(noise=0.05, seeds=1)
    index = np.unique(width, return_inverse=True)[1]
    problem = _Projected(Points(index, np.log(width), np.log(rate), 1 / loss), loss)
    trial = np.array([0.7, 0.3, 0.1, -5.2, 0.4])
    gradient = problem.jacobian(trial).T @ problem.residual(trial)

    def half_squares(at):
        return np.sum(problem.residual(at) ** 2) / 2

    step = 1e-6 * np.eye(5)
    slopes = [(half_squares(trial + one) - half_squares(trial - one)) / 2e-6 for one in step]
    assert gradient == pytest.approx(np.array(slopes), rel=1e-5)


def test_more_seeds_weigh_more():
    """A point with one seed counts as half of one with two: the fit of the mean of both seeds is
    that of every run by itself, where all rates have both."""
    width, rate, seed, loss = runs(noise=0.02, seeds=2)
    few = ~((seed == 1) & (rate > RATES[5]))
    fit = fit_transfer(width[few], rate[few], seed[few], loss[few], factor=3.0, resamples=2)
    index = np.unique(width, return_inverse=True)[1]
    table = pd.DataFrame({"i": index, "x": np.log(rate), "n": np.log(width), "y": loss})[few]
    cells = table.groupby(["i", "x"], as_index=False).agg(
        n=("n", "first"), y=("y", "mean"), count=("y", "size")
    )
    points = Points(
        *(cells[name].to_numpy() for name in "inx"),
        np.sqrt(cells["count"].to_numpy()) / cells.y.to_numpy(),
    )
    direct = fit_surface(points, cells.y.to_numpy(), starts=3)
    assert fit.loss_exponent.value == pytest.approx(direct.alpha, rel=1e-5)
    assert fit.rate_exponent.value == pytest.approx(direct.beta, rel=1e-5)


# Intervals


def test_the_interval_of_a_mean_is_students():
    """For a mean of one width's seeds the recipe is Student's interval but for resampling."""
    from scipy.stats import t

    random = np.random.default_rng(0)
    for seeds in (3, 5, 20):
        loss = 2 + 0.1 * random.normal(size=(3, seeds))
        table = [
            np.repeat(64.0, 3 * seeds),
            np.repeat([1.0, 2.0, 4.0], seeds),
            np.tile(np.arange(seeds), 3),
            np.sort(loss, axis=0)[[1, 0, 2]].ravel(),
        ]
        (one,), _ = runs_by_width(*table, 1.35)
        resamples = SeedResamples({one.sample: seeds}, 4000)
        rows = mean_losses([one], resamples)
        low, high = resamples.of(rows).interval()
        half = t.ppf(0.975, seeds - 1) * one.losses.std(axis=1, ddof=1) / np.sqrt(seeds)
        assert (high - low) / 2 == pytest.approx(half, rel=0.15)
        assert resamples.of(rows).variances.sum(axis=0) == pytest.approx(
            one.losses.var(axis=1, ddof=1) / seeds
        )


def without(seeds: int, variance: float) -> np.ndarray:
    """Values without each of the seeds, whose jackknife variance is the given one."""
    spread = np.linspace(-1, 1, seeds)
    return spread * np.sqrt(variance / np.var(spread) / (seeds - 1))


def test_freedom_is_that_of_welch():
    """Two widths of equal variance and 4 seeds have 6 degrees of freedom, one alone has 3."""
    from scipy.stats import t

    draws = np.linspace(-1, 1, 1001)
    end = 0.95  # of the draws, before they are drawn out
    for variances, freedom in (([1.0, 1.0], 6), ([1.0, 0.0], 3)):
        left_out = dict(zip("ab", (without(4, one) for one in variances), strict=True))
        resampled = Resampled(np.array(0.0), draws, left_out)
        assert resampled.variances == pytest.approx(variances)
        interval = resampled.interval()
        stretch = t.ppf(0.975, freedom) / 1.959964 / np.sqrt(3 / 4)
        assert interval == pytest.approx(np.array([-end, end]) * stretch, rel=1e-3)


def test_a_difference_has_the_freedom_of_both():
    """Two independent statistics of equal variance and 4 seeds each have 6 degrees of freedom."""
    from scipy.stats import t

    draws = np.random.default_rng(0).normal(size=(2, 20_000))
    one = Resampled(np.array(2.0), 2 + draws[0], {"a": without(4, 1)})
    other = Resampled(np.array(0.5), 0.5 + draws[1], {"b": without(4, 1)})
    half = t.ppf(0.975, 6) * np.sqrt(2 / (3 / 4))
    assert (one - other).interval() == pytest.approx(np.array([1.5 - half, 1.5 + half]), rel=0.04)


def test_a_difference_of_common_seeds_has_their_freedom_and_the_spread_of_the_pairs():
    """Of 4 seeds, one statistic three times as far from its value as the other: the difference is
    twice as far, with 3 degrees of freedom; a further width of one of them adds its own."""
    from scipy.stats import t

    draws = np.random.default_rng(0).normal(size=(2, 20_000))
    one = Resampled(np.array(2.0), 2 + 3 * draws[0], {"a": 2 + 3 * without(4, 1)})
    other = Resampled(np.array(0.5), 0.5 + draws[0], {"a": 0.5 + without(4, 1)})
    half = 2 * t.ppf(0.975, 3) / np.sqrt(3 / 4)
    difference = one - other
    assert difference.variances == pytest.approx([4])
    assert difference.interval() == pytest.approx(np.array([1.5 - half, 1.5 + half]), rel=0.03)
    left_out = {"b": 0.5 + without(4, 4), "a": 0.5 + without(4, 1)}
    wider = Resampled(np.array(0.5), 0.5 + draws[0] + 2 * draws[1], left_out)
    difference = one - wider
    assert difference.variances == pytest.approx([4, 4])
    half = t.ppf(0.975, 6) * np.sqrt(8 / (3 / 4))
    assert difference.interval() == pytest.approx(np.array([1.5 - half, 1.5 + half]), rel=0.04)


def test_a_seeds_curve_stays_together():
    """Noise common to a seed's whole curve moves L* and leaves the optimum where it is."""
    fit = fitted(common=0.05, seeds=5)
    for curve in fit.curves:
        assert curve.loss.high - curve.loss.low > 0.02
        assert np.log(curve.learning_rate.high / curve.learning_rate.low) < 1e-6


def test_intervals_hold_the_truth_and_not_a_wrong_exponent():
    fit = fit_transfer(*runs(noise=0.003, common=0.003, seeds=6), factor=3.0, resamples=200)
    for name in TRANSFER_PARAMETERS:
        found = getattr(fit, name)
        assert found.low < TRUTH[name] < found.high, name
        assert found.status == "ok"
    for name, wrong in (("loss_exponent", 0.8), ("rate_exponent", 0.8), ("robustness", 0.5)):
        found = getattr(fit, name)
        assert not found.low < wrong < found.high


# Statuses


def statuses(fit) -> dict[str, str]:
    names = {"alpha": "loss_exponent", "beta": "rate_exponent", "gamma": "curvature_exponent"}
    found = {short: str(getattr(fit, name).outcome) for short, name in names.items()}
    return {**found, "kappa": str(fit.robustness.outcome)}


def test_an_optimum_at_rest_has_no_exponent_and_no_kappa():
    for noise, seeds in ((0.0, 1), (0.0, 2), (0.003, 4)):
        fit = fitted(rate_amplitude=0.0, noise=noise, seeds=seeds)
        found = statuses(fit)
        assert "the optimum does not move" in found["beta"]
        assert found["kappa"].startswith("undetermined: beta: the optimum does not move")
        assert not found["alpha"].startswith("undetermined")
        assert str(fit.rate_limit.outcome) == found["beta"]


def test_a_loss_that_does_not_fall_has_no_exponent():
    fit = fitted(loss_amplitude=0.0, noise=0.003, seeds=4)
    assert "L* does not fall" in statuses(fit)["alpha"]
    rising = fitted(loss_amplitude=-3.0)
    assert "L* rises from width 64 to 128" in statuses(rising)["alpha"]
    table = runs(noise=0.001, seeds=3)
    table[3] = np.where(table[0] == 512, table[3] * 1.2, table[3])
    found = statuses(fit_transfer(*table, factor=3.0, resamples=20))
    assert found["alpha"] == "undetermined: L* rises from width 256 to 512"
    assert found["kappa"].startswith("undetermined: alpha: L* rises")


def test_an_optimum_that_moves_back_and_forth():
    table = runs()
    table[1] = np.where(table[0] == 256, 3 * table[1], table[1])
    assert "back and forth" in statuses(fit_transfer(*table, factor=3.0, resamples=5))["beta"]


def test_an_exponent_whose_interval_reaches_its_bounds():
    noisy = fitted(noise=0.03, common=0.02, seeds=3, loss_exponent=0.2, loss_amplitude=1.0)
    assert "the interval of alpha reaches 0" in statuses(noisy)["alpha"]
    assert noisy.loss_limit.outcome == noisy.loss_exponent.outcome
    steep = fitted(noise=0.01, seeds=3, loss_exponent=3.0, loss_amplitude=64.0**3)
    assert "the interval of alpha has no upper end" in statuses(steep)["alpha"]


def test_too_few_widths():
    two = fitted(widths=WIDTHS[:2])
    found = statuses(two)
    assert "L_inf, A and alpha need 3 widths" in found["alpha"]
    assert "there are 2" in found["beta"]
    assert found["gamma"] == "ok"
    assert two.curvature_exponent.value == pytest.approx(0.2)
    assert two.curvature_amplitude.value == pytest.approx(0.1)
    assert np.isnan(two.error)
    assert np.isnan(two.predict(64.0, 0.01))
    one = fitted(widths=WIDTHS[:1])
    assert all(status.startswith("undetermined") for status in statuses(one).values())
    assert "h and gamma need 2 widths" in statuses(one)["gamma"]
    assert one.curves[0].loss.value == pytest.approx(1.2 + 3 / 8)


def test_one_seed_has_values_and_no_intervals():
    fit = fitted(seeds=1)
    assert set(statuses(fit).values()) == {"no interval: a width has one seed only"}
    assert fit.loss_exponent.value == pytest.approx(0.5)
    assert np.isnan([fit.loss_exponent.low, fit.curves[0].loss.high, fit.noise_error]).all()
    table = runs(seeds=3)
    single = (table[0] < 1024) | (table[2] == 0)
    fit = fit_transfer(*(column[single] for column in table), factor=3.0, resamples=5)
    assert str(fit.loss_exponent.outcome) == "no interval: a width has one seed only"


def test_a_valley_that_is_no_parabola_is_a_misfit():
    fit = fitted(noise=0.0005, seeds=3, skew=0.1)
    assert statuses(fit)["alpha"].startswith("misfit: E is")
    assert fit.error > 3 * fit.noise_error
    straight = fitted(noise=0.0005, seeds=3)
    assert statuses(straight)["alpha"] == "ok"


def test_a_width_off_the_power_law_is_a_misfit_of_what_is_held_out():
    table = runs(noise=0.0005, seeds=4)
    table[3] = np.where(table[0] == 1024, 0.98 * table[3], table[3])
    fit = fit_transfer(*table, factor=3.0, resamples=20)
    assert fit.held_out_error > 2.5 * fit.held_out_noise
    assert statuses(fit)["alpha"].startswith("misfit")


# What takes part


def test_an_optimum_at_the_grids_edge_is_left_out_and_named():
    table = runs()
    cut = (table[0] > 64) | (table[1] < RATES[4])
    fit = fit_transfer(*(column[cut] for column in table), factor=3.0, resamples=5)
    edge = Outcome(Status.EDGE, "lowest loss at the largest learning rate")
    assert fit.curves[0].outcome == edge
    assert [curve.status for curve in fit.curves[1:]] == ["ok"] * 4
    assert values(fit) == pytest.approx(list(TRUTH.values()), rel=1e-6)
    assert np.isnan(fit.curves[0].loss.value)
    low = (table[0] > 64) | (table[1] > RATES[6])
    fit = fit_transfer(*(column[low] for column in table), factor=3.0, resamples=5)
    assert fit.curves[0].outcome.message == "2 learning rates, needs 3"
    table[3] = np.where((table[0] == 64) & ~np.isin(table[1], RATES[:4]), np.nan, table[3])
    outcome = fit_transfer(*table, factor=3.0, resamples=5).curves[0].outcome
    assert outcome.message == "lowest loss at the largest learning rate that did not diverge"
    table[3] = np.where((table[0] == 64) & (table[1] > RATES[0]), np.nan, table[3])
    outcome = fit_transfer(*table, factor=3.0, resamples=5).curves[0].outcome
    assert outcome.message == "1 learning rate without divergence, needs 3"


def test_divergence_takes_a_learning_rate_out():
    table = runs()
    gone = (table[1] == RATES[-1]) & (table[2] == 1)
    table[3] = np.where(gone, np.nan, table[3])
    table[3] = np.where(
        (table[1] == RATES[-2]) & (table[0] == 64) & (table[2] == 0), np.inf, table[3]
    )
    fit = fit_transfer(*table, factor=3.0, resamples=5)
    assert fit.diverged == 6
    assert [len(curve.learning_rates) for curve in fit.curves] == [7, 8, 8, 8, 8]
    assert values(fit) == pytest.approx(list(TRUTH.values()), rel=1e-6)
    table[3] = np.full_like(table[3], np.nan)
    nothing = fit_transfer(*table)
    assert {curve.outcome.message[:16] for curve in nothing.curves} == {"0 learning rates"}
    assert "there are 0" in nothing.loss_exponent.outcome.message


def test_the_factor_picks_one_stretch_around_the_optimum():
    table = runs(seeds=2, curvature_amplitude=0.3)
    fit = fit_transfer(*table, factor=1.2, resamples=2)
    for curve in fit.curves:
        assert np.array_equal(curve.near, curve.losses <= 1.2 * curve.losses.min())
        assert not curve.near.all()
    lowest = 1.2 + 3 * table[0] ** -0.5
    table[3] = np.where(table[1] == RATES[0], 1.1 * lowest, table[3])  # far off, but low again
    far = fit_transfer(*table, factor=1.2, resamples=2)
    assert not any(curve.near[0] for curve in far.curves)
    few = fit_transfer(*runs(curvature_amplitude=4.0), factor=1.01, resamples=2)
    assert few.curves[0].outcome.message == "1 learning rate within the factor, needs 3"


def test_a_parabola_without_minimum_is_no_optimum():
    rates = np.array([1.0, 2, 4, 8, 16])
    loss = np.array([1.0, 2, 1.95, 2, 1.0])
    (one,), _ = runs_by_width(
        np.full(5, 64.0), rates, np.zeros(5), loss[[1, 1, 2, 3, 3]] - 0.9, 3.0
    )
    assert one.outcome.ok
    capped = np.array([1.3, 1.32, 1.2, 1.35, 1.2001])
    (one,), _ = runs_by_width(np.full(5, 64.0), rates, np.zeros(5), capped, 3.0)
    assert one.outcome.message == "the parabola has no minimum among its points"


# R_inf


def test_the_penalty_is_the_distance_of_the_limits():
    fits = [fitted(loss_limit=limit) for limit in (1.5, 1.2, 1.9)]
    reference, penalties = asymptotic_penalties(fits)
    assert reference == 1
    assert [one.value for one in penalties] == pytest.approx([0.3, 0, 0.7], abs=1e-6)
    assert {one.status for one in penalties} == {"ok"}


def test_the_penaltys_interval_adds_both_variances_where_seeds_differ():
    tables = [runs(loss_limit=limit, noise=0.003, common=0.003, seeds=6) for limit in (1.2, 1.7)]
    tables[1][2] = tables[1][2] + 6
    fits = [fit_transfer(*table, factor=3.0, resamples=300) for table in tables]
    _, (_, penalty) = asymptotic_penalties(fits)
    spreads = [one.loss_limit.high - one.loss_limit.low for one in fits]
    assert penalty.high - penalty.low == pytest.approx(np.hypot(*spreads), rel=0.25)
    assert penalty.low < 0.5 < penalty.high
    for width, loss in loss_penalties(fits[1], fits[0]).items():
        curves = [one.curves[list(WIDTHS).index(width)].loss for one in fits]
        spreads = [one.high - one.low for one in curves]
        assert loss.high - loss.low == pytest.approx(np.hypot(*spreads), rel=0.25)
        assert loss.low < 0.5 < loss.high


def raised(by: float, *, seeds=(0, 1, 2, 3), widths=WIDTHS[::2]):
    """Three widths, which a fit passes through exactly: what every seed adds to a whole curve
    moves L* and nothing else."""
    table = [column.astype(float) for column in runs(widths=widths, seeds=4)]
    noise = 0.005 * np.random.default_rng(3).normal(size=(len(WIDTHS), 4))
    table[3] += by + noise[np.searchsorted(WIDTHS, table[0]), table[2].astype(int)]
    table[2] = np.asarray(seeds)[table[2].astype(int)]
    return table


def test_noise_common_to_paired_seeds_cancels():
    low, high = (fit_transfer(*raised(by), factor=3.0, resamples=50) for by in (0.0, 0.3))
    assert low.loss_limit.high - low.loss_limit.low > 0.02
    _, (_, penalty) = asymptotic_penalties([low, high])
    assert [penalty.value, penalty.low, penalty.high] == pytest.approx([0.3] * 3, abs=1e-6)
    differences = loss_penalties(high, low)
    assert list(differences) == WIDTHS[::2].tolist()
    for curve, loss in zip(low.curves, differences.values(), strict=True):
        assert curve.loss.high - curve.loss.low > 0.004
        assert [loss.value, loss.low, loss.high] == pytest.approx([0.3] * 3)


def test_seeds_are_paired_by_label_at_each_width():
    def spread(*tables) -> list[float]:
        fits = [fit_transfer(*table, factor=3.0, resamples=50) for table in tables]
        return [one.high - one.low for one in loss_penalties(*fits).values()]

    low, high = raised(0.0), raised(0.3)
    order = np.random.default_rng(0).permutation(len(high[0]))
    assert spread(low, [column[order] for column in high]) == pytest.approx([0] * 3)
    named = [f"seed {number:g}" for number in high[2]]
    assert spread([*low[:2], named, low[3]], [*high[:2], named, high[3]]) == pytest.approx([0] * 3)
    assert min(spread(low, [*high[:2], named, high[3]])) > 0.004
    assert min(spread(low, raised(0.3, seeds=(0, 1, 2, 4)))) > 0.004
    fewer = (high[0] != 256) | (high[2] < 3)
    first, middle, last = spread(low, [column[fewer] for column in high])
    assert (first, last) == pytest.approx((0, 0))
    assert middle > 0.004
    more = raised(0.3, widths=WIDTHS[1:])  # 256 and 1024 are common, at other places
    assert spread(low, more) == pytest.approx([0, 0])
    real = [*high[:2], high[2].astype(np.float64), high[3]]
    assert spread(low, real) == pytest.approx([0] * 3)


def test_differences_of_the_loss_without_what_they_need():
    known, short, single = fitted(), fitted(widths=WIDTHS[3:]), fitted(seeds=1, loss_limit=2.0)
    assert list(loss_penalties(short, known)) == WIDTHS[3:].tolist()
    assert loss_penalties(short, fitted(widths=WIDTHS[:3])) == {}
    for one in loss_penalties(single, known).values():
        assert one.value == pytest.approx(0.8)
        assert np.isnan([one.low, one.high]).all()
    table = runs(loss_limit=2.0)
    cut = (table[0] > 64) | (table[1] < RATES[4])
    edge = fit_transfer(*(column[cut] for column in table), factor=3.0, resamples=20)
    for pair, sign in (((edge, known), 1), ((known, edge), -1)):
        found = loss_penalties(*pair)
        assert list(found) == WIDTHS[1:].tolist()
        assert [one.value for one in found.values()] == pytest.approx([0.8 * sign] * 4)
    few = fit_transfer(*runs(loss_limit=2.0), factor=3.0, resamples=21)
    with pytest.raises(InputError, match=r"resamples \(21, 20\)"):
        loss_penalties(few, known)
    with pytest.raises(InputError, match=r"resamples \(21, 20\)"):
        asymptotic_penalties([known, few])


def test_limits_that_are_infinite_in_both_have_a_difference():
    """Of pairs of resamples without a limit: their difference is no number."""
    draws = np.linspace(-1, 1, 1001)
    few, many = (
        Resampled(np.array(0.0), np.where(draws < end, -np.inf, draws), {"a": without(50, 1)})
        for end in (-0.97, -0.4)
    )
    low, high = (few - many).interval()
    assert np.isfinite(low)
    assert high == np.inf


def test_a_misfit_is_the_reference_only_of_misfits():
    bad = fitted(noise=0.001, seeds=4, skew=0.3)
    worse = fitted(noise=0.001, seeds=4, skew=0.3, loss_limit=2.0)
    good = fitted(noise=0.001, seeds=4, loss_limit=1.6)
    assert bad.loss_limit.status is Status.MISFIT
    reference, penalties = asymptotic_penalties([bad, good])
    assert reference == 1
    assert penalties[1].status == "ok"
    assert penalties[0].value == pytest.approx(bad.loss_limit.value - good.loss_limit.value)
    assert penalties[0].value < 0
    assert penalties[0].outcome == bad.loss_limit.outcome
    reference, penalties = asymptotic_penalties([worse, bad])
    assert reference == 1
    assert (penalties[1].value, penalties[1].low, penalties[1].high) == (0, 0, 0)
    assert penalties[1].outcome == bad.loss_limit.outcome


def test_a_reference_of_one_seed_has_no_interval():
    reference, (penalty,) = asymptotic_penalties([fitted(seeds=1)])
    assert reference == 0
    assert penalty.value == 0
    assert np.isnan([penalty.low, penalty.high]).all()
    assert penalty.status is Status.NO_INTERVAL


def test_a_limit_that_is_not_above_zero():
    expected = "undetermined: the limit is not above 0"
    for fit in (
        fitted(loss_limit=0.0),
        fitted(loss_limit=-0.05),
        fitted(loss_limit=0.1, noise=0.02, common=0.05, seeds=4),
    ):
        assert str(fit.loss_limit.outcome) == expected
        assert fit.loss_exponent.outcome == fit.loss_amplitude.outcome != fit.loss_limit.outcome
    assert fit.loss_limit.low < 0 < fit.loss_limit.value  # the interval decides
    reference, penalties = asymptotic_penalties([fit, fitted()])
    assert reference == 1
    assert str(penalties[0].outcome) == expected


def test_absolute_learning_rates_have_no_limit():
    table = runs(noise=0.001, seeds=3, rates=np.exp(np.arange(-6.5, -2.4, 0.25)), rate_amplitude=0)
    base = fit_transfer(*table, factor=2.0, resamples=20)
    for power in (-1, 1):
        absolute = [table[0], table[1] * table[0] ** power, *table[2:]]
        fit = fit_transfer(*absolute, factor=2.0, resamples=20)
        found = statuses(fit)
        assert str(fit.rate_limit.outcome) == found["beta"] == str(fit.rate_amplitude.outcome)
        assert "is far from the learning rates tried; if the optimum moves" in found["beta"]
        assert "far from the learning rates tried" in found["kappa"]
        assert found["alpha"] == "ok"
        assert str(fit.robustness.outcome).startswith("undetermined: beta")
    assert "does not move" in base.rate_limit.outcome.message


def test_penalties_without_what_they_need():
    known, unknown, single = fitted(), fitted(widths=WIDTHS[:2]), fitted(seeds=1, loss_limit=2.0)
    reference, penalties = asymptotic_penalties([unknown, known, single])
    assert reference == 1
    assert penalties[0].outcome.message.startswith("L_inf, A and alpha need 3")
    assert penalties[2].value == pytest.approx(0.8)
    assert np.isnan(penalties[2].low)
    assert penalties[2].status is Status.NO_INTERVAL
    reference, penalties = asymptotic_penalties([unknown])
    assert reference is None
    assert str(penalties[0].outcome) == "undetermined: no L_inf is determined"


# Bad input


@pytest.mark.parametrize(
    ("column", "bad", "named"),
    [
        (0, 0.0, "widths"),
        (0, np.nan, "widths"),
        (1, -1e-3, "learning_rates"),
        (1, np.inf, "learning_rates"),
        (3, 0.0, "losses"),
        (3, -1.0, "losses"),
    ],
)
def test_numbers_that_cannot_be(column, bad, named):
    table = runs()
    table[column][3] = bad
    with pytest.raises(InputError, match=named):
        fit_transfer(*table)


def test_other_input_that_cannot_be():
    table = runs()
    with pytest.raises(InputError, match="must not occur more than once"):
        fit_transfer(*(np.append(column, column[0]) for column in table))
    with pytest.raises(InputError, match=r"factor 1\.0"):
        fit_transfer(*table, factor=1.0)
    with pytest.raises(InputError, match="one per width"):
        fit_transfer(*table[:3], table[3][1:])
    with pytest.raises(InputError, match="at least one run"):
        fit_transfer([], [], [], [])


# Tables


def frame(**changes) -> pd.DataFrame:
    columns = dict(zip(("width", "learning_rate", "seed", "loss"), runs(**changes), strict=True))
    return pd.DataFrame(columns)


def test_columns_that_vary_make_groups(tmp_path):
    table = pd.concat([frame().assign(rule="sp", steps=9), frame().assign(rule="mup", steps=9)])
    table.to_csv(tmp_path / "a.csv", index=False)
    found, groups, notes = read_runs([tmp_path / "a.csv"], None, ())
    assert groups == ["rule"]
    assert notes == []
    assert len(found) == len(table)
    assert read_runs([tmp_path / "a.csv"], None, ("steps", "rule"))[1] == ["steps", "rule"]


def test_files_are_groups_unless_something_tells_them_apart(tmp_path):
    paths = [tmp_path / "sp.csv", tmp_path / "mup.csv"]
    for path in paths:
        frame().to_csv(path, index=False)
    found, groups, _ = read_runs(paths, None, ())
    assert groups == ["file"]
    assert set(found.file) == {"sp.csv", "mup.csv"}
    for path in paths:
        frame().assign(rule=path.stem).to_csv(path, index=False)
    assert read_runs(paths, None, ())[1] == ["rule"]
    for path, part in zip(paths, (WIDTHS[:2], WIDTHS[2:]), strict=True):
        frame(widths=part).to_csv(path, index=False)
    found, groups, notes = read_runs(paths, None, ())
    assert groups == []
    assert "parts of one sweep" in notes[0]
    (tmp_path / "deep").mkdir()
    twins = [tmp_path / "sp.csv", tmp_path / "deep" / "sp.csv"]
    for path in twins:
        frame().to_csv(path, index=False)
    assert read_runs(twins, None, ())[0].file.nunique() == 2


def test_a_file_without_a_column_of_the_groups_is_named(tmp_path):
    paths = [tmp_path / "runs.csv", tmp_path / "mup.csv"]
    frame().to_csv(paths[0], index=False)
    frame().assign(rule="mup").to_csv(paths[1], index=False)
    for group_by, within in (((), ()), (("rule",), ()), (("file",), ("rule",))):
        with pytest.raises(InputError, match=r"runs\.csv.* has no column rule.*group_by"):
            read_runs(paths, None, group_by, within)
    assert read_runs(paths, None, ("file",))[1] == ["file"]


def test_columns_of_sets_tell_groups_apart_where_they_vary(tmp_path):
    path = tmp_path / "all.csv"
    parts = [frame().assign(rule=rule, steps=steps, unit=1) for rule in "ab" for steps in (8, 9)]
    pd.concat(parts).to_csv(path, index=False)
    assert read_runs([path], None, (), ("steps", "unit"))[1] == ["rule", "steps"]
    assert read_runs([path], None, ("rule",), ("steps", "unit"))[1] == ["rule", "steps"]
    assert read_runs([path], None, (), ("file",))[1] == ["rule", "steps"]
    with pytest.raises(InputError, match=r"within.*must be one of rule, steps, unit, file"):
        read_runs([path], None, (), ("width",))


def test_runs_that_occur_again(tmp_path):
    path = tmp_path / "a.csv"
    pd.concat([frame(), frame().head(4)]).to_csv(path, index=False)
    found, _, notes = read_runs([path], None, ())
    assert len(found) == len(frame())
    assert notes == ["4 runs occur again with the same loss and count once"]
    other = frame().head(2)
    pd.concat([frame(), other.assign(loss=other.loss + 1)]).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"4 runs share their width, learning_rate, seed"):
        read_runs([path], None, ())
    pd.concat([frame().assign(steps=1), frame(loss_limit=2).assign(steps=2)]).to_csv(path)
    with pytest.raises(InputError, match="group_by"):  # the index is a column of its own
        read_runs([path], None, ())
    pd.concat([frame().assign(a=0, steps=1), frame(loss_limit=2).assign(a=0, steps=2)]).to_csv(
        path, index=False
    )
    with pytest.raises(InputError, match="group_by leaves out steps"):
        read_runs([path], None, ("a",))


@pytest.mark.parametrize(
    "cells", [["True", "False", ""], ["yes", " No", ""], ["1", "0", ""], ["TRUE", "false", "no"]]
)
def test_words_for_diverged(tmp_path, cells):
    path = tmp_path / "a.csv"
    table = frame().assign(diverged=np.resize(cells, len(frame())))
    table.to_csv(path, index=False)
    found, groups, _ = read_runs([path], None, ())
    assert groups == []
    assert found.loss.isna().tolist() == (table.diverged == cells[0]).tolist()


def test_diverged_of_other_types(tmp_path, monkeypatch):
    table = frame()
    for cells in (
        [True, None, False],
        [1.0, np.nan, 0.0],
        [1, 0, 0],
        pd.array([True, None, False]),
    ):
        flags = pd.Series(cells).take(np.resize([0, 1, 2], len(table))).reset_index(drop=True)
        read = table.assign(diverged=flags)
        monkeypatch.setattr(pd, "read_parquet", lambda _, read=read: read)
        found, _, _ = read_runs([tmp_path / "a.parquet"], None, ())
        assert found.loss.isna().tolist() == np.resize([True, False, False], len(table)).tolist()


def test_other_words_for_diverged_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    frame().assign(diverged=["no", "maybe"] + ["no"] * (len(frame()) - 2)).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"column diverged, row 2 'maybe': must be true or false"):
        read_runs([path], None, ())


def test_a_column_that_says_what_diverged_and_one_without_seeds(tmp_path):
    path = tmp_path / "a.csv"
    table = frame(seeds=1)
    table.assign(diverged=table.learning_rate > 0.07).drop(columns="seed").to_csv(path, index=False)
    found, groups, notes = read_runs([path], None, ())
    assert groups == []
    assert found.loss.isna().sum() == (table.learning_rate > 0.07).sum() > 0
    assert notes == ["a.csv: no column seed, all runs count as one seed"]


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("width,learning_rate,seed,loss\n", "holds no runs"),
        ("width,seed,loss\n64,0,1\n", "has no column learning_rate (its columns: width, seed"),
        ("width,learning_rate,seed,loss\n64,1,0,2\nwide,1,1,2\n", "column width, row 2 'wide'"),
        ("width,learning_rate,seed,loss\n64,fast,0,2\n", "column learning_rate, row 1 'fast'"),
        ("width,learning_rate,seed,loss\n64,1,0,2\n64,1,1,bad\n", "column loss, row 2 'bad'"),
        ("width,learning_rate,seed,loss\n-64,1,0,2\n", "column width, row 1 -64.0"),
        ("width,learning_rate,seed,loss\n,1,0,2\n", "column width, row 1 nan"),
        ("width,learning_rate,seed,loss\n64,0,0,2\n", "column learning_rate, row 1 0.0"),
        ("width,learning_rate,seed,loss\n64,1,0,-2\n", "column loss, row 1 -2.0"),
        ("width,learning_rate,seed,loss\n64,1,,2\n", "column seed, row 1"),
        ("a,b\n1,2,3\n1\n4,5,6,7\n", "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, named):
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(InputError) as error:
        read_runs([path], None, ())
    message = str(error.value)
    assert named in message
    assert "a.csv" in message
    assert "\n" not in message


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    for name in ("missing.csv", "missing.nc", "missing.parquet"):
        with pytest.raises(InputError, match=rf"{name}.*(No such file|pyarrow)"):
            read_runs([tmp_path / name], None, ())
    for name in ("a.csv", "a.nc"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00 not a table")
        with pytest.raises(InputError, match=rf"{name}.*(cannot be read|no column)"):
            read_runs([tmp_path / name], None, ())
    with pytest.raises(InputError, match="must end in"):
        read_runs([tmp_path / "a.txt"], None, ())
    with pytest.raises(InputError, match="FILE is missing"):
        read_runs([], None, ())

    def without(*_, **__):
        raise ImportError("no pyarrow")

    monkeypatch.setattr(pd, "read_parquet", without)
    with pytest.raises(InputError, match=r"pip install 'dynsim\[parquet\]'"):
        read_runs([tmp_path / "a.parquet"], None, ())
    monkeypatch.setattr(pd, "read_parquet", lambda _: frame())
    assert len(read_runs([tmp_path / "a.parquet"], None, ())[0]) == len(frame())


def test_columns_that_group_nothing_useful(tmp_path):
    path = tmp_path / "a.csv"
    frame().assign(time=np.arange(len(frame())) / 7).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"group_by.*90 groups \(values: time 90\)"):
        read_runs([path], None, ())
    with pytest.raises(InputError, match=r"group_by 'bogus': must be one of time, file"):
        read_runs([path], None, ("bogus",))
    with pytest.raises(InputError, match="rate"):
        read_runs([path], "hidden", ())


# netCDF sweeps


def sweep(embedding=(1.0,), hidden=RATES, horizons=(4,), vocab_sizes=(16,)) -> xr.Dataset:
    """A sweep with the surface's loss in the hidden rate, best at embedding LR 1."""
    loss = runs(rates=np.asarray(hidden), noise=0.001)[3].reshape(5, 1, 1, len(hidden), 2, 1)
    off = np.log(np.asarray(embedding))[None, None, :, None, None, None] ** 2
    later = np.arange(1, len(horizons) + 1)
    loss = loss * (1 + off) / later**0.1 * np.ones(len(vocab_sizes))[:, None, None, None, None]
    dims = ("width", "vocab_size", "embedding_lr", "hidden_lr", "seed", "horizon")
    return xr.Dataset(
        {"loss": (dims, loss), "diverged": (dims[:5], np.zeros(loss.shape[:5], dtype=bool))},
        coords={
            "width": WIDTHS.astype(int),
            "vocab_size": list(vocab_sizes),
            "embedding_lr": list(embedding),
            "hidden_lr": hidden,
            "seed": [0, 1],
            "horizon": list(horizons),
        },
    )


def stored(tmp_path, dataset: xr.Dataset):
    from experiments.results import save

    save(dataset, tmp_path / "sweep.nc")
    return [tmp_path / "sweep.nc"]


def metrics(table: pd.DataFrame):
    columns = ("width", "learning_rate", "seed", "loss")
    return fit_transfer(*(table[name].to_numpy() for name in columns), resamples=5)


def test_a_sweep_of_one_rate_is_its_table(tmp_path):
    table, groups, notes = read_runs(stored(tmp_path, sweep()), None, ())
    assert groups == []
    assert notes == ["sweep.nc: learning_rate is the hidden one"]
    direct = fit_transfer(*runs(noise=0.001), resamples=5)
    assert values(metrics(table)) == pytest.approx(values(direct))
    flipped = sweep().rename(embedding_lr="hidden_lr", hidden_lr="embedding_lr")
    table, _, notes = read_runs(stored(tmp_path, flipped), None, ())
    assert notes == ["sweep.nc: learning_rate is the embedding one"]
    assert values(metrics(table)) == pytest.approx(values(direct))


def test_a_sweep_of_two_rates_is_cut_at_the_best_of_the_other(tmp_path):
    both = sweep(embedding=(0.5, 1.0, 2.0, 4.0))
    table, groups, notes = read_runs(stored(tmp_path, both), None, ())
    assert groups == []
    assert "the embedding one is fixed, width by width" in notes[0]
    direct = fit_transfer(*runs(noise=0.001), resamples=5)
    assert values(metrics(table)) == pytest.approx(values(direct))
    table, _, notes = read_runs(stored(tmp_path, both), "embedding", ())
    assert set(table.learning_rate) == {0.5, 1.0, 2.0, 4.0}
    assert "the hidden one is fixed" in notes[0]


def test_diagonals_of_equal_ratio(tmp_path):
    hidden = 0.01 * 2.0 ** np.arange(5)
    both = sweep(embedding=tuple(3 * hidden), hidden=hidden)
    table, groups, notes = read_runs(stored(tmp_path, both), "both", ())
    assert groups == ["embedding_to_hidden"]
    assert sorted(set(table.embedding_to_hidden)) == [0.75, 1.5, 3, 6, 12]
    assert table[table.embedding_to_hidden == 3].learning_rate.nunique() == 5
    assert "4 diagonals with less than 3 rates left out" in notes[0]
    with pytest.raises(InputError, match=r"rate 'both'.*no diagonal"):
        read_runs(stored(tmp_path, sweep(embedding=(1.0, 1.7))), "both", ())


def test_sizes_and_horizons_of_a_sweep_are_groups(tmp_path):
    several = sweep(horizons=(4, 8), vocab_sizes=(16, 64))
    table, groups, _ = read_runs(stored(tmp_path, several), None, ())
    assert groups == ["vocab_size", "horizon"]
    assert len(table) == several.loss.size


def test_what_was_not_run_did_not_diverge(tmp_path):
    part = sweep()
    loss = part.loss.values.copy()
    loss[0, 0, 0, 0], loss[1, 0, 0, -1] = np.nan, np.nan
    diverged = part.diverged.values.copy()
    diverged[1, 0, 0, -1] = True
    part = part.assign(loss=(part.loss.dims, loss), diverged=(part.diverged.dims, diverged))
    table, _, _ = read_runs(stored(tmp_path, part), None, ())
    assert len(table) == part.loss.size - 2
    assert set(table[~np.isfinite(table.loss)].width) == {128}
    assert metrics(table).diverged == 2
    table, _, _ = read_runs(stored(tmp_path, part.drop_vars("diverged")), None, ())
    assert metrics(table).diverged == 4


def test_a_diverged_run_with_a_finite_loss_counts_at_the_last_horizon(tmp_path):
    several = sweep(horizons=(4, 8))
    diverged = several.diverged.values.copy()
    diverged[2, 0, 0, 3, 1] = True
    flagged = several.assign(diverged=(several.diverged.dims, diverged))
    table, _, _ = read_runs(stored(tmp_path, flagged), None, ())
    assert len(table) == several.loss.size
    worst = table[~np.isfinite(table.loss)]
    assert worst[["width", "seed", "horizon"]].values.tolist() == [[WIDTHS[2], 1, 8]]
    early = flagged.diverged.expand_dims(horizon=[4, 8]) & (flagged.horizon == 4)
    table, _, _ = read_runs(stored(tmp_path, flagged.assign(diverged=early)), None, ())
    assert table[~np.isfinite(table.loss)].horizon.tolist() == [4]
    alone = flagged.isel(horizon=1)
    table, _, _ = read_runs(stored(tmp_path, alone), None, ())
    assert metrics(table).diverged == 1


def test_frozen_layers_are_left_out_of_a_sweep(tmp_path):
    hidden = 0.01 * 2.0 ** np.arange(5)
    both = sweep(embedding=tuple(3 * hidden), hidden=hidden)
    frozen = both.reindex(
        embedding_lr=[0, *(3 * hidden)],
        hidden_lr=[0, *hidden],
        fill_value={"loss": 0.1, "diverged": False},
    )
    for rate in (None, "embedding", "both"):
        table, _, notes = read_runs(stored(tmp_path, frozen), rate, ())
        expected, _, _ = read_runs(stored(tmp_path, both), rate, ())
        pd.testing.assert_frame_equal(table, expected)
        assert notes[:2] == [
            f"sweep.nc: runs with {name} learning rate 0 left out"
            for name in ("hidden", "embedding")
        ]
    alone = sweep().assign_coords(embedding_lr=[0.0])
    table, _, notes = read_runs(stored(tmp_path, alone), None, ())
    assert len(table) == alone.loss.size
    assert notes == ["sweep.nc: learning_rate is the hidden one"]


def test_a_file_that_is_no_sweep(tmp_path):
    with pytest.raises(InputError, match="is not a sweep: it has no loss"):
        read_runs(stored(tmp_path, sweep().drop_vars("loss")), None, ())
    with pytest.raises(InputError, match="is not a sweep: it has no seed"):
        read_runs(stored(tmp_path, sweep().drop_vars("seed")), None, ())


# netCDF files of one learning rate


def cases(names=("a", "b"), **coordinates) -> xr.Dataset:
    """Losses over case, width, learning_rate and seed, the second case's higher; never run at the
    smallest rate, and the largest diverged for the last seed of the first width."""
    loss = np.stack([runs(noise=0.001, loss_limit=1 + k)[3] for k in range(len(names))])
    loss = loss.reshape(len(names), 5, 9, 2)
    diverged = np.zeros_like(loss)
    diverged[:, 0, -1, 1] = 1
    loss[diverged == 1] = np.nan
    loss[:, :, 0], diverged[:, :, 0] = np.nan, np.nan
    dims = ("case", "width", "learning_rate", "seed")
    return xr.Dataset(
        {"loss": (dims, loss), "diverged": (dims, diverged)},
        coords={
            "case": list(names),
            "width": WIDTHS.astype(int),
            "learning_rate": RATES,
            "seed": [0, 1],
            **coordinates,
        },
    )


def test_a_file_of_one_learning_rate_is_its_table(tmp_path):
    table, groups, notes = read_runs(stored(tmp_path, cases()), None, ())
    assert (groups, notes) == (["case"], [])
    assert len(table) == 2 * 5 * 8 * 2  # the smallest rate was not run
    assert not np.isclose(table.learning_rate, RATES[0]).any()
    gone = table[~np.isfinite(table.loss)]
    assert gone[["case", "width", "seed"]].values.tolist() == [["a", 64, 1], ["b", 64, 1]]
    assert np.allclose(gone.learning_rate, RATES[-1])
    direct = runs(noise=0.001)
    kept = (direct[1] > RATES[0]) & ~(
        (direct[1] == RATES[-1]) & (direct[0] == 64) & (direct[2] == 1)
    )
    expected = fit_transfer(*(column[kept] for column in direct), resamples=5)
    first = metrics(table[table.case == "a"])
    assert first.diverged == 1
    assert first.loss_exponent.value == pytest.approx(expected.loss_exponent.value, rel=0.1)
    one = metrics(read_runs(stored(tmp_path, cases().isel(case=1)), None, ())[0])
    assert values(one) == pytest.approx(values(metrics(table[table.case == "b"])))


def test_flags_of_divergence_in_a_file_of_one_learning_rate(tmp_path):
    """True or 1 with a loss or without; NaN or no flag at all: a missing loss was not run."""
    whole = cases()
    truth = whole.assign(diverged=whole.diverged == 1)
    table, _, _ = read_runs(stored(tmp_path, truth), None, ())
    expected, _, _ = read_runs(stored(tmp_path, whole), None, ())
    pd.testing.assert_frame_equal(table, expected)
    finite = whole.assign(loss=whole.loss.where(whole.diverged != 1, 7.0))
    table, _, _ = read_runs(stored(tmp_path, finite), None, ())
    assert np.isfinite(table.loss).sum() == np.isfinite(expected.loss).sum() == len(table) - 2
    table, _, _ = read_runs(stored(tmp_path, whole.drop_vars("diverged")), None, ())
    assert len(table) == len(expected) - 2
    assert np.isfinite(table.loss).all()
    infinite = whole.assign(loss=whole.loss.where(whole.diverged != 1, np.inf))
    table, _, _ = read_runs(stored(tmp_path, infinite.drop_vars("diverged")), None, ())
    assert len(table) == len(expected)
    assert np.isinf(table.loss).sum() == 2


def test_coordinates_of_a_case_are_columns_and_those_of_runs_are_not(tmp_path):
    told = cases(
        ("x", "y", "z"),
        network=("case", ["mlp", "mlp", "linear"]),
        rule=("case", ["mup", "sp", "mup"]),
        steps=12,
        rate_at_width=(("case", "width", "learning_rate"), np.arange(135.0).reshape(3, 5, 9)),
    )
    table, groups, _ = read_runs(stored(tmp_path, told), None, ())
    assert groups == ["case", "network", "rule"]  # steps do not vary
    assert table[groups].drop_duplicates().values.tolist() == [
        ["x", "mlp", "mup"],
        ["y", "mlp", "sp"],
        ["z", "linear", "mup"],
    ]
    assert set(table.steps) == {12}
    assert "rate_at_width" not in table
    assert read_runs(stored(tmp_path, told), None, ("network", "rule"))[1] == ["network", "rule"]
    spread = told.set_index(case=["network", "rule"]).unstack("case")
    table, groups, _ = read_runs(stored(tmp_path, spread.drop_vars("rate_at_width")), None, ())
    assert groups == ["network", "rule"]
    assert len(table) == 3 * 5 * 8 * 2  # there is no linear network in sp


def test_many_cases_that_were_mostly_not_run(tmp_path):
    many = cases([f"case {k}" for k in range(75)]).reindex(
        learning_rate=np.concatenate([RATES, RATES * 100, RATES * 10_000])
    )
    table, groups, _ = read_runs(stored(tmp_path, many), None, ())
    assert groups == ["case"]
    assert table.groupby("case").size().tolist() == [5 * 8 * 2] * 75


def test_a_file_of_one_learning_rate_that_lacks_something(tmp_path):
    with pytest.raises(InputError, match="is not a sweep: it has no width, seed"):
        read_runs(stored(tmp_path, cases().drop_vars(["width", "seed"])), None, ())
    own = cases().rename(learning_rate="place")
    own = own.assign_coords(learning_rate=(("case", "place"), np.ones((2, 9))))
    with pytest.raises(InputError, match="learning_rate is no dimension of loss"):
        read_runs(stored(tmp_path, own), None, ())
    with pytest.raises(InputError, match=r"rate 'hidden'.*sweep\.nc has one learning_rate"):
        read_runs(stored(tmp_path, cases()), "hidden", ())


def test_labels_are_the_fewest_columns_that_tell_groups_apart():
    def telling(*rows):
        return telling_columns([dict(zip("abc", row, strict=True)) for row in rows])

    assert telling((1, 2, 3)) == ()
    assert telling((1, 2, 3), (1, 3, 4)) == ("b",)
    assert telling((1, 1, 7), (1, 2, 8), (2, 1, 9)) == ("c",)
    assert telling((1, 1, 7), (1, 2, 7), (2, 1, 7), (2, 2, 8)) == ("a", "b")
    assert telling((1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1)) == ("a", "b", "c")
    assert telling((1, np.nan, 7), (2, np.nan, 7), (3, float("nan"), 7)) == ("a",)


# What is printed and drawn


@pytest.fixture(scope="module")
def three_fits():
    """A group like any other, one whose optimum rests, one without a joint fit."""
    return [
        fitted(noise=0.002, seeds=3),
        fitted(noise=0.002, seeds=3, rate_amplitude=0.0),
        fitted(noise=0.002, seeds=3, widths=WIDTHS[:2]),
    ]


def test_both_errors_are_printed_with_their_own_noise(tmp_path, capsys):
    from experiments.cli import main

    path = tmp_path / "sweep.nc"
    stored(tmp_path, cases(rule=("case", ["mup", "sp"])))
    assert main(["transfer", str(path), "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [one["group"] for one in groups] == [
        {"case": "a", "rule": "mup"},
        {"case": "b", "rule": "sp"},
    ]
    assert main(["transfer", str(path)]) == 0
    lines = capsys.readouterr().out.split("\n")
    head = next(line for line in lines if line.startswith("group "))
    assert [name.strip() for name in head.split("  ") if name][:5] == [
        *("group", "E", "its noise", "held out", "its noise")
    ]
    for group, name in zip(groups, "ab", strict=True):
        (row,) = [line for line in lines if line.startswith(f"case {name} ")]  # and no rule
        shown = [float(cell) for cell in row.split()[2:6]]
        errors = [group["E"][key] for key in ("value", "noise", "held_out", "held_out_noise")]
        assert shown == pytest.approx(errors, rel=1e-3)
        assert len(set(shown)) == 4
    assert main(["transfer", str(path), "--group-by", "rule", "case"]) == 0
    assert "rule mup, case a " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("groups", "panels"), [(1, 4), (2, 2 + 4), (5, 5 + 4), (8, 8 + 4), (30, 8 + 4)]
)
def test_a_figure_has_no_empty_panels_and_names_at_most_eight_groups(three_fits, groups, panels):
    fits = (three_fits * groups)[:groups]
    _, penalties = asymptotic_penalties(fits)
    figure = transfer_metrics([f"group {k}" for k in range(groups)], fits, penalties)
    colour_bars = [axes for axes in figure.axes if "R_" in axes.get_ylabel()]
    assert len(colour_bars) == (groups > 1)
    drawn = [axes for axes in figure.axes if axes.axison and axes not in colour_bars]
    assert len(drawn) == panels
    assert all(axes.get_ylabel() and axes.get_xlabel() and axes.has_data() for axes in drawn)
    assert not any(axes.texts for axes in drawn)
    without = {1: 0, 2: 1, 5: 3, 8: 5, 30: 20}[groups]
    said = f"without $\\kappa$, not shown: {without}" if without else ""
    assert drawn[-1].get_title() == said
    legends = [legend for part in (figure, *figure.subfigs) for legend in part.legends]
    named = [[text.get_text() for text in legend.get_texts()] for legend in legends]
    assert ["64", "128", "256", "512", "1024"] in named
    assert [names for names in named if "group 0" in names] == {
        1: [],
        30: [[*(f"group {k}" for k in range(8)), "others (22), in the last panel only"]],
    }.get(groups, [[f"group {k}" for k in range(groups)]])
    titles = [axes.get_title() for axes in drawn[: min(groups, 8)]]
    kappa = three_fits[0].robustness.value
    assert f"\\kappa={kappa:.2f}" in titles[0]
    for title, said in zip(titles[1:], ("undetermined", "no joint fit"), strict=False):
        assert said in title
    figure.canvas.draw()
    plt.close(figure)


def test_a_figure_without_any_kappa_says_so(three_fits):
    fits = three_fits[1:]
    _, penalties = asymptotic_penalties(fits)
    figure = transfer_metrics(["rests", "short"], fits, penalties)
    (said,) = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said == r"no $\kappa$ is determined"
    plt.close(figure)


def test_misfits_are_open_markers(three_fits):
    fits = [three_fits[0], fitted(noise=0.001, seeds=4, skew=0.3)]
    _, penalties = asymptotic_penalties(fits)
    figure = transfer_metrics(["right", "skewed"], fits, penalties)
    (plane,) = [axes for axes in figure.axes if "kappa=" in axes.get_ylabel()]
    assert plane.get_title() == "open diamonds: misfits"
    points = [one for one in plane.collections if hasattr(one, "get_sizes")]
    assert [len(one.get_offsets()) for one in points] == [1, 1]
    (misfit,) = np.asarray(points[0].get_offsets())
    assert misfit.tolist() == pytest.approx([100 * fits[1].error, fits[1].robustness.value])
    assert [axes.get_title().endswith(", misfit") for axes in figure.axes[:2]] == [False, True]
    (law,) = [axes for axes in figure.axes if axes.get_ylabel() == r"lowest loss $L^*$"]
    faces = [line.get_markerfacecolor() for line in law.lines if line.get_marker() == "o"]
    assert faces == ["C0", "white"]
    plt.close(figure)
    figure = transfer_metrics(["skewed", "again"], fits[1:] * 2, penalties[1:] * 2)
    figure.canvas.draw()
    assert not any("R_" in axes.get_ylabel() for axes in figure.axes)
    plt.close(figure)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1e-3, 0.1, ["10^{-3}", "10^{-2}", "10^{-1}"]),
        (0.02, 0.07, ["2^{-5}", "2^{-4}"]),
        (2.0**-9, 2.0**-3, ["10^{-2}", "10^{-1}"]),
        (1e-9, 1.0, ["10^{-9}", "10^{-6}", "10^{-3}", "10^{0}"]),
        (0.011, 0.015, ["0.011", "0.015"]),
    ],
)
def test_ticks_of_learning_rates_are_few_powers(low, high, labels):
    ticks, texts = _rate_ticks(low, high)
    assert [text.strip("$") for text in texts] == labels
    assert all(low * 0.999 <= one <= high * 1.001 for one in ticks)


# The study of the fit


def test_the_stored_trial_covers_where_the_status_is_ok():
    from experiments.results import STORED, load
    from experiments.topics.transfer_coverage.figures import SHOWN, coverage, penalty_intervals

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


def test_a_trial_is_repeatable_and_labelled():
    from experiments.topics.transfer_coverage.study import COVERAGE

    config = {**COVERAGE.config(True), "trials": 2, "resamples": 3}
    small = replace(
        COVERAGE, cells=lambda full: [{"scenario": "plain"}], config=lambda full: config
    )
    one, other = small.run(True), small.run(True)
    assert one.identical(other)
    assert one.parameter.values.tolist() == list(TRANSFER_PARAMETERS)
    assert one.interval.dims == ("scenario", "trial", "recipe", "parameter", "end")
    assert np.all(np.isfinite(one.value))


def test_an_undetermined_fit_has_no_penalty_beside_a_determined_one():
    """One set of runs brackets its optima, the other is cut off below them."""
    whole = tuple(np.asarray(column) for column in runs(noise=0.01, seeds=3))
    rates = np.unique(whole[1])
    cut = tuple(column[whole[1] <= rates[1]] for column in whole)
    fits = [fit_transfer(*whole), fit_transfer(*cut)]
    reference, penalties = asymptotic_penalties(fits)
    assert reference == 0
    assert penalties[0].value == 0
    assert np.isnan([penalties[1].value, penalties[1].low, penalties[1].high]).all()
    assert penalties[1].status is Status.UNDETERMINED
