"""What the tests assert, in the words of the field. `test_helpers.py` shows each one can fail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
import sympy as sp
from numpy.typing import ArrayLike

from dynsim import InputError
from experiments.output import flag


@contextlib.contextmanager
def without_64_bit_types() -> Iterator[None]:
    """As of a user who has not asked for them."""
    jax.config.update("jax_enable_x64", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", True)


def exponent_of(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of log y on log x."""
    slope, _ = np.polyfit(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)), 1)
    return float(slope)


def assert_exponent(x: ArrayLike, y: ArrayLike, expected: float, tolerance: float) -> None:
    """y grows like x^expected, within the tolerance on the exponent."""
    slope = exponent_of(x, y)
    assert abs(slope - expected) <= tolerance, f"exponent {slope:.4f}, not {expected} ± {tolerance}"


def assert_mean(
    samples: ArrayLike,
    expected: float,
    *,
    sigmas: float = 4.0,
    resolution: float = 0.02,
    bias: float = 0.0,
) -> None:
    """The samples' mean is `expected` within `sigmas` Monte-Carlo standard errors.

    `bias` is the relative error that the formula itself admits to. The standard error must be
    below `resolution` times the expected value: a sample too small to reject is not a witness.
    """
    values = np.asarray(samples, float)
    error = values.std(ddof=1) / np.sqrt(len(values))
    scale = abs(expected)
    assert error <= resolution * scale, f"standard error {error:.3g} cannot resolve {expected:.3g}"
    gap = abs(values.mean() - expected)
    allowed = sigmas * error + bias * scale
    assert gap <= allowed, (
        f"mean {values.mean():.5g}, not {expected:.5g}: off by {gap / error:.1f} standard errors"
    )


def assert_rejected(samples: ArrayLike, wrong: float, **options: float) -> None:
    """The negative control of `assert_mean`: the same samples refute a wrong value."""
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(samples, wrong, **options)


def assert_same_expression(left: sp.Expr, right: sp.Expr) -> None:
    """Two sympy expressions are equal, by simplification of their difference."""
    gap = sp.simplify(sp.expand(sp.simplify(left) - sp.simplify(right)))
    assert gap == 0, f"{left} is not {right}; they differ by {gap}"


def assert_conserved(values: ArrayLike, tolerance: float) -> None:
    """An array-valued quantity stays at its first value, relative to that value's size."""
    path = np.asarray(values, float)
    drift = np.max(np.abs(path - path[0])) / np.max(np.abs(path[0]))
    assert drift <= tolerance, f"drifts by {drift:.3g} of its size"


def assert_close_curves(left: ArrayLike, right: ArrayLike, relative: float) -> None:
    """Two curves agree point by point, relative to the second."""
    a, b = np.asarray(left, float), np.asarray(right, float)
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    gap = np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-300))
    assert gap <= relative, f"curves differ by up to {gap:.3g}"


def assert_refused(option: str, call: Callable[[], Any], *fragments: str) -> None:
    """The call raises `InputError`: one line that begins with the option, holding fragments."""
    with pytest.raises(InputError) as caught:
        call()
    message = caught.value.written(flag)
    assert message.startswith(flag(option) + " "), message
    assert "\n" not in message, message
    for fragment in fragments:
        assert fragment in message, f"{fragment!r} is not in {message!r}"


def refusal(call: Callable[[], Any]) -> InputError | None:
    """The `InputError` that the call ends in, None where it ends well; others are raised."""
    try:
        call()
    except InputError as error:
        return error
    return None
