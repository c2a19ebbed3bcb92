"""Updates and losses along a path: powers, formulas, mean field and networks hold each other."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from helpers import assert_mean, assert_refused, assert_rejected
from hypothesis import given, settings
from hypothesis import strategies as st

import derivations
from derivations import symbols as s
from dynsim import Setup
from dynsim.laboratory import NetworkSetup
from dynsim.scaling import Family, Unavailable, family
from dynsim.scaling.quantities._registry import quantity
from dynsim.scaling.quantities._updates import UPDATES
from dynsim.theory import aged_update, first_step
from dynsim.tokens import token_law

pytestmark = pytest.mark.usefixtures("quick_compilation")

POWERS = (Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3, 2), Fraction(5, 2))
ALPHAS = ("0", "0.25", "0.5", "0.7", "1", "1.5")


def along_width(mu: Fraction, alpha: str, beta: Fraction | None = None, **options) -> Family:
    batch = {} if beta is None else {"batch_size": f"3*d^({beta})"}
    return family(
        sizes=(3, 6),
        vocab_size=f"2*d^({mu})",
        tokens=f"zipf:{alpha}",
        **{"optimizer": "sign", **batch, **options},
    )


def power(name: str, path: Family) -> Fraction:
    return quantity(name).asymptotic(path).exponent


# Powers


@pytest.mark.parametrize("init", ["mup", "sp"])
@pytest.mark.parametrize("optimizer", ["sign", "sgd"])
@pytest.mark.parametrize("layer", ["projection", "embedding"])
def test_the_power_along_the_width_is_the_derived_exponent(layer, optimizer, init):
    for beta in (None, Fraction(0), Fraction(1), Fraction(2)):
        exponent = derivations.exponent(layer, optimizer, mini_batch=beta is not None, init=init)
        for mu in POWERS:
            for alpha in ALPHAS:
                path = along_width(mu, alpha, beta, optimizer=optimizer, init=init)
                values = {
                    s.vocab_exponent: sp.Rational(mu),
                    s.zipf_exponent: sp.Rational(alpha),
                    s.batch_exponent: sp.Rational(beta or 0),
                }
                found = power(f"{layer}_step_rms", path)
                assert found == exponent.subs(values), (mu, alpha, beta)


def power_sum(exponent: float, count: Any) -> Any:
    """sum_{i <= count} i^-exponent for any count, by Hurwitz's zeta function."""
    return mpmath.zeta(exponent) - mpmath.zeta(exponent, count + 1)


@settings(max_examples=40, deadline=None)
@given(
    powers=st.tuples(*[st.sampled_from(POWERS)] * 3),
    alpha=st.sampled_from(["0", "0.2", "0.4", "0.7", "1.3", "2.2"]),
    optimizer=st.sampled_from(["sign", "sgd"]),
    mini_batch=st.booleans(),
)
def test_the_power_is_the_slope_of_the_formula_far_out(powers, alpha, optimizer, mini_batch):
    """Along any path, at sizes where the next order has died out."""
    width, vocabulary, batch = powers
    path = family(
        "outputs",  # the growing size, which a projection's update does not depend on
        (2, 4),
        width=f"2*n^({width})",
        vocab_size=f"2*n^({vocabulary})",
        tokens=f"zipf:{alpha}",
        optimizer=optimizer,
        **({"batch_size": f"2*n^({batch})"} if mini_batch else {}),
    )
    result = quantity("projection_step_rms").asymptotic(path)
    formula = sp.lambdify(
        (s.width, s.frequency_square_sum, s.frequency_cube_sum, s.batch_size),
        result.derivation.expression,
        "mpmath",
    )

    def log_at(size: Any) -> Any:
        d, m, b = (2 * mpmath.power(size, float(p)) for p in powers)
        total, a = power_sum(float(alpha), m), float(alpha)
        sums = (power_sum(k * a, m) / total**k for k in (2, 3))
        return mpmath.log(formula(d, *sums, b))

    with mpmath.workdps(120):
        low, high = mpmath.mpf(10) ** 40, mpmath.mpf(10) ** 44
        slope = (log_at(high) - log_at(low)) / mpmath.log(high / low)
    assert abs(float(slope) - float(result.exponent)) < 0.03


def test_learning_rates_and_the_warm_up_enter_by_their_powers():
    plain = along_width(Fraction(1), "0")
    paths = {"projection_lr": "d^(-1/2)", "embedding_lr": "0.1*d^(1/4)", "warmup_steps": "d"}
    assert power("projection_step_rms", plain) == Fraction(1, 2)
    assert power("projection_step_rms", along_width(Fraction(1), "0", **paths)) == -1
    assert power("embedding_step_rms", along_width(Fraction(1), "0", **paths)) == -Fraction(3, 4)


def test_many_outputs_slow_the_embedding_down_until_its_update_is_noise():
    """RMS^2 ~ d [1 + (2/pi)(d - 1)/n] sigma_W^2 with n = d^nu."""
    for nu, expected in (("1/2", "-1/4"), ("1", "-1/2"), ("3/2", "-1/2")):
        path = along_width(Fraction(1), "0", outputs=f"d^({nu})")
        assert power("embedding_step_rms", path) == Fraction(expected)
    with pytest.raises(Unavailable, match="depend on the projection"):
        power("embedding_step_rms", along_width(Fraction(1), "0", outputs="d^(3/2)", init="sp"))


def test_coherent_and_incoherent_part_and_alignment_have_their_regimes():
    """muP regime (m fixed): coherent, alignment of order one. LV regime (m = d^2): noise."""
    for mu, coherent, alignment in ((0, 1, 0), (1, "1/2", "-1/2"), (2, 0, "-1/2")):
        path = along_width(Fraction(mu), "0")
        assert power("coherent_rms", path) == Fraction(coherent)
        assert power("incoherent_rms", path) == Fraction(1, 2)
        assert power("alignment", path) == Fraction(alignment)


def test_a_loss_grows_where_an_update_outgrows_the_residual():
    assert power("loss", along_width(Fraction(2), "0")) == 1  # eta_W sqrt(d), squared
    tamed = along_width(Fraction(2), "0", projection_lr="d^(-1/2)")
    assert power("loss", tamed) == 0


def test_a_fitted_token_law_is_said_to_be_fitted(tmp_path):
    counts = tmp_path / "counts.txt"
    counts.write_text("\n".join(str(1e6 * rank**-0.6) for rank in range(1, 101)))
    path = family(sizes=(8, 16), vocab_size="2*d", tokens=f"counts:{counts}", optimizer="sign")
    result = quantity("projection_step_rms").asymptotic(path)
    assert (
        abs(
            float(result.exponent)
            - float(power("projection_step_rms", along_width(Fraction(1), "0.6")))
        )
        < 1e-3
    )
    assert any("fitted" in text for text in result.assumptions)


def test_a_moving_embedding_restores_the_alignment():
    """Third update, m = 4d: full power at a fixed eta_E, noise where eta_E falls like 1/sqrt(d)."""

    def later(embedding_lr: str | float) -> Family:
        return along_width(
            Fraction(1), "0", steps=3, projection_lr="d^(-2)", embedding_lr=embedding_lr
        )

    assert power("projection_step_rms", later(0.01)) == -2 + 1
    assert power("projection_step_rms", later("d^(-1/4)")) == -2 + Fraction(3, 4)
    assert power("projection_step_rms", later("d^(-1/2)")) == -2 + Fraction(1, 2)
    assert power("projection_step_rms", later("d^(-1)")) == -2 + Fraction(1, 2)
    with pytest.raises(Unavailable, match="keeps its initial entries"):
        power("projection_step_rms", along_width(Fraction(1), "0", steps=3))


# Formulas against networks

RATES = {"projection_lr": 0.02, "embedding_lr": 0.2}
CASES = {
    "zipf": {"tokens": "zipf:0.7", "optimizer": "sign", **RATES},
    "sp": {"init": "sp", "optimizer": "adam", "projection_lr": 0.02, "embedding_lr": 0.05},
    "outputs": {"outputs": 3, "tokens": "zipf:0.4", "optimizer": "sign", **RATES},
    "batch": {"batch_size": 40, "optimizer": "sign", **RATES},
    "sgd": {"tokens": "zipf:1", "optimizer": "momentum", "projection_lr": 1.0},
}
SIZES = {"narrow": (24, 48), "wide": (64, 96)}
SEEDS = 500


@cache
def trained(case: str, size: str) -> tuple[Setup, dict]:
    width, vocabulary = SIZES[size]
    setup = Setup(width=width, vocab_size=vocabulary, steps=2, **CASES[case])
    measurement = quantity("projection_step_rms").measurement
    assert measurement is not None
    return setup, dict(measurement.run(setup, np.arange(SEEDS), lambda part: None))


@pytest.mark.parametrize(
    ("case", "size"), [("zipf", "wide"), *((case, "narrow") for case in CASES)]
)
@pytest.mark.parametrize("name", [one.name for one in UPDATES] + ["incoherent_rms"])
def test_the_formula_of_an_update_is_what_networks_do(name, case, size):
    """With the residuals of the setup's own targets: nothing is assumed about their sizes."""
    setup, arrays = trained(case, size)
    if case == "sgd" and name == "incoherent_rms":
        pytest.skip("derived without self term")
    squares = quantity(name).sampled(setup, arrays).samples
    derived = quantity(name).derived(setup) ** 2
    bias = 2 / setup.width if case in ("sp", "outputs") else 0.5 / setup.width
    assert_mean(squares, derived, resolution=0.06, bias=bias)
    assert_rejected(squares, 1.5 * derived, resolution=0.06, bias=bias)


def test_equal_residuals_would_be_wrong_for_gaussian_targets():
    """Negative control: under a Zipf law the sizes of the head's residuals count."""
    setup, arrays = trained("zipf", "wide")
    unit = first_step("projection", "sign", setup.width, setup.law())
    equal = (setup.projection_lr * float(unit.rms)) ** 2
    assert_rejected(arrays["projection_step_rms"], equal, resolution=0.06)


def test_parts_of_an_update_and_its_alignment_are_what_networks_do():
    setup, arrays = trained("zipf", "wide")
    whole, coherent, incoherent, alignment = (
        quantity(name).derived(setup)
        for name in ("projection_step_rms", "coherent_rms", "incoherent_rms", "alignment")
    )
    assert np.isclose(coherent**2 + incoherent**2, whole**2, rtol=1e-12)
    assert_mean(
        quantity("coherent_rms").sampled(setup, arrays).samples, coherent**2, resolution=0.06
    )
    sampled = quantity("alignment").sampled(setup, arrays)
    assert np.all(sampled.samples[0] <= sampled.samples[1])  # Cauchy and Schwarz, every network
    assert abs(np.exp(sampled.log_value(sampled.samples)) - alignment) < 0.02 * alignment


def test_the_coherent_part_of_pure_noise_has_no_logarithm():
    setup, arrays = trained("zipf", "wide")
    noise = {**arrays, "projection_step_rms": 0.9 * arrays["incoherent_rms"]}
    sampled = quantity("coherent_rms").sampled(setup, noise)
    assert np.isnan(sampled.log_value(sampled.samples))


@pytest.mark.parametrize(("case", "size"), [("zipf", "wide"), ("sp", "narrow")])
def test_the_loss_after_one_update_is_that_of_networks(case, size):
    setup, arrays = trained(case, size)
    start = replace(setup, projection_lr=0.0, embedding_lr=0.0)
    derived = quantity("loss").derived(setup)
    assert_mean(arrays["loss"], derived, bias=2 / setup.width)
    assert abs(quantity("loss").derived(start) - derived) > 3 / setup.width * derived


def test_one_token_is_fully_aligned():
    """Its update is -eta sum |e_l|: mean square eta^2 d [1 + (2/pi)(d - 1)], alignment^2 2/pi."""
    setup = Setup(width=512, vocab_size=1, optimizer="sign", targets="sign", steps=2)
    square = quantity("projection_step_rms").derived(setup) ** 2 / setup.projection_lr**2
    assert np.isclose(square, 512 * (1 + 2 / np.pi * 511), rtol=1e-3)
    assert np.isclose(quantity("alignment").derived(setup) ** 2, 2 / np.pi, rtol=3e-3)


def test_later_updates_are_those_of_the_aged_formula():
    """Residuals of equal size: `aged_update`; and at no displacement the first update."""
    setup = Setup(
        width=200,
        vocab_size=800,
        optimizer="sign",
        targets="sign",
        steps=4,
        projection_lr=1e-6,
        embedding_lr=0.02,
    )
    aged = aged_update(200, token_law("uniform", 800), 0.04)
    step = quantity("projection_step_rms")
    assert np.isclose(step.derived(setup), 1e-6 * float(aged.rms), rtol=5e-3)
    still = replace(setup, embedding_lr=0.0)
    first = replace(still, steps=2)
    assert np.isclose(step.derived(still), step.derived(first), rtol=5e-3)
    assert step.derived(setup) > 1.05 * step.derived(still)
    update = quantity("embedding_update_rms")
    moved_once = replace(setup, steps=2)
    assert np.isclose(update.derived(setup), 3 * update.derived(moved_once), rtol=1e-9)


def test_the_mean_field_gives_the_first_update_at_any_width():
    """One compiled program for widths of 64 and of a hundred thousand."""
    path = family(sizes=(64, 100_000), vocab_size="min(4*d, 50000)", optimizer="sign")
    for name in ("projection_step_rms", "embedding_update_rms", "alignment"):
        for setup, value in zip(
            path.setups(), quantity(name).mean_field(path.setups()), strict=True
        ):
            derived = quantity(name).derived(setup)
            assert abs(value.value - derived) < 4 * value.error + 0.01 * derived


def test_a_hidden_matrix_of_an_mlp_moves_by_the_formula_for_uniform_tokens():
    setup = NetworkSetup(
        network="mlp",
        width=64,
        vocab_size=128,
        optimizer="sign",
        steps=2,
        hidden_lr=0.01,
        embedding_lr=0.01,
        activation="identity",
        depth=1,
    )
    step = quantity("hidden_step_rms")
    assert step.measurement is not None
    arrays = step.measurement.run(setup, np.arange(8), lambda part: None)
    sampled = step.sampled(setup, arrays)
    assert abs(float(sampled.log_value(sampled.samples)) - np.log(step.derived(setup))) < 0.03
    path = family(sizes=(64, 128), network="mlp", vocab_size="2*d^2", optimizer="sign")
    assert power("hidden_step_rms", path) == -Fraction(1, 2)  # muP's rate 1/d, noise sqrt(d)
    other = replace(setup, tokens="zipf:0.8")
    with pytest.raises(Unavailable, match="same size"):
        step.derived(other)


# The user's surface


def test_what_does_not_exist_is_refused():
    assert_refused("quantity", lambda: quantity("projection_rms"), "projection_step_rms")
    frozen = Setup(projection_lr=0.0)
    assert_refused("projection_lr", lambda: quantity("alignment").check(frozen), "must be positive")
    mlp = NetworkSetup(network="mlp", steps=3)
    assert_refused("network", lambda: quantity("coherent_rms").check(mlp), "must be linear")
    assert_refused("network", lambda: quantity("hidden_step_rms").check(Setup()), "mlp")
    assert_refused("steps", lambda: quantity("hidden_step_rms").check(mlp), "must be 1")


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("projection_step_rms", {"optimizer": "smoothed-sign"}, "smoothed-sign"),
        ("projection_step_rms", {"weight_decay": 0.1}, "weight decay"),
        ("projection_step_rms", {"init": "sp", "tokens": "zipf:1"}, "most frequent"),
        ("projection_update_rms", {"steps": 4}, "total of several"),
        ("embedding_step_rms", {"init": "sp", "outputs": 64}, "depend on the projection"),
        ("loss", {"outputs": 2}, "one output"),
    ],
)
def test_a_formula_that_does_not_hold_is_not_evaluated(name, options, reason):
    with pytest.raises(Unavailable, match=reason):
        quantity(name).derived(Setup(**{"steps": 2, "optimizer": "sign", **options}))
