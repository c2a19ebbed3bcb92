"""Negative controls: every assert of `helpers.py` can fail."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from helpers import (
    assert_close_curves,
    assert_conserved,
    assert_exponent,
    assert_mean,
    assert_refused,
    assert_rejected,
    assert_same_expression,
)

from dynsim import InputError


def test_assert_exponent():
    size = np.array([2.0, 4, 8, 16])
    assert_exponent(size, 3 * size**0.5, 0.5, 1e-9)
    with pytest.raises(AssertionError, match="exponent"):
        assert_exponent(size, 3 * size**0.5, 0.6, 0.05)


def test_assert_mean(random):
    samples = random.normal(1, 0.1, 1000)
    assert_mean(samples, 1)
    assert_mean(samples, 1.04, bias=0.04)
    assert_rejected(samples, 1.04)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(samples, 1.1)
    with pytest.raises(AssertionError, match="cannot resolve"):
        assert_mean(samples[:10], 1)
    with pytest.raises(pytest.fail.Exception):
        assert_rejected(samples, 1)


def test_assert_same_expression():
    x = sp.Symbol("x", positive=True)
    assert_same_expression((x + 1) ** 2, x**2 + 2 * x + 1)
    with pytest.raises(AssertionError, match="differ by"):
        assert_same_expression((x + 1) ** 2, x**2 + 1)


def test_assert_conserved():
    assert_conserved([[1, 2], [1, 2.001]], 1e-3)
    with pytest.raises(AssertionError, match="drifts"):
        assert_conserved([[1, 2], [1, 2.1]], 1e-3)


def test_assert_close_curves():
    assert_close_curves([1, 2], [1, 2 + 1e-9], 1e-8)
    with pytest.raises(AssertionError, match="differ"):
        assert_close_curves([1, 2], [1, 2.1], 1e-8)
    with pytest.raises(AssertionError, match="shapes"):
        assert_close_curves([1, 2], [1], 1e-8)


def test_assert_refused():
    def refuse():
        raise InputError("--width", -1, "must be positive")

    assert_refused("--width", refuse, "-1", "positive")
    with pytest.raises(AssertionError):
        assert_refused("--seeds", refuse)
    with pytest.raises(AssertionError, match="is not in"):
        assert_refused("--width", refuse, "negative")
    with pytest.raises(pytest.fail.Exception):
        assert_refused("--width", lambda: None)


def test_a_group_shares_a_worker(request):
    """Silently lost, every worker would measure the studies for itself."""
    if request.config.getoption("dist", "no") != "loadgroup":
        pytest.skip("one process")
    assert request.node.nodeid.endswith("@test_helpers")
