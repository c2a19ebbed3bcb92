"""A parametrization at one width in numbers: multipliers, initial sizes, learning rates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import cast

import derivations
from derivations import NetworkLayer, Parametrization

from ._layers import LayerValues
from ._network_setup import NetworkFamily, NetworkSetup


@dataclass(frozen=True)
class Scales:
    """What a parametrization prescribes at a width, layer by layer.

    With x the exponents of width: a layer computes (multiplier) w z, where the trained weight w
    starts with (init_factor) times SP's standard deviation and has the learning rate
    (learning_rate) times the one given.

    - `multiplier`: (d/d_0)^(multiplier exponent), d_0 the base width.
    - `init_factor`: (d/d_0)^(weight exponent - SP's) / multiplier.
    - `learning_rate`: (d/d_0)^(LR exponent).

    A tied readout has the embedding's weight and learning rate; its multiplier is what gives its
    entries the readout's initial size.
    """

    multiplier: LayerValues
    init_factor: LayerValues
    learning_rate: LayerValues


def training_optimizer(setup: NetworkFamily) -> derivations.TrainingOptimizer:
    """The optimizer as the stability program names it, which does not smooth the sign.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import training_optimizer
    >>> training_optimizer(NetworkSetup(optimizer="smoothed-sign", network="mlp"))
    'sign'
    """
    if setup.optimizer == "smoothed-sign":
        return "sign"
    return cast(derivations.TrainingOptimizer, setup.optimizer)  # a family refuses all others


@lru_cache(maxsize=1024)
def resolved_parametrization(setup: NetworkSetup) -> Parametrization:
    """The setup's parametrization, every learning-rate exponent set.

    `lr_exponents` and `init_exponents` where they are written; else what the parametrization
    itself prescribes, for the entrywise normalised optimizers, and the largest stable exponents at
    full alignment (`derivations.solve_stability`).
    """
    named = derivations.parametrization(setup.parametrization)
    prescribes = training_optimizer(setup) in derivations.ENTRYWISE_NORMALISED
    free = replace(
        named,
        **{
            name: layer if prescribes else replace(layer, lr=None)
            for name, layer in named.layers.items()
        },
    )
    solved = derivations.solve_stability(free, training_optimizer(setup)).parametrization
    layers = dict(solved.layers)
    if (stds := setup.written_init_exponents) is not None:
        for name, std in zip(derivations.NETWORK_LAYERS, stds, strict=True):
            layers[name] = replace(layers[name], init_std=std - layers[name].multiplier)
    if (rates := setup.written_lr_exponents) is not None:
        for name, rate in zip(derivations.NETWORK_LAYERS, rates, strict=False):
            layers[name] = replace(layers[name], lr=rate)
    return replace(solved, **layers)


def vector_exponent(setup: NetworkSetup, resolved: Parametrization) -> Fraction:
    """LR exponent of norm gains: that of an embedding without multiplier (Yang et al. 2022)."""
    written = setup.written_lr_exponents
    if written is not None and len(written) == 4:
        return written[3]
    return resolved.with_multipliers(training_optimizer(setup)).embedding.lr or Fraction(0)


def scales(setup: NetworkSetup) -> Scales:
    """The numbers of `setup.parametrization` at `setup.width`.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import scales
    >>> scales(NetworkSetup(network="mlp", width=512, base_width=128)).learning_rate.hidden
    0.25
    """
    growth = setup.width / setup.base_width
    standard = derivations.parametrization("sp")
    resolved = resolved_parametrization(setup)

    def power(exponent: Fraction | None) -> float:
        return growth ** float(exponent or 0)

    def relative_std(name: NetworkLayer) -> Fraction:
        return resolved.layer(name).weight_std - standard.layer(name).weight_std

    multiplier = {name: power(layer.multiplier) for name, layer in resolved.layers.items()}
    weight = {name: power(relative_std(name)) for name in resolved.layers}
    init = {name: weight[name] / multiplier[name] for name in resolved.layers}
    rate = {name: power(layer.lr) for name, layer in resolved.layers.items()}
    if setup.tied:
        multiplier["readout"] = weight["readout"] * setup.width**-0.5 / init["embedding"]
        init["readout"], rate["readout"] = init["embedding"], rate["embedding"]
    return Scales(
        LayerValues(**multiplier, vector=1.0),
        LayerValues(**init, vector=1.0),
        LayerValues(**rate, vector=power(vector_exponent(setup, resolved))),
    )


def learning_rate_factors(setup: NetworkSetup) -> LayerValues:
    """Learning rates at `setup.width` over those at the base width, by label.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import learning_rate_factors
    >>> factors = learning_rate_factors(
    ...     NetworkSetup(network="mlp", width=512, base_width=128, optimizer="adam")
    ... )
    >>> factors.embedding, factors.hidden
    (0.5, 0.25)
    """
    return scales(setup).learning_rate


def grid_factors(setup: NetworkSetup) -> tuple[float, float]:
    """The same for the two axes of a grid: the embedding, and hidden layers or the projection.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import grid_factors
    >>> grid_factors(NetworkSetup(network="mlp", width=512, base_width=128, optimizer="adam"))
    (0.5, 0.25)
    """
    factors = learning_rate_factors(setup)
    return factors.embedding, factors.readout if setup.network == "linear" else factors.hidden
