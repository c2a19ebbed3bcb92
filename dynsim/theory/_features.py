"""Numbers that the first step of a matrix needs of the features it reads, by quadrature."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
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
class NeuronMoments:
    """Features' moments over tokens, in units of their root mean square, neuron by neuron.

    A neuron is described by the part of its pre-activation that all tokens share. `weights` are
    those of the mean over it, `excess` is xi of `derivations.residual_excess`.
    """

    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    cube: NDArray[np.float64]
    weights: NDArray[np.float64]
    excess: float


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
    chance: float
    fourth_moment: float
    neurons: NeuronMoments = field(repr=False, compare=False)

    @cached_property
    def common(self) -> float:
        """a: the agreement of two neurons whatever the token."""
        weights = self.neurons.weights
        pairs = np.asarray(evaluate(derivations.pair_agreement(), self._of_pairs()))
        return float(weights @ pairs @ weights)

    @cached_property
    def own(self) -> float:
        """b: what a token's own share of the gradient adds to it."""
        weights, cubes = self.neurons.weights, self.neurons.cube
        values = self._of_pairs() | {
            derivations.neuron_cube: cubes[:, None],
            derivations.other_cube: cubes,
        }
        slopes = np.asarray(evaluate(derivations.pair_agreement_slope(), values))
        return float(weights @ slopes @ weights)

    @cached_property
    def signal(self) -> float:
        """q_1: the mean of a token's feature times the sign of the gradient."""
        neurons = self.neurons
        values: dict[Any, Any] = {
            derivations.mean_excess: neurons.excess,
            derivations.neuron_mean: neurons.mean,
            derivations.neuron_square: neurons.square,
        }
        return float(neurons.weights @ np.asarray(evaluate(derivations.neuron_signal(), values)))

    def _of_pairs(self) -> dict[Any, Any]:
        neurons = self.neurons
        return {
            derivations.mean_excess: neurons.excess,
            derivations.neuron_mean: neurons.mean[:, None],
            derivations.neuron_square: neurons.square[:, None],
            derivations.other_mean: neurons.mean,
            derivations.other_square: neurons.square,
        }


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
    preactivations, common_weights, own_weights = _fields(shared)
    slope = derivations.activation_slope(activation)
    values = np.asarray(evaluate(slope, {derivations.preactivation: preactivations}))
    values = np.broadcast_to(values, preactivations.shape)
    both = common_weights @ np.square(values @ own_weights)
    return float(both / (common_weights @ (np.square(values) @ own_weights)))


def _fields(
    shared: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pre-activations, a row for each common part and a column for each own part, and weights."""
    common, common_weights = normal_midpoints(COMMON_NODES) if shared else (np.zeros(1), np.ones(1))
    own, own_weights = normal_midpoints(OWN_NODES)
    preactivations = np.sqrt(shared) * common[:, None] + np.sqrt(1 - shared) * own
    return preactivations, common_weights, own_weights


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
    preactivations, common_weights, own_weights = _fields(shared)
    z = activation_values(activation, preactivations)
    mean, square, cube, fourth = (np.power(z, power) @ own_weights for power in (1, 2, 3, 4))
    power = float(common_weights @ square)
    mean, square, cube = mean / power**0.5, square / power, cube / power**1.5
    overlap = float(common_weights @ np.square(mean))
    if overlap < ROUNDING:
        overlap, mean = 0.0, np.zeros_like(mean)
    return FeatureStatistics(
        overlap=overlap,
        root_mean_square=power**0.5,
        chance=0.0 if overlap else chance,
        fourth_moment=float(common_weights @ fourth) / power**2,
        neurons=NeuronMoments(mean, square, cube, common_weights, excess),
    )
