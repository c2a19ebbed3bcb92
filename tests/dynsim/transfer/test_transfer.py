"""Transfer metrics: known surfaces come back, symmetries hold, and every status has its case."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from transfer_runs import RATES, TRUTH, WIDTHS, fitted, runs, values

from dynsim import InputError, Outcome, Status, fit_transfer
from dynsim.statistics import Resampled, SeedResamples
from dynsim.transfer import TRANSFER_PARAMETERS, asymptotic_penalties, loss_penalties
from dynsim.transfer._runs import mean_losses, runs_by_width
from dynsim.transfer._surface import Points, _Projected, fit_surfaces

# The fit


def test_groups_of_many_seeds_give_the_same_value_and_an_interval_as_wide(monkeypatch):
    """Each fit without one seed is a fit: for thousands of seeds groups are left out instead."""
    table = runs(noise=0.01, seeds=60, widths=WIDTHS[:3])
    one = fit_transfer(*table, factor=3.0, resamples=200)
    monkeypatch.setattr("dynsim.transfer._runs.MOST_SEEDS", 20)
    monkeypatch.setattr("dynsim.transfer._runs.GROUPS", 20)
    grouped = fit_transfer(*table, factor=3.0, resamples=200)
    assert values(grouped) == pytest.approx(values(one), rel=1e-6)
    spread = [np.array([getattr(fit, name).high - getattr(fit, name).low
                        for name in TRANSFER_PARAMETERS]) for fit in (one, grouped)]  # fmt: skip
    assert np.all(spread[1] < 2 * spread[0])
    assert np.all(spread[1] > spread[0] / 2)
    assert len(next(iter(grouped.resampled.left_out.values()))) == 20


def test_many_seeds_take_the_memory_of_their_rows():
    """A table of the rows that each seed's absence leaves would take half a GiB."""
    table = runs(noise=0.01, seeds=1500, widths=WIDTHS[:3])
    assert table[-1].size == 1500 * 3 * len(RATES)
    tracemalloc.start()
    fit = fit_transfer(*table, factor=3.0, resamples=200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.isfinite(fit.loss_exponent.value)
    assert peak < 80e6


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


def projected(**noise) -> _Projected:
    """The problem of nine widths' points with every run as a row of its own seed."""
    width, rate, seed, loss = runs(**noise)
    rows = np.stack([loss[seed == one] for one in np.unique(seed)])
    width, rate = width[seed == 0], rate[seed == 0]
    index = np.unique(width, return_inverse=True)[1]
    return _Projected(Points(index, np.log(width), np.log(rate), 1 / rows[0]), rows)


def test_the_projected_gradient_is_that_of_finite_differences():
    problem = projected(noise=0.05, seeds=1)
    trial = np.array([0.7, 0.3, 0.1, -5.2, 0.4])
    row = np.zeros(1, dtype=np.int64)
    at = problem.solved(row, trial[None, :])
    gradient = at.jacobian[0].T @ at.left[0]

    def half_squares(trial):
        return np.sum(problem.solved(row, trial[None, :]).left ** 2) / 2

    step = 1e-6 * np.eye(5)
    slopes = [(half_squares(trial + one) - half_squares(trial - one)) / 2e-6 for one in step]
    assert gradient == pytest.approx(np.array(slopes), rel=1e-5)


def test_rows_that_are_fitted_together_reach_the_minimum_of_each():
    """MINPACK, given the residuals of one row at a time, finds nothing lower and the same place,
    as far as a flat minimum has one."""
    from scipy.optimize import least_squares

    problem = projected(noise=0.02, seeds=6)
    points = problem.points
    found = fit_surfaces(points, problem.loss)
    for row, surface in enumerate(found):
        number = np.array([row])

        def residual(trial, number=number):
            return problem.solved(number, trial[None, :]).left[0]

        start = problem.start()[row]
        least = least_squares(residual, start, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
        left = problem.loss[row] - surface.loss(points.log_width, points.log_rate)
        assert np.sum((points.weight * left) ** 2) == pytest.approx(2 * least.cost, rel=1e-8)
        (expected,) = problem.surfaces(least.x[None, :].repeat(6, axis=0), number)
        assert surface.alpha == pytest.approx(expected.alpha, rel=1e-4)
        assert surface.beta == pytest.approx(expected.beta, rel=1e-4, abs=1e-4)
    alone = fit_surfaces(problem.points, problem.loss[3:4])[0]
    assert alone.parameters() == pytest.approx(found[3].parameters(), rel=1e-6)


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
    (direct,) = fit_surfaces(points, cells.y.to_numpy()[None, :], starts=3)
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


def alone(**changes):
    """The fit of a single seed, without intervals from scatter."""
    return fit_transfer(*runs(seeds=1, **changes), factor=3.0, resamples=20, scatter=False)


def test_one_seed_has_values_and_no_intervals():
    fit = alone()
    assert set(statuses(fit).values()) == {"no interval: a width has one seed only"}
    assert fit.loss_exponent.value == pytest.approx(0.5)
    assert np.isnan([fit.loss_exponent.low, fit.curves[0].loss.high, fit.noise_error]).all()
    table = runs(seeds=3)
    single = (table[0] < 1024) | (table[2] == 0)
    table = [column[single] for column in table]
    fit = fit_transfer(*table, factor=3.0, resamples=5, scatter=False)
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
    known, short, single = fitted(), fitted(widths=WIDTHS[3:]), alone(loss_limit=2.0)
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
    reference, (penalty,) = asymptotic_penalties([alone()])
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
    known, unknown, single = fitted(), fitted(widths=WIDTHS[:2]), alone(loss_limit=2.0)
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
