"""The update of the first hidden matrix of a toy network, which reads the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim._errors import InputError
from dynsim._network_setup import NetworkSetup
from dynsim._scales import resolved_parametrization, scales
from dynsim._setup import Setup
from dynsim.scaling._family import Family
from dynsim.scaling._quantity import (
    AnySetup,
    Asymptotic,
    Progress,
    Quantity,
    Sampled,
    Unavailable,
    Value,
)
from dynsim.theory._first_step import first_step

from . import _first_step as first
from ._measurements import TRAINING
from ._orders import family_orders
from ._updates import What, check_network_step, first_hidden_matrix, is_first, log_rms

DERIVED_OPTIMIZERS = ("sign", "adam", "adamw")
LARGEST_MOVE = 0.05  # of the embeddings that counts as none
READS_NORM = "the matrix reads a normalised embedding, whose entries have a mean square of one"
EQUAL_DELTA = (
    "the backpropagated residuals of all tokens have the same size (no assumption for uniform "
    "tokens)"
)


class HiddenUpdate(Quantity):
    """Root mean square of the output change of the first hidden matrix, over its coordinates."""

    networks = ("mlp", "transformer")
    measurement = TRAINING

    def __init__(self, what: What, symbol: str, meaning: str):
        self.what: What = what
        self.name, self.symbol, self.meaning = f"hidden_{what}_rms", symbol, meaning

    def check(self, setup: AnySetup) -> None:
        super().check(setup)
        setup = _network(setup)
        if setup.hidden_lr == 0:
            raise InputError("hidden_lr", 0, f"must be positive for {self.name}")
        check_network_step(setup, self.what, self.name)

    def asymptotic(self, family: Family) -> Asymptotic:
        if not is_first(family):
            raise Unavailable("a power is derived for the first update (`steps` 1)")
        setup = _network(family.setup(family.sizes[-1]))
        _check_derived(setup)
        orders = family_orders(family)
        unit = derivations.first_step_power(
            "hidden", "sign", orders, mini_batch=setup.batch_size > 0
        )
        hidden = resolved_parametrization(setup).layers["hidden"]
        own = Fraction(hidden.multiplier + (hidden.lr or 0)) * orders.of[s.width]
        found = unit.times("eta_H", family.order("hidden_lr"), "learning rate of hidden layers", "")
        factor = "powers of the width in the parametrization's learning rate and multiplier"
        found = found.times("factor", own, factor, "RMS of the update")
        own_assumptions = (*unit.derivation.assumptions, READS_NORM, EQUAL_DELTA)
        assumptions = (*own_assumptions, *orders.assumptions)
        return Asymptotic(found.power, unit.derivation, assumptions, found.lines)

    def derived(self, setup: AnySetup) -> float:
        network = _network(setup)
        _check_derived(network)
        law = network.law().frequencies
        if np.ptp(law) > 1e-9 * law[0]:
            raise Unavailable(
                "for other `tokens` than uniform ones it presumes that backpropagated residuals of "
                "all tokens have the same size, which is 20 % off at zipf:0.8 in an mlp"
            )
        if network.steps != 2:
            raise Unavailable("the formula is derived for the first update (`steps` 1)")
        unit = first_step(
            "hidden", "sign", network.width, network.law(), batch_size=network.batch_size
        )
        at = scales(network)
        rate = network.hidden_lr * at.learning_rate.hidden * at.multiplier.hidden
        value = float(unit.rms) * rate * first.step_factor(network)  # type: ignore[arg-type]
        move = network.embedding_lr * at.learning_rate.embedding * at.multiplier.embedding
        if self.what == "update" and move > LARGEST_MOVE:
            raise Unavailable(
                "the formula holds on initial embeddings, and `embedding_lr` moves them by "
                f"{move:.2g} in the same update"
            )
        if network.normalisation == "none" and network.network == "mlp":
            value *= at.multiplier.embedding * at.init_factor.embedding
        return value

    def check_mean_field(self, setup: AnySetup) -> None:
        raise Unavailable("the mean-field solver covers the linear network")

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        for setup in setups:
            self.check_mean_field(setup)
        return []

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        term = "update" if self.what == "update" else "update_on_initial"
        return Sampled(np.asarray(arrays[f"{first_hidden_matrix(setup)}:{term}"]), log_rms)


def _network(setup: AnySetup) -> NetworkSetup:
    if isinstance(setup, Setup):
        raise Unavailable("a linear network has no hidden matrix")
    return setup


def _check_derived(setup: NetworkSetup) -> None:
    """Raises `Unavailable` where the first update of the first hidden matrix is not derived."""
    if setup.optimizer not in DERIVED_OPTIMIZERS:
        raise Unavailable(
            f"the hidden update is derived under sign, adam and adamw, not `optimizer` "
            f"{setup.optimizer}, whose step has the size of the backpropagated residuals"
        )
    if setup.decay_rate > 0 and setup.decay == "independent":
        raise Unavailable("the derived steps have no weight decay")
    if setup.targets == "next-token":
        raise Unavailable("it is derived for residuals that depend on the token alone")
    if setup.network == "transformer" and setup.law_name != "uniform":
        raise Unavailable(
            "in a transformer residuals depend on the context: it is derived for uniform `tokens`"
        )


HIDDEN = (
    HiddenUpdate(
        "step",
        r"\mathrm{RMS}_{\Delta H}",
        "root mean square of (W_1 - W_0) z_i(0), what the first update changes by moving the first "
        "hidden matrix that reads the embedding (transformer: the query of the first block), over "
        "coordinates and over tokens by frequency",
    ),
    HiddenUpdate(
        "update",
        r"\mathrm{RMS}_H",
        "root mean square of (W_T - W_0) z_i(T), what T updates of the first hidden matrix that "
        "reads the embedding (transformer: the query of the first block) have changed, over "
        "coordinates and over tokens by frequency",
    ),
)
