"""The end of the LV regime along a path: limits, the crossing, networks against the formula."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from helpers import assert_refused

import derivations
from dynsim import Setup, restoration_displacement
from dynsim.laboratory import NetworkSetup
from dynsim.scaling import Unavailable, family
from dynsim.scaling._columns import closed_columns, slope
from dynsim.scaling.quantities import _restoration as module
from dynsim.scaling.quantities._restoration import RESTORATION
from dynsim.theory import visit_chance

ONE = Setup(width=256, vocab_size=8192, targets="sign", optimizer="sign")
HALF = Fraction(1, 2)


@pytest.mark.parametrize(
    ("along", "sizes", "options", "expected"),
    [
        ("width", [64, 128], {"vocab_size": "16*d"}, -HALF),
        ("width", [64, 128], {"vocab_size": 4096}, -HALF),
        ("vocab_size", [1024, 4096], {"width": 64}, 0),
        ("outputs", [4, 8], {"width": 256, "vocab_size": 4096, "targets": "gaussian"}, HALF),
        ("width", [64, 128], {"vocab_size": "d^2", "batch_size": "d^1.5"}, 0),
        ("width", [64, 128], {"vocab_size": "d^2", "batch_size": "d^0.5"}, Fraction(9, 8)),
    ],
)
def test_powers_of_the_end(along, sizes, options, expected):
    """K sqrt(n/d) over the chance of a visit; (n^2/(B d))^(1/4) where B << d."""
    path = family(along, sizes, **{"targets": "sign", "optimizer": "sign", **options})
    assert RESTORATION.asymptotic(path).exponent == expected


def test_no_regime_no_end():
    path = family("width", [256, 512], vocab_size="d^(1/2)", targets="sign")
    for column in (RESTORATION.asymptotic, lambda path: RESTORATION.derived(path.setup(256))):
        with pytest.raises(Unavailable, match="muP regime already"):
            column(path)


def test_the_formula_is_the_closed_one_and_its_limits():
    derived = RESTORATION.derived
    assert derived(ONE) == pytest.approx(restoration_displacement(256, 8192), rel=1e-9)
    assert derived(ONE) == pytest.approx(256**-0.5, rel=0.01)
    adam = replace(ONE, optimizer="adam")
    assert derived(adam) == derived(ONE)
    gaussian = derived(replace(ONE, targets="gaussian"))
    assert gaussian == pytest.approx(derived(ONE), rel=0.01)
    assert derived(replace(ONE, targets="gaussian", vocab_size=512)) != pytest.approx(
        derived(replace(ONE, vocab_size=512)), rel=0.01
    )
    constant = derivations.isotropic_restoration_constant().expression
    several = replace(ONE, targets="gaussian", outputs=4)
    expected = float(constant.subs(derivations.symbols.outputs, 4).evalf()) * (4 / 256) ** 0.5
    assert derived(several) == pytest.approx(expected, rel=0.01)


def test_a_batch_delays_the_end_by_the_visits_it_misses():
    """B >> d: sqrt(1/d) over the chance of a visit; a smoothed sign by its speed."""
    setup = replace(ONE, width=64, vocab_size=2**16, batch_size=2**14)
    chance = visit_chance(setup.law(), setup.batch_size)
    assert RESTORATION.derived(setup) == pytest.approx(64**-0.5 / chance, rel=0.03)
    smoothed = replace(ONE, optimizer="smoothed-sign", epsilon=1e-6)
    ratio = RESTORATION.derived(smoothed) / RESTORATION.derived(ONE)
    assert ratio == pytest.approx(1 / module.speed(smoothed, module.sizes_of(smoothed)), rel=1e-6)
    assert ratio > 1.05


@pytest.mark.parametrize("end", [0.03, 0.11])
def test_the_crossing_of_a_known_curve(end):
    """Coherent power (theta/theta_c)^2 is read off exactly up to the curvature within a step."""
    theta = 0.005 * np.arange(40)
    incoherent = 3.0 * (1 + 7 * theta)  # whatever theory may say of it
    curve = np.stack([incoherent + 3.0 * (theta / end) ** 2, incoherent])[..., None]
    log_value = module.log_end(0.005)
    assert np.exp(log_value(curve)) == pytest.approx(end, rel=0.01)
    pairs = curve[:, :, None] * np.ones((1, 1, 3, 2))
    assert log_value(pairs).shape == (3,)
    assert np.isnan(log_value(curve[:, :5]))
    assert np.isnan(log_value(curve + np.array([6.0, 0.0]).reshape(2, 1, 1)))


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_networks_and_mean_field_end_where_derived(monkeypatch):
    setup = replace(ONE, width=48, vocab_size=1024)
    derived = RESTORATION.derived(setup)
    assert RESTORATION.measurement is not None
    arrays = RESTORATION.measurement.run(setup, np.arange(8), lambda part: None)
    cell = RESTORATION.sampled(setup, arrays)
    assert np.exp(cell.log_value(cell.samples)) == pytest.approx(derived, rel=0.06)
    monkeypatch.setattr(module, "PARTICLES", 256)
    (solved,) = RESTORATION.mean_field([replace(setup, vocab_size=256)])
    expected = RESTORATION.derived(replace(setup, vocab_size=256))
    assert solved.value == pytest.approx(expected, abs=max(0.08 * expected, 3 * solved.error))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("guess", [0.2, 4.0])
def test_what_networks_measure_does_not_depend_on_the_derived_end(monkeypatch, guess):
    """From a wrong first guess the rate is changed until the end lies where it is wanted."""
    setup = replace(ONE, width=48, vocab_size=512, optimizer="adam")
    assert RESTORATION.measurement is not None
    ends = []
    for factor in (1.0, guess):
        end = factor * setup.width**-0.5
        monkeypatch.setattr(module, "derived_end", lambda setup, end=end: end)
        done: list[float] = []
        arrays = RESTORATION.measurement.run(setup, np.arange(3), done.append)
        cell = RESTORATION.sampled(setup, arrays)
        ends.append(float(np.exp(cell.log_value(cell.samples))))
        steps = ends[-1] / arrays["embedding_lr"][0]
        assert steps == pytest.approx(module.STEPS_TO_END, rel=module.STEP_ERROR - 1)
        assert sum(done) == pytest.approx(1)
    assert ends[1] == pytest.approx(ends[0], rel=0.02)


def test_adam_in_small_batches_is_not_derived():
    """q^(-1/2) is of tokens that are visited often; a power needs a share that stays the same."""
    adam = replace(ONE, optimizer="adam", vocab_size=4096, width=64)
    sign = RESTORATION.derived(replace(adam, optimizer="sign", batch_size=512))
    chance = visit_chance(adam.law(), 512)
    assert RESTORATION.derived(replace(adam, batch_size=512)) == pytest.approx(sign * chance**0.5)
    small = replace(adam, batch_size=64)
    for column in (RESTORATION.derived, lambda setup: RESTORATION.mean_field([setup])):
        with pytest.raises(Unavailable, match="visits"):
            column(small)
    options = {"targets": "sign", "optimizer": "adam", "vocab_size": "d^2"}
    with pytest.raises(Unavailable, match="stays the same"):
        RESTORATION.asymptotic(family("width", [64, 128], batch_size="d^1.5", **options))
    path = family("width", [64, 128], batch_size="d^2/4", **options)
    assert RESTORATION.asymptotic(path).exponent == -HALF


def test_a_slope_through_some_of_the_sizes_is_no_slope():
    """At width 1024 the regime is muP: the formula has no slope along these widths."""
    path = family("width", [32, 64, 1024], vocab_size=512, targets="sign")
    theory = closed_columns(RESTORATION, path)
    assert np.isfinite(theory.curve.derived).tolist() == [True, True, False]
    assert slope(theory.curve.sizes, theory.curve.derived) is None
    assert "muP" in theory.why["derived"]


def test_what_has_no_end():
    assert_refused("optimizer", lambda: RESTORATION.check(replace(ONE, optimizer="sgd")))
    assert_refused("network", lambda: RESTORATION.check(NetworkSetup(network="mlp")))
    with pytest.raises(Unavailable, match="init"):
        RESTORATION.derived(replace(ONE, init="sp"))
    with pytest.raises(Unavailable, match="mini-batches"):
        RESTORATION.derived(replace(ONE, tokens="zipf:1", batch_size=64))
