"""Sums over the tokens of many laws at once: sum_{i <= m} i^-s for arrays of s and m."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

HEAD = 32  # terms that are added one by one
# B_2k / (2k)! of the Euler-Maclaurin formula.
CORRECTIONS = tuple(
    bernoulli / math.factorial(2 * k)
    for k, bernoulli in enumerate((1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66), start=1)
)


def zipf_sum(exponent: ArrayLike, vocab_size: ArrayLike) -> NDArray[np.float64]:
    """H_s(m) = sum_{i <= m} i^-s for s >= 0, to about twelve digits.

    The first terms are added, the others follow from the Euler-Maclaurin formula, so that the cost
    does not depend on m. Between two integers m it is continuous.
    """
    s, m = np.broadcast_arrays(
        np.asarray(exponent, dtype=np.float64), np.asarray(vocab_size, dtype=np.float64)
    )
    ranks = np.arange(1, HEAD, dtype=np.float64)
    counted = np.clip(m[..., None] - ranks + 1, 0, 1)  # 1 up to m, the rest of m beyond it
    head = np.sum(counted * ranks ** -s[..., None], axis=-1)
    last = np.maximum(m, HEAD)
    tail = _integral(s, last) + (HEAD**-s + last**-s) / 2
    factor = s
    for k, correction in enumerate(CORRECTIONS, start=1):
        power = -s - 2 * k + 1
        tail = tail + correction * factor * (float(HEAD) ** power - last**power)
        factor = factor * (s + 2 * k - 1) * (s + 2 * k)
    reached = np.clip(m - (HEAD - 1), 0, 1)
    return head + np.where(m >= HEAD, tail, reached * HEAD**-s)


def _integral(s: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
    """The integral of x^-s from HEAD to `last`; the logarithm at s = 1."""
    length, power = np.log(last / HEAD), 1 - s
    small = np.abs(power) < 1e-12
    safe = np.where(small, 1.0, power)
    return HEAD**power * np.where(small, length, np.expm1(safe * length) / safe)
