"""Optimal learning rates: the finder on surfaces with known optima, the search on closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import assert_refused

from dynsim import Setup, optimal_learning_rates, optimal_rates, token_law
from dynsim.search import _optimal_rates as module
from dynsim.statistics import joint_optimum, rate_optimum

pytestmark = pytest.mark.usefixtures("quick_compilation")

FINE = 2.0 ** np.arange(-6, 6.01, 0.25)
HALF = 2.0 ** np.arange(-8, 8.01, 0.5)
BEST = 0.3


def one_step(rates, best=BEST, gap=0.8):
    """The loss of a quadratic after one step: exactly known optimum and interval."""
    return 1 - gap + gap * (rates / best - 1) ** 2


def valley(embedding, projection, best, tilt, curvature=(1.0, 0.02), floor=0.1):
    """A quadratic form in log rates, stiff along one axis and soft along the other, turned."""
    x, y = np.log(embedding / best[0])[:, None], np.log(projection / best[1])
    along, across = np.cos(tilt), np.sin(tilt)
    stiff, soft = along * x + across * y, -across * x + along * y
    return floor + curvature[0] * stiff**2 + curvature[1] * soft**2


def test_one_step_optimum_and_interval():
    """1 % of the gap is 10 % in the rate."""
    found = rate_optimum(FINE, one_step(FINE), initial_loss=1.0)
    assert found.value == pytest.approx(BEST, rel=0.02)
    assert found.low == pytest.approx(0.9 * BEST, rel=0.02)
    assert found.high == pytest.approx(1.1 * BEST, rel=0.02)
    assert found.loss == pytest.approx(0.2, abs=1e-3)
    assert found.status == "ok"


def test_a_parabola_in_the_log_is_found_exactly():
    loss = 0.2 + 0.05 * np.log(FINE / BEST) ** 2
    found = rate_optimum(FINE, loss, initial_loss=1.2)
    assert found.value == pytest.approx(BEST, rel=1e-9)
    assert found.loss == pytest.approx(0.2, abs=1e-12)
    wide = math.exp(math.sqrt(0.01 * 1.0 / 0.05))
    assert found.low == pytest.approx(BEST / wide, rel=0.02)
    assert found.high == pytest.approx(BEST * wide, rel=0.02)


@pytest.mark.parametrize("excess", [0.04, 0.25])
def test_the_excess_sets_the_interval(excess):
    found = rate_optimum(FINE, one_step(FINE), initial_loss=1.0, excess=excess)
    assert found.low == pytest.approx((1 - math.sqrt(excess)) * BEST, rel=0.02)
    assert found.high == pytest.approx((1 + math.sqrt(excess)) * BEST, rel=0.02)


def test_a_larger_error_widens_the_interval():
    """An error of 4 % of the gap counts where it exceeds the stated excess of 1 %."""
    exact = rate_optimum(FINE, one_step(FINE), initial_loss=1.0)
    noisy = rate_optimum(FINE, one_step(FINE), initial_loss=1.0, error=0.04 * 0.8)
    assert noisy.value == exact.value
    assert noisy.low == pytest.approx(0.8 * BEST, rel=0.02)
    small = rate_optimum(FINE, one_step(FINE), initial_loss=1.0, error=0.001)
    assert (small.low, small.high) == (exact.low, exact.high)


def test_noise_moves_the_optimum_by_little(random):
    values = []
    for _ in range(40):
        loss = one_step(FINE) + random.normal(0, 0.002, len(FINE))
        found = rate_optimum(FINE, loss, initial_loss=1.0, error=0.008)
        assert found.low < BEST < found.high
        values.append(found.value)
    assert np.mean(values) == pytest.approx(BEST, rel=0.03)
    assert np.std(values) < 0.1 * BEST


@pytest.mark.parametrize("best", [FINE[0] / 3, FINE[-1] * 3])
def test_an_optimum_at_the_edge_has_no_value(best):
    found = rate_optimum(FINE, one_step(FINE, best), initial_loss=10.0, excess=1e-6)
    assert found.status == "edge"
    assert math.isnan(found.value)


def test_a_flat_optimum_is_an_interval():
    """A floor of two decades, then a wall; and one that freezing the layer belongs to."""
    rates = 10.0 ** np.arange(-4, 2.01, 0.25)
    wall = 0.3 + 0.001 * np.log(rates / 0.01) ** 2 + 0.5 * np.maximum(0, np.log10(rates / 0.1))
    found = rate_optimum(rates, wall + 0.1 * (rates < 0.9e-3), initial_loss=1.0)
    assert found.status == "flat"
    assert found.low == pytest.approx(1e-3, rel=0.5)
    assert found.high == pytest.approx(0.1, rel=0.5)
    still = rate_optimum(np.append(0, rates), np.append(0.3001, wall), initial_loss=1.0)
    assert still.status == "flat"
    assert still.low == 0
    assert still.value == pytest.approx(0.01, rel=1e-6)


def test_the_frozen_layer_may_be_best():
    rates = np.append(0, FINE)
    found = rate_optimum(rates, np.append(0.2, 0.5 + FINE / 100), initial_loss=1.0)
    assert (found.value, found.low, found.high, found.status) == (0, 0, 0, "ok")


def test_no_decrease_is_undetermined():
    for loss in (np.full(len(FINE), 1.0), np.full(len(FINE), np.nan), np.full(len(FINE), np.inf)):
        found = rate_optimum(FINE, loss, initial_loss=1.0)
        assert found.status == "undetermined"
        assert math.isnan(found.value)
    within_noise = rate_optimum(FINE, one_step(FINE, gap=0.01), initial_loss=1.0, error=0.02)
    assert within_noise.status == "undetermined"


def test_diverged_rates_do_not_matter():
    loss = one_step(FINE)
    diverged = np.where(FINE > 0.8, np.where(FINE > 2, np.nan, 1e30), loss)
    exact = rate_optimum(FINE, loss, initial_loss=1.0)
    assert rate_optimum(FINE, diverged, initial_loss=1.0) == exact


@pytest.mark.parametrize(
    "rates",
    [
        *([1, 2], [1, 2, 3, 4], [4, 2, 1], [-1, 1, 2, 4], [1, 0, 2, 4]),
        *([np.inf, 1, 2, 4], [1, 2, np.nan, 4, 8], [1, 2, 4, np.inf, np.inf]),
    ],
)
def test_other_grids_are_refused(rates):
    with pytest.raises(ValueError, match="geometric"):
        rate_optimum(rates, np.ones(len(rates)), initial_loss=1.0)
    with pytest.raises(ValueError, match="geometric"):
        joint_optimum(rates, FINE, np.ones((len(rates), len(FINE))), initial_loss=1.0)


def test_other_losses_and_excesses_are_refused():
    with pytest.raises(ValueError, match="one for each rate"):
        rate_optimum(FINE, one_step(FINE)[1:], initial_loss=1.0)
    with pytest.raises(ValueError, match="one for each rate"):
        joint_optimum(FINE, FINE, np.ones((len(FINE), 3)), initial_loss=1.0)
    for excess in (-1.0, 1.0, np.nan):
        with pytest.raises(ValueError, match="excess"):
            rate_optimum(FINE, one_step(FINE), initial_loss=1.0, excess=excess)
    with pytest.raises(ValueError, match="geometric"):
        joint_optimum([1, 2, np.inf], FINE, np.ones((3, len(FINE))), initial_loss=1.0)


@pytest.mark.parametrize("tilt", [0.3, np.pi / 4])
def test_axes_may_have_different_factors(tilt):
    """The same optimum and interval as on axes of one factor, whichever is the finer one."""
    truth = (0.9, 1.2)
    options, curvature = {"initial_loss": 1.1}, (0.1, 0.02)
    same = joint_optimum(HALF, HALF, valley(HALF, HALF, truth, tilt, curvature), **options)
    for axes in ((FINE, HALF), (HALF, FINE), (HALF, HALF[::3])):
        found = joint_optimum(*axes, valley(*axes, truth, tilt, curvature), **options)
        assert found.ratio.value == pytest.approx(same.ratio.value, rel=0.15)
        assert found.ratio.low == pytest.approx(same.ratio.low, rel=0.2)
        assert found.ratio.high == pytest.approx(same.ratio.high, rel=0.2)
    uneven = np.delete(HALF, 3)
    with pytest.raises(ValueError, match="geometric"):
        joint_optimum(uneven, HALF, np.ones((len(uneven), len(HALF))), **options)


@pytest.mark.parametrize("tilt", [0.0, 0.6, math.pi / 4, 2.2])
def test_a_tilted_valley(tilt):
    """A quadratic form: optimum and every profile's interval are known for any direction."""
    best, curvature = (0.4, 0.07), (0.5, 0.05)
    loss = valley(HALF, HALF, best, tilt, curvature)
    found = joint_optimum(HALF, HALF, loss, initial_loss=1.1, excess=0.01)
    axes = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    covariance = axes.T @ np.diag(1 / np.array(curvature)) @ axes  # inverse of the form
    expected = {"embedding": (1, 0), "projection": (0, 1), "ratio": (1, -1)}
    centre = {"embedding": best[0], "projection": best[1], "ratio": best[0] / best[1]}
    for name, direction in expected.items():
        one = getattr(found, name)
        assert one.value == pytest.approx(centre[name], rel=0.02), name
        reach = math.exp(math.sqrt(0.01 * np.dot(direction, covariance @ direction)))
        assert one.low == pytest.approx(centre[name] / reach, rel=0.08), name
        assert one.high == pytest.approx(centre[name] * reach, rel=0.08), name
        assert one.loss == pytest.approx(0.1, abs=2e-3)


def test_a_valley_of_constant_ratio_and_its_crossing():
    """Along eta_E ~ eta_W the ratio is sharp and both rates are flat; across, the reverse."""
    sharp = valley(HALF, HALF, (0.4, 0.1), -math.pi / 4, (0.5, 1e-4))
    found = joint_optimum(HALF, HALF, sharp, initial_loss=1.1)
    assert found.ratio.status == "ok"
    assert found.ratio.value == pytest.approx(4, rel=0.02)
    assert found.embedding.status == found.projection.status == "flat"
    flat = valley(HALF, HALF, (0.4, 0.1), math.pi / 4, (0.5, 1e-4))
    assert joint_optimum(HALF, HALF, flat, initial_loss=1.1).ratio.status == "flat"


def test_one_layer_that_solves_the_task_alone():
    """The projection can only harm beyond a rate: the ratio is bounded below and not above."""
    axis, low = np.append(0, HALF), np.append(0, HALF / 64)
    loss = one_step(axis)[:, None] + 0.8 * (low / 0.05) ** 2
    found = joint_optimum(axis, low, loss, initial_loss=1.0)
    assert found.embedding.value == pytest.approx(BEST, rel=0.05)
    assert found.embedding.status == "ok"
    assert (found.projection.low, found.projection.status) == (0, "flat")
    assert found.projection.high == pytest.approx(0.1 * 0.05, rel=0.2)
    assert (found.ratio.high, found.ratio.status) == (math.inf, "flat")
    assert found.ratio.low == pytest.approx(BEST / 0.005, rel=0.3)


def test_the_limits_of_the_ratio_are_the_right_way_round():
    """With the layers exchanged, the ratio reaches 0."""
    axis, low = np.append(0, HALF), np.append(0, HALF / 64)
    loss = one_step(axis) + 0.8 * (low[:, None] / 0.05) ** 2
    found = joint_optimum(low, axis, loss, initial_loss=1.0)
    assert found.ratio.low == 0
    assert found.ratio.high == pytest.approx(0.005 / BEST, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("init", "m"), [("mup", 64), ("sp", 256)])
def test_theory_has_the_closed_form_after_one_step(init, m):
    """Targets +-1, one output: eta_E* and eta_W* of the derivations, self term included."""
    setup = Setup(optimizer="sign", width=1024, vocab_size=m, targets="sign", init=init)
    found = optimal_rates(setup, (1,), seeds=3, particles=256)
    closed = optimal_learning_rates(1024, token_law("uniform", m), init=init)
    for one, expected in zip((found.embedding[0], found.projection[0]), closed, strict=True):
        assert one.status == "ok"
        assert one.value == pytest.approx(float(expected), rel=0.04)
        assert one.low < float(expected) < one.high
    ratio = float(closed[0] / closed[1])
    assert found.ratio[0].value == pytest.approx(ratio, rel=0.06)
    assert found.ratio[0].low < ratio < found.ratio[0].high


@pytest.mark.slow
def test_gaussian_targets_have_their_own_closed_form():
    """The embedding's optimum shrinks by E|r| = sqrt(2/pi) and the projection's does not."""
    found = optimal_rates(
        Setup(optimizer="sign", width=1024, vocab_size=1024), (1,), seeds=3, particles=256
    )
    law = token_law("uniform", 1024)
    closed = optimal_learning_rates(1024, law, init="mup", targets="gaussian")
    for one, expected in zip((found.embedding[0], found.projection[0]), closed, strict=True):
        assert one.value == pytest.approx(float(expected), rel=0.05)
    with pytest.raises(ValueError, match="targets 'onehot': must be one of"):
        optimal_learning_rates(1024, law, init="mup", targets="onehot")
    signs, _ = optimal_learning_rates(1024, law, init="mup")
    assert float(closed[0] / signs) == pytest.approx(math.sqrt(2 / math.pi), rel=1e-3)
    assert found.embedding[0].value != pytest.approx(float(signs), rel=0.1)


@pytest.mark.slow
def test_networks_and_theory_agree_at_late_horizons():
    setup = Setup(optimizer="sign", width=128, vocab_size=256)
    theory, networks = (
        optimal_rates(setup, np.array([1, 4]), source=source, seeds=4, particles=particles)
        for source, particles in (("theory", 128), ("networks", None))
    )
    for name in ("embedding", "projection"):
        for ours, theirs in zip(getattr(theory, name), getattr(networks, name), strict=True):
            assert ours.value == pytest.approx(theirs.value, rel=0.2)
        early, late = getattr(theory, name)
        assert late.value < 0.7 * early.value
    assert theory.horizons == (1, 4)
    assert theory.initial_loss == pytest.approx(0.5, rel=0.2)


@pytest.mark.slow
def test_a_joint_search_finds_what_the_embedding_tolerates():
    """m > d: the embedding alone solves the task, and the ratio has no upper end."""
    setup = Setup(optimizer="sign", width=64, vocab_size=256)
    found = optimal_rates(setup, (2,), how="joint", source="networks", seeds=4)
    alone = optimal_rates(setup, (2,), source="networks", seeds=4)
    assert found.ratio[0].high == math.inf
    assert found.ratio[0].status == found.projection[0].status == "flat"
    assert found.projection[0].low == 0
    assert found.embedding[0].value == pytest.approx(alone.embedding[0].value, rel=0.25)
    assert found.embedding[0].loss <= 1.01 * alone.embedding[0].loss


def surface(best):
    """What the search calls: one seed's losses (S, K_E, K_W, H) around a known optimum."""

    def measure(windows, per_octave):
        axes = [
            np.append(0, 2.0 ** (np.arange(low * per_octave, high * per_octave + 1) / per_octave))
            for low, high in windows
        ]
        x, y = (axis / b for axis, b in zip(axes, best, strict=True))
        loss = 0.1 + 0.45 * ((x[:, None] - 1) ** 2 + (y - 1) ** 2)
        return module._Surface(axes, np.stack([loss, loss])[..., None], 1.0)

    return measure


@pytest.mark.parametrize("best", [(2.0**9.3, 2.0**-9.3), (1.0, 1.0)])
def test_the_search_recentres(best):
    start = np.array([-2, 2])
    found = module._search(surface(best), (start, start), 4, 0.01).joint(0, 0.01)
    assert found.embedding.value == pytest.approx(best[0], rel=0.03)
    assert found.projection.value == pytest.approx(best[1], rel=0.03)
    assert found.ratio.status == "ok"


def test_the_search_gives_up():
    start = np.array([-2, 2])
    found = module._search(surface((2.0**40, 1.0)), (start, start), 1, 0.01)
    assert found.axes[0][-1] <= 2.0 ** (2 + module.MOST_SHIFTS * module.OCTAVES_A_SHIFT)


def test_quotient_of_layerwise_optima():
    wide = module.Optimum(4.0, 2.0, 8.0, "ok", 0.1)
    flat = module.Optimum(0.5, 0.0, 1.0, "flat", 0.1)
    ratio = module.optima_ratio(wide, flat)
    assert (ratio.value, ratio.low, ratio.high, ratio.status) == (8, 2, math.inf, "flat")


def test_bad_input_is_refused():
    setup = Setup(optimizer="sign", width=8, vocab_size=8)
    assert_refused("horizons", lambda: optimal_rates(setup, ()))
    assert_refused("horizons", lambda: optimal_rates(setup, (2.5,)))
    for schedule in ("linear", "cosine"):
        assert_refused(
            "schedule",
            lambda schedule=schedule: optimal_rates(
                Setup(optimizer="sign", width=8, vocab_size=8, schedule=schedule), (1,)
            ),
            "share one run",
        )
    assert_refused("horizons", lambda: optimal_rates(setup, (0,)))
    assert_refused("seeds", lambda: optimal_rates(setup, (1,), seeds=1))
    assert_refused("how", lambda: optimal_rates(setup, (1,), how="both"))
    assert_refused("source", lambda: optimal_rates(setup, (1,), source="guess"))
