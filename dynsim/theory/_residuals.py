"""The alignment of tokens whose backpropagated residuals differ in size, by quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import rgamma

import derivations
from dynsim._compiled import evaluate
from dynsim.tokens._laws import TokenLaw

from ._features import normal_midpoints

_LOG_ARGUMENTS = np.linspace(-80.0, 80.0, 8001)  # of the transform of residuals
_LOG_STEP = 0.05  # of the integral over the logarithm of t
_BELOW, _BEYOND = 35.0, 75.0  # where that integral begins and ends, from the largest and smallest
_EXACT_RANKS, _GROUPS = 1000, 1000
_SLOPE_NODES = 1200  # at which the slope of the activation above is taken
_AT_ONCE = 2_000_000  # numbers of one piece of that integral
_HALF_POWER = float(rgamma(0.5))
"""what turns the integral of t^(-1/2) exp(-t S) over t into S^(-1/2)"""


@dataclass(frozen=True)
class ResidualAlignment:
    """A token law's alignment under residuals of unequal size.

    - `square`: C, the mean of c_i^2 over tokens by frequency, or that of one rank.
    - `signal`: the same mean of c_i for a token whose backpropagated residual is one.
    """

    square: float
    signal: float


def residual_alignment(
    law: TokenLaw,
    residuals: derivations.ResidualLaw,
    above: derivations.FeatureActivation,
    rank: int | None = None,
) -> ResidualAlignment:
    """Mean squared alignment where residuals have unequal sizes, in full batch.

    `above` is the activation that reads the matrix, whose slope multiplies the residual of every
    token and neuron (ReLU: half of them zero).
    """
    table = _transform(residuals, above)
    frequency, count = _grouped(law)
    looked_at = frequency if rank is None else law.frequencies[rank - 1 : rank]
    weight = count * frequency if rank is None else np.ones(1)
    low = -2 * np.log(frequency.max()) - _BELOW
    high = -2 * np.log(frequency.min()) + _BEYOND
    log_t = np.arange(low, high, _LOG_STEP)
    square = signal = 0.0
    for some in np.array_split(log_t, max(1, len(log_t) * len(frequency) // _AT_ONCE)):
        arguments = some[:, None] + 2 * np.log(frequency)
        everyone = _read(table.log_value, arguments) @ count
        own = some[:, None] + 2 * np.log(looked_at)
        others = everyone[:, None] - _read(table.log_value, own)
        # dt = t d(ln t), and p^2 t = exp(own)
        square += float((np.exp(others + _read(table.log_slope, own) + own) @ weight).sum())
        root = np.exp(others - np.exp(own) + own / 2)
        signal += float((root @ weight).sum())
    return ResidualAlignment(square * _LOG_STEP, signal * _LOG_STEP * _HALF_POWER)


def _grouped(law: TokenLaw) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies and how many tokens have them; rare tokens of nearly equal frequency are one."""
    frequency, count = np.unique(law.frequencies, return_counts=True)
    frequency, count = frequency[::-1], count[::-1].astype(np.float64)
    positive = frequency > 0
    frequency, count = frequency[positive], count[positive]
    if len(frequency) <= _EXACT_RANKS + _GROUPS:
        return frequency, count
    inner = np.geomspace(_EXACT_RANKS, len(frequency), _GROUPS + 1).astype(int)[:-1]
    starts = np.concatenate([np.arange(_EXACT_RANKS), np.unique(inner)])
    counts = np.add.reduceat(count, starts)
    return np.add.reduceat(count * frequency, starts) / counts, counts


def _read(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.interp(at, _LOG_ARGUMENTS, table)


class _Transform(NamedTuple):
    """ln L and ln K, K = -L', at `_LOG_ARGUMENTS`."""

    log_value: NDArray[np.float64]
    log_slope: NDArray[np.float64]


@lru_cache(maxsize=32)
def _transform(
    residuals: derivations.ResidualLaw, above: derivations.FeatureActivation
) -> _Transform:
    """Of residuals times slopes of the activation above, of mean square one."""
    points, weights = normal_midpoints(_SLOPE_NODES)
    slope = evaluate(derivations.activation_slope(above), {derivations.preactivation: points})
    size = np.square(np.broadcast_to(np.asarray(slope), points.shape))
    size = size / (weights @ size)
    transform = derivations.residual_transform(residuals)
    falling = derivations.residual_transform_slope(residuals)
    values, slopes = [], []
    for some in np.array_split(_LOG_ARGUMENTS, 8):
        at = {derivations.transform_argument: np.exp(some)[:, None] * size}
        values.append(np.asarray(evaluate(transform, at)) @ weights)
        slopes.append((size * np.asarray(evaluate(falling, at))) @ weights)
    tiny = np.finfo(np.float64).tiny
    return _Transform(*(np.log(np.concatenate(one).clip(tiny)) for one in (values, slopes)))
