"""Exponents of optimal rates on surfaces whose optima and exponents are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import assert_refused
from rate_surfaces import INITIAL, RATES, bowl

from dynsim import fit_exponent
from dynsim.statistics import (
    TUNED_RATES,
    LossSurface,
    compatible_slopes,
    is_determined,
    jackknife,
    joint_optimum,
    log_optimum,
    optimum_interval,
    rate_exponent,
    surface_optimum,
)
from dynsim.statistics._parabola import quadratic_form_minimum

WIDTHS = np.array([64.0, 128, 256, 512, 1024])


def surface(loss, *, random=None, seeds=1, noise=0.0, shared=0.1, rates=(RATES, RATES)):
    """Runs of `seeds` seeds: noise of each run, and an offset that all runs of a seed share."""
    runs = np.repeat(loss[..., None], seeds, axis=-1)
    initial = np.full(seeds, INITIAL)
    if random is not None:
        offset = random.normal(0, shared, seeds)
        runs = runs + offset + random.normal(0, noise, runs.shape)
        initial = initial + offset
    return LossSurface(rates[0], rates[1], runs, initial)


def moving(sizes, embedding=0.0, hidden=-1.0, *, scale=(0.7, 1.3), **options):
    """Bowls whose optima move as powers of the size."""
    relative = np.asarray(sizes) / np.sqrt(sizes[0] * sizes[-1])
    return [bowl((scale[0] * r**embedding, scale[1] * r**hidden), **options) for r in relative]


def noisy(random, losses, seeds=4, noise=0.02):
    return [surface(loss, random=random, seeds=seeds, noise=noise) for loss in losses]


# one surface


@pytest.mark.parametrize("tilt", [0.0, 0.6, math.pi / 4, -0.4, 1.3])
def test_a_bowl_is_found_exactly(tilt):
    """The fit is exact where the form is; the truth is neither on the grid nor at its centre."""
    one = surface(bowl((0.7, 1.3), tilt=tilt))
    for rate, truth in (("embedding", 0.7), ("hidden", 1.3), ("ratio", 0.7 / 1.3)):
        found = surface_optimum(one, rate)
        assert found.value == pytest.approx(truth, rel=0.01), rate
        assert found.low < truth < found.high
        assert found.loss == pytest.approx(0.3, abs=2e-3)


def test_axes_of_different_lengths_and_factors_keep_their_names():
    rates = 2.0 ** np.arange(-6, 3), 3.0 ** np.arange(-3, 8)
    one = surface(bowl((0.2, 3.0), rates=rates), rates=rates)
    assert surface_optimum(one, "embedding").value == pytest.approx(0.2, rel=0.01)
    assert surface_optimum(one, "hidden").value == pytest.approx(3.0, rel=0.01)


def test_the_fit_is_less_noisy_than_the_profile(random):
    """Why there are two ways: RMS errors of ln optimum under noise, and without noise the same."""
    errors = {"fit": [], "profile": []}
    for _ in range(60):
        centre = np.exp(random.uniform(-1, 1, 2))
        one = surface(bowl(centre), random=random, seeds=4, noise=0.02)
        profile = joint_optimum(RATES, RATES, one.change.mean(axis=-1), initial_loss=0.0)
        errors["fit"].append(math.log(optimum_interval(one, "ratio", resamples=2).value))
        errors["profile"].append(math.log(profile.ratio.value))
        for values in errors.values():
            values[-1] -= math.log(centre[0] / centre[1])
    fit, profile = (np.sqrt(np.mean(np.square(values))) for values in errors.values())
    assert fit < 0.12
    assert profile > 3 * fit


def test_asymmetry_moves_the_optimum_by_little():
    """A cubic that makes ten times the optimal rate a third worse than a tenth of it."""
    one = surface(bowl((0.7, 1.3), bends=(0.06, 0.03), cubic=0.002))
    assert surface_optimum(one, "embedding").value == pytest.approx(0.7, rel=0.06)
    assert surface_optimum(one, "hidden").value == pytest.approx(1.3, rel=0.06)


def test_diverged_runs_are_the_worst_there_are():
    """A cliff above the optimum: NaN, infinite and huge losses are all `nothing removed`."""
    loss = bowl((0.7, 1.3))
    beyond = (RATES > 8)[:, None] | (RATES > 8)
    found = []
    for bad in (np.nan, np.inf, 1e30, INITIAL):
        one = surface(np.where(beyond, bad, loss))
        assert np.all(one.change <= 0)
        found.append(surface_optimum(one, "embedding"))
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0].value == pytest.approx(0.7, rel=0.05)


def test_one_diverged_seed_counts():
    """Of two seeds, one diverges above 0.5: the optimum lies below."""
    one = surface(bowl((0.7, 1.3), bends=(0.06, 0.06)), seeds=2)
    loss = one.loss.copy()
    loss[RATES > 0.4, :, 1] = np.nan
    broken = LossSurface(RATES, RATES, loss, one.initial_loss)
    assert surface_optimum(broken, "embedding").value < 0.45
    assert surface_optimum(one, "embedding").value > 0.65


def test_an_optimum_beyond_the_grid_is_an_edge():
    """Sharp edges spoil the other rate and the ratio as well."""
    one = surface(bowl((0.7, 4 * RATES[-1]), bends=(0.06, 0.06)))
    for rate in ("embedding", "hidden", "ratio"):
        found = surface_optimum(one, rate)
        assert found.status == "edge", rate
        assert math.isnan(found.value)
        assert not is_determined(found)


def test_a_flat_edge_leaves_the_other_rate_determined():
    """The hidden rate hardly matters and is best at its smallest: only the embedding is known."""
    loss = bowl((0.7, 1.0), tilt=0.0, bends=(0.06, 0.0)) + 1e-5 * np.log(RATES / RATES[0])
    one = surface(loss)
    assert surface_optimum(one, "hidden").status == "edge"
    assert surface_optimum(one, "ratio").status == "edge"
    embedding = surface_optimum(one, "embedding")
    assert embedding.status == "ok"
    assert embedding.value == pytest.approx(0.7, rel=0.01)


def test_the_smallest_positive_rate_is_an_edge_too():
    """The same with frozen layers in the grid: the hidden layer is best at its smallest rate, and
    a little worse frozen. That rate is the grid's choice, so that hidden and ratio are edges."""
    rates = np.append(0.0, RATES)
    loss = np.full((len(rates), len(rates)), INITIAL)
    height = 1e-5 * np.log(RATES / RATES[0])
    loss[1:, 1:] = bowl((0.7, 1.0), tilt=0.0, bends=(0.06, 0.0)) + height
    loss[1:, 0] = loss[1:, 1] + 1e-4
    one = surface(loss, rates=(rates, rates))
    assert surface_optimum(one, "hidden").status == "edge"
    assert surface_optimum(one, "ratio").status == "edge"
    assert surface_optimum(one, "embedding").value == pytest.approx(0.7, rel=0.01)


def test_the_fit_stays_within_its_grid_and_needs_a_minimum():
    """Beyond the grid: its end. A saddle or a ridge: the lowest loss there is."""
    axis = np.log(RATES)
    beyond = 0.01 * (axis - axis[-1] - 2) ** 2 - 1
    assert quadratic_form_minimum([axis], beyond) == pytest.approx([axis[-1]])
    assert quadratic_form_minimum([axis], beyond[::-1]) == pytest.approx([axis[0]])
    ridge = -0.01 * (axis - axis[6]) ** 2 - 1
    assert quadratic_form_minimum([axis], ridge) == pytest.approx([axis[-1]])
    saddle = 0.01 * axis[:, None] ** 2 - 0.02 * (axis - 0.5) ** 2 - 1
    assert quadratic_form_minimum([axis, axis], saddle) == pytest.approx([0.0, axis[0]], abs=1e-9)


def test_nothing_learned_is_undetermined():
    one = surface(np.full((len(RATES), len(RATES)), np.nan))
    for rate in ("embedding", "hidden", "ratio"):
        assert surface_optimum(one, rate).status == "undetermined"


def test_frozen_layers_have_their_own_optima():
    """With rates of 0 in the grid: alone, the embedding is best at 0.3 and the hidden layer at 2;
    together elsewhere. And where freezing a layer is best, there is no optimal logarithm."""
    rates = np.append(0.0, RATES)
    loss = np.full((len(rates), len(rates)), INITIAL)
    loss[1:, 1:] = bowl((0.7, 1.3))
    loss[1:, 0] = 0.6 + 0.05 * np.log(RATES / 0.3) ** 2
    loss[0, 1:] = 0.7 + 0.05 * np.log(RATES / 2.0) ** 2
    one = surface(loss, rates=(rates, rates))
    truths = dict(zip(TUNED_RATES, (0.7, 1.3, 0.7 / 1.3, 0.3, 2.0, 0.15), strict=True))
    assert one.tuned_rates == TUNED_RATES
    for rate, truth in truths.items():
        assert surface_optimum(one, rate).value == pytest.approx(truth, rel=0.01), rate
        assert optimum_interval(one, rate).value == pytest.approx(truth, rel=0.01), rate
    loss[1:, 0] -= 0.55
    frozen = surface(loss, rates=(rates, rates))
    assert surface_optimum(frozen, "hidden").value == 0
    assert surface_optimum(frozen, "ratio").value == math.inf
    assert not is_determined(surface_optimum(frozen, "hidden"))
    assert surface_optimum(frozen, "embedding").value == pytest.approx(0.3, rel=0.05)


def test_one_axis_alone():
    """Only the embedding is swept: at one hidden rate, with the hidden layer frozen, and both."""
    loss = bowl((0.7, 1.3))
    at = int(np.searchsorted(RATES, 4.0))
    best = RATES[np.argmin(loss[:, at])]
    one = surface(loss[:, [at]], rates=(RATES, RATES[[at]]))
    assert one.tuned_rates == ("embedding",)
    assert surface_optimum(one, "embedding").value == pytest.approx(best, rel=0.5)
    frozen = surface(loss[:, [at]], rates=(RATES, np.zeros(1)))
    assert frozen.tuned_rates == ("embedding_alone",)
    assert (
        surface_optimum(frozen, "embedding_alone").value == surface_optimum(one, "embedding").value
    )
    hidden = surface(loss[[at]], rates=(RATES[[at]], RATES))
    assert hidden.tuned_rates == ("hidden",)
    assert surface_optimum(hidden, "hidden").status == "ok"
    with pytest.raises(ValueError, match="no optimum of ratio"):
        surface_optimum(one, "ratio")
    assert_refused("rate", lambda: surface_optimum(one, "readout"))


def test_other_grids_are_refused():
    loss = np.ones((3, 3, 1))
    with pytest.raises(ValueError, match="geometric"):
        LossSurface(np.array([1.0, 2, 3]), np.array([1.0, 2, 4]), loss, np.ones(1))
    with pytest.raises(ValueError, match="shape"):
        LossSurface(np.array([1.0, 2, 4]), np.array([1.0, 2, 4]), loss, np.ones(2))


def test_the_interval_of_an_optimum(random):
    loss = bowl((0.7, 1.3))
    found = optimum_interval(noisy(random, [loss], seeds=6)[0], "embedding")
    assert 0.5 < found.low < found.value < found.high < 1.0
    single = optimum_interval(noisy(random, [loss], seeds=1)[0], "embedding")
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert single.value == pytest.approx(0.7, rel=0.3)


# exponents


@pytest.mark.parametrize(("embedding", "hidden"), [(0.0, -1.0), (0.5, -0.25), (-0.3, 0.3)])
@pytest.mark.parametrize("sizes", [WIDTHS, np.array([100.0, 700.0, 3000.0])])
def test_powers_of_either_size_are_found(sizes, embedding, hidden):
    """Optima on d^x at five widths, and on m^y at three vocabularies."""
    surfaces = [surface(loss) for loss in moving(sizes, embedding, hidden)]
    for rate, truth in (
        ("embedding", embedding),
        ("hidden", hidden),
        ("ratio", embedding - hidden),
    ):
        fit = rate_exponent(sizes, surfaces, rate)
        assert fit.value == pytest.approx(truth, abs=0.01)
        assert fit.theil_sen == pytest.approx(truth, abs=0.015)
        assert fit.drift == pytest.approx(0, abs=0.01)
        assert fit.without_smallest == pytest.approx([truth] * (len(sizes) - 2), abs=0.02)
        assert fit.compatible_low <= truth <= fit.compatible_high
        assert (fit.used, fit.excluded) == (len(sizes), 0)


def test_noise_and_asymmetry_leave_the_exponents(random):
    losses = moving(WIDTHS, 0.2, -0.6, bends=(0.06, 0.03), cubic=0.001)
    surfaces = noisy(random, losses, seeds=6, noise=0.01)
    for rate, truth in (("embedding", 0.2), ("hidden", -0.6), ("ratio", 0.8)):
        fit = rate_exponent(WIDTHS, surfaces, rate)
        assert fit.value == pytest.approx(truth, abs=0.05)
        assert fit.low < fit.value < fit.high < fit.low + 0.2
        assert abs(fit.theil_sen - fit.value) < 0.05


def test_the_jackknife_is_that_of_the_slope(random):
    """Four seeds in each of two cells, of which a bootstrap can draw enough too."""
    surfaces = [
        surface(loss, random=random, seeds=4, noise=0.03) for loss in moving(WIDTHS[:2], 0.2, -0.6)
    ]
    read = [log_optimum(one, "ratio") for one in surfaces]

    def slope(*changes, axis=-1):
        logs = [of(change) for of, change in zip(read, changes, strict=True)]
        return (logs[1] - logs[0]) / np.log(WIDTHS[1] / WIDTHS[0])

    found = rate_exponent(WIDTHS[:2], surfaces, "ratio", by_jackknife=True)
    expected = jackknife(slope, [one.change for one in surfaces])
    assert found.low < found.high
    np.testing.assert_allclose(
        [found.value, found.low, found.high], [expected.value, expected.low, expected.high]
    )
    drawn = rate_exponent(WIDTHS[:2], surfaces, "ratio")
    assert drawn.value == found.value
    assert (drawn.low, drawn.high) != (found.low, found.high)


@pytest.mark.slow
def test_intervals_cover_the_truth(random):
    """95 % intervals of 60 draws with four seeds; they are not wide for the sake of coverage."""
    small = 4.0 ** np.arange(-3, 4)
    widths = WIDTHS[::2]
    covered, rejected = [], []
    for _ in range(60):
        losses = moving(widths, 0.0, -0.5, bends=(0.05, 0.02), rates=(small, small))
        surfaces = [
            surface(loss, random=random, seeds=4, noise=0.03, rates=(small, small))
            for loss in losses
        ]
        fit = rate_exponent(widths, surfaces, "ratio", resamples=300)
        covered.append(fit.low <= 0.5 <= fit.high)
        rejected.append(not fit.low <= 1.0 <= fit.high)
    assert np.mean(covered) >= 0.85
    assert np.mean(rejected) > 0.9


def test_the_rule_of_the_parametrization_is_added():
    """Base rates with exponent 1/4 under a rule d^-1: actual rates with -3/4."""
    surfaces = [surface(loss, seeds=2) for loss in moving(WIDTHS, 0.25, 0.0)]
    fit = rate_exponent(WIDTHS, surfaces, "embedding", factors=64 / WIDTHS)
    plain = rate_exponent(WIDTHS, surfaces, "embedding")
    assert fit.rule == pytest.approx(-1)
    assert plain.rule == 0
    assert fit.value == plain.value == pytest.approx(0.25, abs=0.01)
    assert fit.actual.value == pytest.approx(-0.75, abs=0.01)
    assert fit.actual.high - fit.actual.low == pytest.approx(fit.high - fit.low)


def test_edges_are_left_out_and_counted():
    """The hidden optimum leaves the grid at the two largest widths."""
    sizes = 4.0 ** np.arange(3, 8)
    surfaces = [surface(bowl((0.7, 10 * d / 64), bends=(0.06, 0.06))) for d in sizes]
    fit = rate_exponent(sizes, surfaces, "hidden")
    assert (fit.used, fit.excluded) == (3, 2)
    assert fit.value == pytest.approx(1.0, abs=0.01)
    assert fit.status == "ok"
    none = rate_exponent(sizes[3:], surfaces[3:], "hidden")
    assert (none.status, none.used, none.excluded) == ("edge", 0, 2)
    assert math.isnan(none.value)


def test_flat_optima_are_kept_and_flagged():
    """Hardly any bend: the exponent is flagged, and all slopes from their intervals reported."""
    losses = moving(WIDTHS, 0.0, -0.5, tilt=0.0, bends=(0.06, 0.005))
    surfaces = [surface(loss) for loss in losses]
    sharp, flat = (rate_exponent(WIDTHS, surfaces, rate) for rate in ("embedding", "hidden"))
    assert (sharp.status, sharp.flat) == ("ok", 0)
    assert (flat.status, flat.flat, flat.excluded) == ("flat", 5, 0)
    assert flat.value == pytest.approx(-0.5, abs=0.01)
    assert flat.compatible_high - flat.compatible_low > 3 * (
        sharp.compatible_high - sharp.compatible_low
    )
    reach = math.sqrt(0.01 * (INITIAL - 0.3) / 0.005)  # of ln rate at the stated excess of 1 %
    assert flat.compatible_high == pytest.approx(-0.5 + 2 * reach / math.log(16), rel=0.03)


def test_intervals_cut_by_the_grid_have_no_end():
    """Near-optimal down to the smallest hidden rate: how far down, no grid can tell."""
    loss = bowl((0.7, 0.3), tilt=0.0, bends=(0.06, 1e-5))
    surfaces = [surface(loss) for _ in WIDTHS]
    fit = rate_exponent(WIDTHS, surfaces, "hidden")
    assert fit.status == "flat"
    assert (fit.compatible_low, fit.compatible_high) == (-math.inf, math.inf)
    low = bowl((0.7, 0.01), tilt=0.0, bends=(0.06, 0.005))  # the upper end is known
    fit = rate_exponent(WIDTHS, [surface(low) for _ in WIDTHS], "hidden")
    assert (fit.status, fit.flat) == ("flat", 5)
    assert (fit.compatible_low, fit.compatible_high) == (-math.inf, math.inf)


def test_a_narrower_fit_shows_what_asymmetry_does():
    """Surfaces that grow more lopsided with width: half the reach is nearer to the truth."""
    lopsided = [
        surface(bowl((0.7, 1.3), tilt=0.0, bends=(0.06, 0.03), cubic=0.0008 * k))
        for k in range(len(WIDTHS))
    ]
    fit = rate_exponent(WIDTHS, lopsided, "hidden")
    assert abs(fit.narrow_fit_drift) > 0.002
    assert abs(fit.value + fit.narrow_fit_drift) < 0.8 * abs(fit.value)
    plain = [surface(loss) for loss in moving(WIDTHS, 0.25, -0.25)]
    assert abs(rate_exponent(WIDTHS, plain, "hidden").narrow_fit_drift) < 0.002


def test_one_seed_has_an_exponent_and_no_interval(random):
    surfaces = noisy(random, moving(WIDTHS, 0.0, -0.5), seeds=1, noise=0.005)
    fit = rate_exponent(WIDTHS, surfaces, "ratio")
    assert fit.value == pytest.approx(0.5, abs=0.1)
    assert math.isnan(fit.low)
    assert math.isnan(fit.high)


def test_one_size_has_no_exponent():
    fit = rate_exponent(WIDTHS[:1], [surface(bowl((0.7, 1.3)))], "ratio")
    assert (fit.status, fit.used) == ("undetermined", 1)
    assert math.isnan(fit.value)


def test_sizes_must_increase_one_for_each_surface():
    one = surface(bowl((0.7, 1.3)))
    for sizes in ([2.0, 1.0], [1.0, 1.0], [1.0]):
        with pytest.raises(ValueError, match="sizes"):
            rate_exponent(sizes, [one, one], "ratio")


# compatible slopes


def test_compatible_slopes_of_three_intervals():
    """Between (0 ± 1, 5 ± 9, 2 ± 1) at 0, 1, 2: slopes from 0 to 2, the middle one is idle;
    a lower end at 1.5 there makes both ends of the slope narrower."""
    x = [0.0, 1.0, 2.0]
    assert compatible_slopes(x, [-1, -4, 1], [1, 14, 3]) == pytest.approx((0, 2))
    assert compatible_slopes(x, [-1, 1.5, 1], [1, 14, 3]) == pytest.approx((0.5, 1.5))
    assert compatible_slopes(x, [0, 5, 0], [0, 5, 0]) == pytest.approx((np.nan,) * 2, nan_ok=True)
    assert compatible_slopes(x, [0, 1, 2], [0, 1, 2]) == pytest.approx((1, 1))
    assert compatible_slopes(x, [0, -9, 1], [0, 9, np.inf]) == pytest.approx((0.5, 9))
    assert compatible_slopes(x[:2], [0, 1], [0, np.inf]) == (pytest.approx(1), np.inf)


def test_compatible_slopes_against_random_search(random):
    """No line drawn inside random intervals is steeper than the linear program says."""
    x = np.sort(random.uniform(0, 5, 6))
    truth = 0.4 * x - 1
    low, high = truth - random.uniform(0, 2, 6), truth + random.uniform(0, 2, 6)
    slopes = []
    for slope in np.linspace(-3, 3, 6001):
        if np.max(low - slope * x) <= np.min(high - slope * x):
            slopes.append(slope)
    assert compatible_slopes(x, low, high) == pytest.approx((slopes[0], slopes[-1]), abs=2e-3)


def test_fit_exponent_of_any_statistic(random):
    """`log_value` in place of the mean: the same fit where it is the mean, another where not."""
    cells = [size**0.5 * random.lognormal(0, 0.3, 6) for size in WIDTHS]
    plain = fit_exponent(WIDTHS, cells)
    same = fit_exponent(WIDTHS, cells, log_value=lambda cell: np.log(cell.mean(axis=-1)))
    assert plain == same
    square = fit_exponent(WIDTHS, cells, log_value=lambda cell: 2 * np.log(cell.mean(axis=-1)))
    assert square.value == pytest.approx(2 * plain.value)
    assert square.high == pytest.approx(2 * plain.high)
    assert square.drift == pytest.approx(2 * plain.drift)
