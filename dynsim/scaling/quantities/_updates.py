"""Sizes of output updates: of a layer in total, and of its last step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim._errors import InputError
from dynsim._setup import Setup
from dynsim.scaling._family import Family
from dynsim.scaling._quantity import (
    AnySetup,
    Asymptotic,
    Floats,
    Progress,
    Quantity,
    Sampled,
    Unavailable,
    Value,
)

from . import _aged
from . import _first_step as first
from ._mean_field import begin, check_column, predicted
from ._measurements import TRAINING
from ._orders import family_orders

Layer = Literal["embedding", "projection"]
What = Literal["step", "update"]
RATES = {"embedding": s.embedding_lr, "projection": s.projection_lr}
OF_STEPS = "the total of several updates is not derived, that of one is"
OWN_RESIDUALS = (
    "sizes of residuals enter its prefactor alone: they are of the same order for all tokens"
)
NO_CROSS_TERM = (
    "leading order in the learning rates: the cross term Delta W Delta e_i, which is larger in the "
    "limit under `init` sp or where m grows faster than d if `embedding_lr` does not fall, is left "
    "out"
)


def log_rms(squares: Floats) -> Floats:
    """Log of the root mean square over seeds (last axis) of squares."""
    return 0.5 * np.log(np.mean(squares, axis=-1))


def is_first(family: Family) -> bool:
    """Whether all setups make one update."""
    return all(family.updates(size) == 1 for size in family.sizes)


def linear(setup: AnySetup) -> Setup:
    """The setup, if it is of the linear network. Raises `Unavailable`."""
    if not isinstance(setup, Setup):
        raise Unavailable("it is derived for the linear network")
    return setup


def first_order(family: Family, layer: Layer) -> derivations.PathPower:
    """Power of the first update's RMS, the formula, and what it presumes."""
    setup, orders = family.linear_setups()[-1], family_orders(family)
    if layer == "embedding":
        _check_outputs_in_the_limit(orders)
    unit = derivations.first_step_power(
        layer,
        first.kernel_of(setup),
        orders,
        mini_batch=setup.batch_size > 0,
        init=setup.init,
        several_outputs=setup.output_count > 1,
    )
    rate, warmup = orders.of[RATES[layer]], _warmup_order(family)
    reason = f"learning rate of the {layer}"
    if warmup:
        reason += " at the first step of the warm-up"
    return unit.times(str(RATES[layer]), rate - warmup, reason, "RMS of the update")


def _check_outputs_in_the_limit(orders: derivations.PathOrders) -> None:
    if orders.of[s.outputs] + 2 * orders.of[s.projection_std] > 0:
        raise Unavailable(
            "`outputs` grow faster than `width` (`init` sp) or its square (`init` mup): the "
            "residuals then depend on the projection"
        )


def _warmup_order(family: Family) -> Fraction:
    """Power of the growing size in the warm-up, through which the first rate falls."""
    setup = family.setup(family.sizes[-1])
    return family.order("warmup_steps") if setup.warmup_steps else Fraction(0)


def _asymptotic(found: derivations.PathPower, more: tuple[str, ...] = ()) -> Asymptotic:
    return Asymptotic(found.power, found.derivation, (*found.assumptions, *more), found.lines)


class Update(Quantity):
    """Root mean square of an output update, over outputs and over tokens by frequency."""

    measurement = TRAINING

    def __init__(self, layer: Layer, what: What, symbol: str, meaning: str):
        self.layer: Layer = layer
        self.what: What = what
        self.name, self.symbol, self.meaning = f"{layer}_{what}_rms", symbol, meaning

    def check(self, setup: AnySetup) -> None:
        super().check(setup)
        check_moves(setup, self.layer, self.name)
        if not isinstance(setup, Setup):
            check_network_step(setup, self.what, self.name)

    def moving_layers(self, setup: Setup) -> tuple[str, ...]:
        return (self.layer,) if setup.steps == 2 else super().moving_layers(setup)

    def asymptotic(self, family: Family) -> Asymptotic:
        if family.network != "linear":
            raise Unavailable("it is derived for the linear network")
        if is_first(family):
            own = (NO_CROSS_TERM,) if self.name == "projection_update_rms" else ()
            return _asymptotic(first_order(family, self.layer), (*own, OWN_RESIDUALS))
        return self._later_power(family)

    def _later_power(self, family: Family) -> Asymptotic:
        if self.name == "projection_update_rms":
            raise Unavailable(OF_STEPS)
        setup, orders = family.linear_setups()[-1], family_orders(family)
        if self.layer == "projection":
            return _asymptotic(_aged.step_power(family, orders))
        _aged.check_kept_in_the_limit(family, orders, exact=True)
        found = first_order(family, "embedding")
        if self.what == "update":
            moves = _aged.moved_order(family)
            visits = derivations.visits_power(orders, moves, mini_batch=setup.batch_size > 0)
            reason = "RMS displacement of a token by all updates over that by the first"
            found = found.times("visits", visits, reason, "RMS of all updates")
        kept = "residuals and projection have kept their initial sizes and directions"
        return _asymptotic(found, (kept,))

    def derived(self, setup: AnySetup) -> float:
        return math.sqrt(self._square(linear(setup)))

    def _square(self, setup: Setup) -> float:
        updates = setup.steps - 1
        if updates == 1:
            return {
                "projection_step_rms": first.projection_step_square,
                "projection_update_rms": first.projection_update_square,
                "embedding_step_rms": first.embedding_step_square,
                "embedding_update_rms": first.embedding_step_square,
            }[self.name](setup)
        if self.name == "projection_update_rms":
            raise Unavailable(OF_STEPS)
        if self.layer == "projection":
            return _aged.projection_step(setup).total
        _aged.check_kept(setup, updates - 1)
        square = first.embedding_step_square(setup)
        if self.what == "update":
            return square * _aged.visits_square(setup)
        return square * (first.step_factor(setup, updates - 1) / first.step_factor(setup)) ** 2

    def check_mean_field(self, setup: AnySetup) -> None:
        check_column(setup, self.name)

    def begin_mean_field(self, setup: AnySetup) -> None:
        begin(setup, self.name)

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        return predicted(setups, self.name, progress)

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        name = self.name if isinstance(setup, Setup) else network_column(setup, self)
        return Sampled(np.asarray(arrays[name], np.float64), log_rms)


def check_moves(setup: AnySetup, layer: str, name: str) -> None:
    """Raises `InputError` if the learning rate of the quantity's layer is zero."""
    rate = f"{layer}_lr"
    if not isinstance(setup, Setup) and layer == "projection":
        rate = "hidden_lr" if setup.hidden_lr == 0 else "readout_ratio"
        rate = rate if setup.readout_lr is None else "readout_lr"
    if getattr(setup, rate) == 0:
        raise InputError(rate, 0, f"must be positive for {name}")


def check_network_step(setup: AnySetup, what: What, name: str) -> None:
    """Raises `InputError` for a later step of a network, which its measurement does not record."""
    if what == "step" and setup.steps != 2:
        raise InputError(
            "steps", setup.steps - 1, f"must be 1 for {name} with `network` mlp or transformer"
        )


def network_column(setup: AnySetup, update: Update) -> str:
    """What the coordinates of a network call it.

    The embedding's update is read by the initial weights of the first matrix that reads the
    embedding, that of the projection is the readout's.
    """
    if update.layer == "embedding":
        return f"{first_hidden_matrix(setup)}:initial_on_learned"
    return "readout:" + ("update" if update.what == "update" else "update_on_initial")


def first_hidden_matrix(setup: AnySetup) -> str:
    """The first hidden matrix that reads the embedding."""
    network = getattr(setup, "network", "linear")
    return {"mlp": "hidden.0", "transformer": "blocks.0.query"}[network]


UPDATES = (
    Update(
        "projection",
        "step",
        r"\mathrm{RMS}_{\Delta W}",
        "root mean square of (W_T - W_(T-1)) e_i(T-1), what update T changes by moving the "
        "projection, over outputs and over tokens by frequency (mlp, transformer: the readout on "
        "its initial input, T = 1)",
    ),
    Update(
        "projection",
        "update",
        r"\mathrm{RMS}_W",
        "root mean square of (W_T - W_0) e_i(T), what T updates of the projection have changed, "
        "over outputs and over tokens by frequency (mlp, transformer: the readout)",
    ),
    Update(
        "embedding",
        "step",
        r"\mathrm{RMS}_{\Delta E}",
        "root mean square of W_(T-1) (e_i(T) - e_i(T-1)), what update T changes by moving the "
        "embedding, over outputs and over tokens by frequency (mlp, transformer: W the first "
        "hidden matrix that reads the embedding, T = 1)",
    ),
    Update(
        "embedding",
        "update",
        r"\mathrm{RMS}_E",
        "root mean square of W_0 (e_i(T) - e_i(0)), what T updates of the embedding have changed, "
        "over outputs and over tokens by frequency (mlp, transformer: W the first hidden matrix "
        "that reads the embedding)",
    ),
)
