"""What flows, in numbers: initial sizes and learning rates of every layer, from a description."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dynsim._errors import InputError, check_choice, check_integer, check_rate
from dynsim._network_setup import NetworkSetup
from dynsim._scales import scales
from dynsim._setup import LINEAR_TARGETS, Setup, check_covered

MAX_DEPTH = 8


class Sizes(NamedTuple):
    """Standard deviations of the initial entries."""

    embedding: float
    hidden: float
    projection: float


class Rates(NamedTuple):
    """Learning rates, those of the hidden layers one by one."""

    embedding: float
    hidden: tuple[float, ...]
    projection: float


class FlowNetwork(NamedTuple):
    """A linear network with `depth` hidden layers, at one width.

    Matrices are those of the function, multipliers included: a matrix c w whose trained part w
    has the learning rate eta flows with the rate c^2 eta.
    """

    depth: int
    residual: bool
    stds: Sizes
    rates: Rates


def flow_network(setup: object, hidden_lrs: ArrayLike | None = None) -> FlowNetwork:
    """The network that `setup` describes; `hidden_lrs` at its base width, one a hidden layer.

    Raises `InputError` for one whose flow is not known, and for rates of layers that it has not.
    """
    if not isinstance(setup, NetworkSetup) or setup.network == "linear":
        check_covered(setup, "the theory of flows")
        assert isinstance(setup, Setup)
        if hidden_lrs is not None:
            raise InputError("hidden_lrs", "given", "must be left out where no layer is hidden")
        stds = Sizes(1.0, 0.0, setup.projection_std)
        return FlowNetwork(0, False, stds, Rates(setup.embedding_lr, (), setup.projection_lr))
    check_deep_linear(setup)
    prescribed = scales(setup)
    multiplier, factor = prescribed.multiplier, prescribed.init_factor
    standard = setup.width**-0.5
    stds = Sizes(
        multiplier.embedding * factor.embedding,
        multiplier.hidden * factor.hidden * standard,
        multiplier.readout * factor.readout * standard,
    )
    hidden = _one_each(hidden_lrs, setup)
    scale = prescribed.learning_rate
    rates = Rates(
        multiplier.embedding**2 * scale.embedding * setup.embedding_lr,
        tuple(multiplier.hidden**2 * scale.hidden * rate for rate in hidden),
        multiplier.readout**2 * scale.readout * setup.readout_rate(setup.hidden_lr),
    )
    return FlowNetwork(setup.depth, setup.residual == "yes", stds, rates)


def check_deep_linear(setup: NetworkSetup) -> None:
    """Raises `InputError` unless the network is an mlp that is linear in the embedding."""
    remedy = "for a flow of `network` mlp, which is known for linear hidden layers"
    covered = {"activation": "identity", "normalisation": "none"}
    if setup.network != "mlp":
        allowed = "must be linear or mlp, the networks whose flow is known"
        raise InputError("network", setup.network, allowed)
    for field, value in covered.items():
        if getattr(setup, field) != value:
            raise InputError(field, getattr(setup, field), f"must be {value} {remedy}")
    check_integer("depth", setup.depth, 1, MAX_DEPTH)
    if setup.tied:
        raise InputError("tied", setup.tied, "must be false for a flow")
    if setup.precision == "bfloat16":
        allowed = "must be float32 or float64 for a flow, which is solved in float64"
        raise InputError("precision", setup.precision, allowed)
    check_choice("targets", setup.targets, LINEAR_TARGETS)


def _one_each(hidden_lrs: ArrayLike | None, setup: NetworkSetup) -> tuple[float, ...]:
    if hidden_lrs is None:
        return (setup.hidden_lr,) * setup.depth
    given = np.atleast_1d(np.asarray(hidden_lrs, dtype=np.float64))
    if given.shape != (setup.depth,):
        allowed = f"must have one rate for each of {setup.depth} hidden layers"
        raise InputError("hidden_lrs", f"of shape {given.shape}", allowed)
    for rate in given:
        check_rate("hidden_lrs", float(rate))
    return tuple(map(float, given))
