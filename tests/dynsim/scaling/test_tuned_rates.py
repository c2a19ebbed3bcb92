"""Optimal learning rates along a path: closed forms, limits, and grids placed around optima."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import assert_refused
from hypothesis import given
from hypothesis import strategies as st

from derivations import symbols as s
from dynsim import Setup
from dynsim.laboratory import NetworkSetup
from dynsim.scaling import Unavailable, family
from dynsim.scaling.quantities import _rate_search as search
from dynsim.scaling.quantities._optimal_rates import _fitted_optimum
from dynsim.scaling.quantities._registry import QUANTITIES
from dynsim.theory._first_step import optimal_rates_at

RATIO = QUANTITIES["optimal_rate_ratio"]
JOINT = QUANTITIES["joint_optimal_rate_ratio"]
LAYERS = ("embedding", "projection")


def along_width(**options):
    return family("width", [16, 32], **{"targets": "sign", **options})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"vocab_size": 16}, 1),
        ({"vocab_size": "4*d"}, Fraction(1, 2)),
        ({"vocab_size": "d^1.5"}, Fraction(3, 4)),
        ({"vocab_size": "d^3"}, 1),
        ({"vocab_size": 16, "init": "sp"}, Fraction(1, 2)),
        ({"vocab_size": "4*d", "init": "sp"}, 0),
        ({"vocab_size": "d^2", "init": "sp"}, 0),
        ({"vocab_size": "4*d", "tokens": "zipf:1"}, 1),
    ],
)
def test_powers_of_the_ratio(options, expected):
    """At m = d^mu under muP max(1 - mu/2, mu/2), and 1 from the self term at m ~ d^2 on; under SP
    half a power less, which the self term keeps from m ~ d on; a Zipf head counts as a fixed
    vocabulary.
    """
    assert RATIO.asymptotic(along_width(**options)).exponent == expected


def test_the_ratio_does_not_grow_with_the_vocabulary_for_ever():
    """At fixed width it saturates at (pi/2) d, and so does the projection's rate."""
    grown = family("vocab_size", [64, 4096], width=8)
    assert RATIO.asymptotic(grown).exponent == 0
    setup = Setup(width=8, vocab_size=2**22, steps=2, targets="sign", optimizer="sign")
    assert RATIO.derived(setup) == pytest.approx(math.pi / 2 * 8, rel=0.2)


@pytest.mark.slow
@given(mu=st.floats(0, 3), init=st.sampled_from(["mup", "sp"]))
def test_the_formula_tends_to_its_power(mu, init):
    """The derived optima grow like their derived powers, at widths where only the power is left."""
    path = family("width", [16, 32], vocab_size=f"2*d^{mu:.4f}", init=init)
    widths = np.array([1e60, 1e61])
    second = widths ** -round(mu, 4) / 2
    values = {s.width: widths, s.frequency_square_sum: second, s.frequency_cube_sum: second**2}
    rates = optimal_rates_at(values, init)
    for layer, rate in zip(LAYERS, rates, strict=True):
        power = QUANTITIES[f"{layer}_optimal_lr"].asymptotic(path).exponent
        assert math.log10(rate[1] / rate[0]) == pytest.approx(float(power), abs=0.02)


@pytest.mark.parametrize("vocab_size", [16, 256, 2048])
def test_closed_form_at_small_vocabulary(vocab_size):
    """m << d^2: (pi/2) sqrt(m) + (d - 1)/sqrt(m)."""
    setup = Setup(width=2048, vocab_size=vocab_size, steps=2, targets="sign")
    root = vocab_size**0.5
    assert RATIO.derived(setup) == pytest.approx(math.pi / 2 * root + 2047 / root, rel=2e-3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": 2}, "one update"),
        ({"optimizer": "sgd"}, "sign or adam"),
        ({"outputs": 2}, "one of `outputs`"),
        ({"batch_size": 8}, "full batches"),
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"epsilon": 1e-3}, "`epsilon` 0.001 is more than a hundredth"),
    ],
)
def test_missing_formulas_say_why(options, reason):
    path = along_width(vocab_size="4*d", **options)
    with pytest.raises(Unavailable, match=reason):
        RATIO.derived(path.setup(16))
    if "epsilon" not in options:  # a power holds while epsilon is small
        with pytest.raises(Unavailable, match=reason):
            RATIO.asymptotic(path)


def test_what_is_not_asked_of_it():
    with pytest.raises(Unavailable, match="lower bound"):
        JOINT.asymptotic(along_width(vocab_size="4*d"))
    assert_refused("network", lambda: RATIO.check(NetworkSetup(network="mlp")))


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_networks_and_mean_field_have_the_derived_optima():
    """One update of sign descent: three routes that share no formula."""
    setup = Setup(width=32, vocab_size=64, steps=2, targets="sign", optimizer="sign")
    assert RATIO.measurement is not None
    arrays = RATIO.measurement.run(setup, np.arange(48), lambda part: None)
    for name in ("embedding_optimal_lr", "projection_optimal_lr", "optimal_rate_ratio"):
        cell = QUANTITIES[name].sampled(setup, arrays)
        assert cell.samples.shape[-1] == 48
        measured = float(np.exp(cell.log_value(cell.samples)))
        assert measured == pytest.approx(QUANTITIES[name].derived(setup), rel=0.08)
    (solved,) = RATIO.mean_field([setup])
    derived = RATIO.derived(setup)
    assert solved.value == pytest.approx(derived, abs=max(0.08 * derived, 3 * solved.error))
    assert 0 < solved.error < 0.1 * derived


def made(best, horizon, tilt=0.0):
    """Losses of a task with known optima: parabolas in the rate after one update, else in its log.

    Jointly a valley, in which the best rate of one layer depends on the other's.
    """

    def losses(task, embedding_lrs, projection_lrs):
        scale = 1 + 0.1 * (task.seed % 3)
        with np.errstate(divide="ignore"):
            x, y = (
                np.log(rates / one)
                for rates, one in zip((embedding_lrs, projection_lrs), best, strict=True)
            )
        if horizon == 1:
            gain = sum(2 * np.exp(z) - np.exp(2 * z) for z in (x, y))
        else:
            frozen = np.isinf(x) | np.isinf(y)
            x, y = (np.where(np.isinf(z), 0.0, z) for z in (x, y))
            gain = 1 - 0.05 * (x**2 + y**2 + tilt * x * y) - 0.1 * frozen
        return np.stack([np.full(len(x), 5.0), 5 - scale * gain])

    return losses


def read(how, setup, losses, name, seeds=4):
    found = search.searched(setup, np.arange(seeds), how, losses)
    arrays = {
        "embedding_rates": found.rates[0],
        "projection_rates": found.rates[1],
        "loss": found.loss,
        "initial_loss": found.initial_loss,
    }
    return QUANTITIES[name].sampled(setup, arrays)


@pytest.mark.parametrize("horizon", [1, 8])
@pytest.mark.parametrize("octaves", [0.3, -7.4, 11.2])
def test_the_grid_finds_optima_far_from_where_it_starts(horizon, octaves):
    setup = Setup(width=16, vocab_size=64, steps=horizon + 1, optimizer="sign")
    best = search._centres(setup, search.network_losses) * 2.0 ** np.array([octaves, -octaves])
    for layer, rate in zip(LAYERS, best, strict=True):
        name = f"{layer}_optimal_lr"
        cell = read("layerwise", setup, made(best, horizon), name)
        assert np.exp(cell.log_value(cell.samples)) == pytest.approx(rate, rel=1e-6)
    cell = read("layerwise", setup, made(best, horizon), RATIO.name)
    assert np.exp(cell.log_value(cell.samples)) == pytest.approx(best[0] / best[1], rel=1e-6)


def test_a_joint_valley_is_found_whatever_its_direction():
    setup = Setup(width=16, vocab_size=64, steps=3, optimizer="sign")
    best = search._centres(setup, search.network_losses) * np.array([3.0, 0.2])
    cell = read("joint", setup, made(best, 2, tilt=1.2), JOINT.name)
    assert np.exp(cell.log_value(cell.samples)) == pytest.approx(best[0] / best[1], rel=1e-6)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    ("losses", "rounding"), [(search.network_losses, 2e-5), (search.mean_field_losses, 1e-9)]
)
@pytest.mark.parametrize(
    "options",
    [{"optimizer": "adam", "epsilon": 0.1, "weight_decay": 0.5}, {"optimizer": "sgd"}],
)
def test_after_one_update_sixteen_pairs_of_rates_give_all(options, losses, rounding):
    """A squared error is quadratic in either rate; what the whole grid gives is computed here."""
    setup = Setup(width=16, vocab_size=24, steps=2, **options)
    rates = search._centres(setup, losses)[:, None] * 2.0 ** np.arange(-4.0, 5.0)
    axes = np.append(0.0, rates[0]), np.append(0.0, rates[1])
    asked = []

    def counted(task, *pairs):
        asked.append(len(pairs[0]))
        return losses(task, *pairs)

    found, initial = search._on_joint_grid(setup, counted, *axes)
    every, same = search._at_pairs(setup, losses, *axes)
    assert asked == [16]
    assert initial == same
    assert np.ptp(every) > 0.1 * initial
    np.testing.assert_allclose(found, every, rtol=rounding)


@pytest.mark.usefixtures("quick_compilation")
def test_sampled_tails_are_averaged_over():
    """Their places depend on the rates: the polynomial is right to within their sampling."""
    setup = Setup(width=16, vocab_size=2048, steps=2, optimizer="sign")
    rates = search._centres(setup, search.mean_field_losses)[:, None] * 2.0 ** np.arange(-2.0, 3.0)
    axes = np.append(0.0, rates[0]), np.append(0.0, rates[1])
    found, _ = search._on_joint_grid(setup, search.mean_field_losses, *axes)
    every, _ = search._at_pairs(setup, search.mean_field_losses, *axes)
    gap = np.abs(found / every - 1)
    assert 1e-6 < gap.max() < search.MOST_MISFIT


def test_losses_of_another_form_are_computed_at_all_pairs_of_rates():
    axis, asked = np.append(0.0, 2.0 ** np.arange(-4.0, 5.0)), []

    def losses(task, embedding_lrs, projection_lrs):
        asked.append(len(embedding_lrs))
        bent = 1 + np.abs(embedding_lrs - projection_lrs)
        return np.stack([np.ones(len(embedding_lrs)), bent])

    search._on_joint_grid(Setup(width=16, vocab_size=24, steps=2), losses, axis, axis)
    assert asked == [16, 100]


@pytest.mark.parametrize(
    "changed", [{"steps": 3}, {"loss": "ce", "targets": "onehot", "outputs": 24}]
)
def test_other_losses_are_computed_at_all_pairs_of_rates(changed):
    """So is a squared error that overflows at one of the sixteen."""
    setup = Setup(**{"width": 16, "vocab_size": 24, "steps": 2, **changed})
    axis, asked = np.append(0.0, 2.0 ** np.arange(9)), []

    def losses(task, embedding_lrs, projection_lrs):
        asked.append(len(embedding_lrs))
        return np.stack([np.ones(len(embedding_lrs)), np.where(embedding_lrs > 100, np.inf, 1)])

    search._on_joint_grid(setup, losses, axis, axis)
    assert asked == [100]
    asked.clear()
    search._on_joint_grid(Setup(width=16, vocab_size=24, steps=2), losses, axis, axis)
    assert asked == [16, 100]


@pytest.mark.parametrize("how", ["layerwise", "joint"])
def test_resamples_and_edges(how, random):
    """A function of resamples (..., R, S) is that of each; an optimum beyond the grid is NaN."""
    setup = Setup(width=16, vocab_size=64, steps=3, optimizer="sign")
    best = search._centres(setup, search.network_losses)
    cell = read(how, setup, made(best, 2), (RATIO if how == "layerwise" else JOINT).name)
    noisy = cell.samples * random.uniform(0.95, 1.0, cell.samples.shape)
    rows = random.integers(0, 4, (5, 4))
    together = cell.log_value(noisy[..., rows])
    one_by_one = [float(cell.log_value(noisy[..., row])) for row in rows]
    assert together.shape == (5,)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-9)
    assert np.ptp(together) > 1e-4
    rising = -np.arange(cell.samples.shape[1], dtype=float)[None, :, None]
    assert math.isnan(float(cell.log_value(rising + 0 * cell.samples)))
    assert math.isnan(float(cell.log_value(0 * cell.samples)))


def test_a_loss_with_two_valleys_has_no_single_optimum():
    """Noise below a twentieth of what training removes parts no valleys; a ridge above it does."""
    octaves = np.arange(-4.0, 5.0)
    rates, valley = 2.0**octaves, -np.exp(-((octaves / 3) ** 2))
    noisy = valley + 0.02 * (-1) ** np.arange(9)
    parted = valley.copy()
    parted[1] = -0.9
    found = _fitted_optimum(rates, np.stack([valley, noisy, parted, parted[::-1]]))
    assert np.log2(np.exp(found[:2])) == pytest.approx([0, 0], abs=0.05)
    assert np.isnan(found[2:]).all()


@pytest.mark.slow
def test_signs_learned_by_sign_descent_have_several_optimal_rates():
    """After 16 steps the embedding reaches targets of one size at several rates."""
    setup = Setup(4096, 16384, steps=16, targets="sign", optimizer="sign", epsilon=1e-8)
    with pytest.raises(Unavailable, match="two valleys"):
        QUANTITIES["embedding_optimal_lr"].mean_field([setup])
