"""Losses and times of one-hot tokens: limits, the flow, and where the phase decides."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_exponent, assert_refused

from dynsim import Setup, gradient_flow, token_law
from dynsim.theory import (
    one_hot_flow_loss,
    one_hot_gradient_loss,
    one_hot_sign_loss,
    one_hot_steps,
)
from dynsim.theory._one_hot import steps_below

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZES = (2048, 32768)


def steps(alpha, optimizer, **options):
    return [one_hot_steps(m, alpha, optimizer, **options) for m in SIZES]


def test_infinite_width_with_a_frozen_readout_is_one_hot():
    """`dynsim flow --limit infinite --init sp --projection-lr 0`: the closed form to 1e-12."""
    m, times = 16, np.linspace(0, 30, 7)
    p = token_law("zipf:1", m).frequencies
    setup = Setup(
        width=64,
        vocab_size=m,
        tokens="zipf:1",
        targets="sign",
        optimizer="sgd",
        init="sp",
        embedding_lr=1 / p[0],
        projection_lr=0.0,
    )
    flow = gradient_flow(
        setup, times, limit="infinite", nodes=m, tolerance=1e-13, error_estimate=False
    )
    closed = one_hot_flow_loss(p, 1 / p[0], times)
    np.testing.assert_allclose(flow.loss / flow.loss[0], closed, rtol=0, atol=3e-12)


def test_the_largest_rate_solves_the_first_token_at_once():
    p = token_law("zipf:1", 10).frequencies
    assert one_hot_gradient_loss(p, [0, 1]) == pytest.approx(
        [1, np.sum(p[1:] * (1 - p[1:] / p[0]) ** 2)]
    )
    uniform = token_law("uniform", 10).frequencies
    assert one_hot_gradient_loss(uniform, 1) == pytest.approx(0)


@pytest.mark.parametrize(("alpha", "power"), [(0.5, 0.5), (0.75, 0.75), (2.0, 0.0)])
def test_gradient_descent_grows_with_alpha_below_one(alpha, power):
    assert_exponent(SIZES, steps(alpha, "sgd"), power, 0.02)


def test_gradient_descent_under_zipfs_law_is_one_less_epsilon():
    """The local power is 1 - epsilon e^(2 t/m), which comes up to 1 - epsilon."""
    m = (10_000, 12_000)
    found = [one_hot_steps(size, 1.0, "sgd", 0.1) for size in m]
    local = 1 - 0.1 * np.exp(2 * found[0] / m[0])
    assert_exponent(m, found, local, 0.003)
    assert local < 0.9


@pytest.mark.parametrize(
    ("alpha", "power", "tolerance"), [(0.25, 0.0, 0.06), (1.0, 0.5, 0.03), (2.0, 0.5, 0.03)]
)
def test_sign_descent_grows_with_the_root_above_one_half(alpha, power, tolerance):
    assert_exponent(SIZES, steps(alpha, "sign", start=0.2), power, tolerance)


def test_even_steps_from_zero_need_no_root():
    assert_exponent(SIZES, steps(1.0, "sign", even_steps=True), 0.0, 0.01)
    assert_exponent(SIZES, steps(1.0, "sign"), 0.5, 0.05)


def test_equal_targets_are_reached_exactly():
    targets = np.full(8, 0.5)
    assert one_hot_sign_loss(targets, 0.125, 4) == 0
    assert one_hot_sign_loss(targets, 0.25, 1) == pytest.approx(0.25)


def test_steps_are_interpolated_in_logarithms():
    assert steps_below(0.01, lambda t: 1 / t**1.5) == pytest.approx(0.01 ** (-1 / 1.5))
    assert steps_below(0.5, lambda t: 0.25) == 2


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("vocab_size", (1, 1.0, "sgd")),
        ("zipf_exponent", (10, -1.0, "sgd")),
        ("optimizer", (10, 1.0, "adam")),
        ("relative_loss", (10, 1.0, "sgd", 1.0)),
    ],
)
def test_bad_values_are_refused(field, arguments):
    assert_refused(field, lambda: one_hot_steps(*arguments))
