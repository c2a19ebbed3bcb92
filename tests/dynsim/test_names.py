"""Paths as mathematics."""

from __future__ import annotations

import pytest

from dynsim._names import latex_path


@pytest.mark.parametrize(
    ("path", "mathematics"),
    [
        ("d^2/8", "d^{2}/8"),  # the power is 2, as the parser reads it
        ("d^1.5/8", "d^{1.5}/8"),
        ("d^(3/2)/8", "d^{3/2}/8"),
        ("0.03*d^(-1/2)", r"0.03\,d^{-1/2}"),
        ("d**0.7", "d^{0.7}"),
        ("d*16", r"d \cdot 16"),
        ("min(d^2/8, 50000)", r"\min(d^{2}/8, 50000)"),
        ("sqrt(d)/2", r"\sqrt{d}/2"),
        ("1e-05", "10^{-5}"),  # no difference of 1e and 5
        ("epsilon = 1e-12*d", r"epsilon = 10^{-12}\,d"),
        ("2.5e6", r"2.5 \cdot 10^{6}"),
    ],
)
def test_a_path_as_mathematics(path, mathematics):
    assert latex_path(path) == mathematics
