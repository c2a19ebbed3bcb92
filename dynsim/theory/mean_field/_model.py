"""The network that the solver solves, in numbers, from the description of an experiment."""

from __future__ import annotations

from typing import NamedTuple

from dynsim._errors import InputError, check_choice
from dynsim._network_setup import NetworkSetup
from dynsim._setup import LINEAR_TARGETS, Setup, check_covered

MAX_DEPTH = 8


class PerLayer(NamedTuple):
    """One number for each kind of layer."""

    embedding: float
    hidden: float
    projection: float


class Model(NamedTuple):
    """A network with `depth` hidden matrices, at one width.

    Weights of the function are `multipliers` times the trained ones, and start with standard
    deviations `stds`; learning rates are `rate_factors` times those of the description. Weight
    decay is multiplied by the learning rate, or `independent` of it. `optimizer` is entrywise;
    `muon` says whether hidden matrices have Muon instead. Norm gains have `gain_rate` times the
    embedding's learning rate.
    """

    depth: int
    residual: bool
    optimizer: str
    muon: bool
    stds: PerLayer
    multipliers: PerLayer
    rate_factors: PerLayer
    independent: bool
    activation: str = "identity"
    normalisation: str = "none"
    gain_rate: float = 0.0

    @property
    def linear(self) -> bool:
        """Whether outputs are linear in every layer's weights, but for the initial ones."""
        return self.activation == "identity" and self.normalisation == "none"


ONE = PerLayer(1.0, 1.0, 1.0)


def model_of(setup: object) -> Model:
    """The network that `setup` describes: linear, or an mlp.

    Raises `InputError` for a network that mean-field theory does not cover.
    """
    if not isinstance(setup, NetworkSetup) or setup.network == "linear":
        check_covered(setup, "mean-field theory")
        assert isinstance(setup, Setup)
        stds = PerLayer(1.0, 0.0, setup.projection_std)
        return Model(0, False, setup.optimizer, False, stds, ONE, ONE, False)
    check_mlp(setup)
    from dynsim._scales import scales  # which imports sympy, and only networks need

    prescribed = scales(setup)
    multiplier, factor, rate = (
        PerLayer(values.embedding, values.hidden, values.readout)
        for values in (prescribed.multiplier, prescribed.init_factor, prescribed.learning_rate)
    )
    standard = setup.width**-0.5
    stds = PerLayer(
        multiplier.embedding * factor.embedding,
        multiplier.hidden * factor.hidden * standard,
        multiplier.projection * factor.projection * standard,
    )
    return Model(
        setup.depth,
        setup.residual == "yes",
        setup.entrywise_optimizer,
        setup.optimizer == "muon",
        stds,
        multiplier,
        rate,
        setup.decay == "independent",
        setup.activation,
        setup.normalisation,
        setup.vector_ratio * prescribed.learning_rate.vector / rate.embedding,
    )


def check_mlp(setup: NetworkSetup) -> None:
    """Raises `InputError` unless the network is an mlp of the kind that theory covers."""
    if setup.network != "mlp":
        raise InputError(
            "network",
            setup.network,
            "must be linear or mlp, the networks that mean-field theory covers (train covers "
            "transformer)",
        )
    if setup.depth > MAX_DEPTH:
        allowed = f"must be at most {MAX_DEPTH} in mean-field theory (train covers more)"
        raise InputError("depth", setup.depth, allowed)
    if setup.tied:
        raise InputError("tied", setup.tied, "must be false in mean-field theory")
    if setup.precision == "bfloat16":
        raise InputError("precision", setup.precision, "must be float32 or float64 in theory")
    check_choice("targets", setup.targets, LINEAR_TARGETS)
