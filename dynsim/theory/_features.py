"""Numbers that the first step of a matrix needs of the features it reads, by quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import derivations
from dynsim._compiled import evaluate

MAX_LEVEL = 64
COMMON_NODES, OWN_NODES = 121, 4800
REACH = 9.0  # standard deviations of a Gaussian that are summed over
ROUNDING = 1e-12  # an overlap below it is zero


@dataclass(frozen=True)
class FeatureStatistics:
    """What two tokens and two neurons have in common in the features of one level.

    - `overlap`: rho, the mean of z_i z_j over that of z_i^2, of two tokens.
    - `root_mean_square`: of the features, for pre-activations of unit variance.
    - `common`, `own`: a and b of `derivations.feature_update_second_moment`.
    - `chance`: chi, for features without a mean.
    - `fourth_moment`, `signal`: kappa_4 and q_1 of the same.
    """

    overlap: float
    root_mean_square: float
    common: float
    own: float
    chance: float
    fourth_moment: float
    signal: float


def normal_midpoints(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Midpoints, none of them zero, and weights for the mean over a standard normal."""
    edges = np.linspace(-REACH, REACH, nodes + 1)
    points = (edges[1:] + edges[:-1]) / 2
    weights = np.exp(-np.square(points) / 2)
    return points, weights / weights.sum()


def activation_values(
    activation: derivations.FeatureActivation, at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """phi at an array of pre-activations."""
    phi = derivations.activation_function(activation)
    return np.asarray(evaluate(phi, {derivations.preactivation: at}))


@lru_cache(maxsize=256)
def feature_statistics(
    activation: derivations.FeatureActivation, level: int, excess: float = 0.0
) -> FeatureStatistics:
    """Of the features behind `level` hidden matrices; level 0 is the embedding itself.

    `excess` is xi of `derivations.residual_excess`, 0 for a mean residual by chance.

    A neuron's pre-activation has a part that all tokens share, of variance rho of the level below,
    and a part of each token's own. Mean, square and cube over the latter depend on the former.
    """
    if level == 0:
        return _statistics("identity", 0.0, 0.0, 0.0)
    below = feature_statistics(activation, level - 1)
    chance = 0.0
    if below.overlap == 0:
        chance = _chance(activation, below.chance)
    return _statistics(activation, below.overlap, chance, excess)


def slope_coherence(activation: derivations.FeatureActivation, shared: float) -> float:
    """phi_1 of `derivations.residual_excess`, of pre-activations that overlap by `shared`."""
    field, common_weights, own_weights = _fields(shared)
    slope = derivations.activation_slope(activation)
    values = np.asarray(evaluate(slope, {derivations.preactivation: field}))
    values = np.broadcast_to(values, field.shape)
    both = common_weights @ np.square(values @ own_weights)
    return float(both / (common_weights @ (np.square(values) @ own_weights)))


def _fields(
    shared: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pre-activations, a row for each common part and a column for each own part, and weights."""
    common, common_weights = normal_midpoints(COMMON_NODES) if shared else (np.zeros(1), np.ones(1))
    own, own_weights = normal_midpoints(OWN_NODES)
    field = np.sqrt(shared) * common[:, None] + np.sqrt(1 - shared) * own
    return field, common_weights, own_weights


def _chance(activation: derivations.FeatureActivation, below: float) -> float:
    points, weights = normal_midpoints(OWN_NODES)
    values = activation_values(activation, points)
    share = float(weights @ (values * points)) ** 2 / float(weights @ np.square(values))
    chance = evaluate(
        derivations.feature_chance_agreement(),
        {derivations.feature_slope_share: share, derivations.chance_agreement: below},
    )
    return float(chance)


def _statistics(
    activation: derivations.FeatureActivation, shared: float, chance: float, excess: float
) -> FeatureStatistics:
    """Of features whose pre-activations overlap by `shared` between two tokens."""
    field, common_weights, own_weights = _fields(shared)
    z = activation_values(activation, field)
    mean, square, cube, fourth = (np.power(z, power) @ own_weights for power in (1, 2, 3, 4))
    power = float(common_weights @ square)
    mean, square, cube = mean / power**0.5, square / power, cube / power**1.5
    overlap = float(common_weights @ np.square(mean))
    if overlap < ROUNDING:
        overlap, mean = 0.0, np.zeros_like(mean)
    values: dict[Any, Any] = {
        derivations.mean_excess: excess,
        derivations.neuron_mean: mean[:, None],
        derivations.neuron_square: square[:, None],
        derivations.neuron_cube: cube[:, None],
        derivations.other_mean: mean,
        derivations.other_square: square,
        derivations.other_cube: cube,
    }
    of_pairs = {name: values[name] for name in values if name not in _CUBES}
    agreement = np.asarray(evaluate(derivations.pair_agreement(), of_pairs))
    slope = np.asarray(evaluate(derivations.pair_agreement_slope(), values))
    of_one = {
        derivations.mean_excess: excess,
        derivations.neuron_mean: mean,
        derivations.neuron_square: square,
    }
    signal = np.asarray(evaluate(derivations.neuron_signal(), of_one))
    return FeatureStatistics(
        overlap=overlap,
        root_mean_square=power**0.5,
        common=float(common_weights @ agreement @ common_weights),
        own=float(common_weights @ slope @ common_weights),
        chance=0.0 if overlap else chance,
        fourth_moment=float(common_weights @ fourth) / power**2,
        signal=float(common_weights @ signal),
    )


_CUBES = (derivations.neuron_cube, derivations.other_cube)
