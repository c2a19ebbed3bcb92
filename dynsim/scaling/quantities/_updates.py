"""Sizes of output updates: of a layer in total, and of its last step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import sympy as sp
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

from . import _first_step
from ._mean_field import predicted
from ._measurements import TRAINING
from ._orders import family_orders

Layer = Literal["embedding", "projection"]


def log_rms(squares: Floats) -> Floats:
    """Log of the root mean square over seeds (last axis) of squares."""
    return 0.5 * np.log(np.mean(squares, axis=-1))


def first_update_of(family: Family) -> None:
    """Raises `Unavailable` unless the family's quantities are those of the first update."""
    if any(family.updates(size) != 1 for size in family.sizes):
        raise Unavailable("a power is derived for the first update (`steps` 1)")


class Update(Quantity):
    """Root mean square of an output update, over outputs and over tokens by frequency."""

    measurement = TRAINING

    def __init__(self, layer: Layer, what: Literal["step", "update"], symbol: str, meaning: str):
        self.layer, self.what = layer, what
        self.name, self.symbol, self.meaning = f"{layer}_{what}_rms", symbol, meaning

    @property
    def rate(self) -> str:
        return f"{self.layer}_lr"

    def check(self, setup: AnySetup) -> None:
        if isinstance(setup, Setup) and getattr(setup, self.rate) == 0:
            raise InputError(self.rate, 0, f"must be positive for {self.name}")

    def asymptotic(self, family: Family) -> Asymptotic:
        first_update_of(family)
        setup = family.linear_setups()[-1]
        orders = family_orders(family)
        kernel = _first_step.kernel_of(setup)
        _, rms = derivations.first_step(
            self.layer, kernel, mini_batch=setup.batch_size > 0, init=setup.init
        )
        rate = s.embedding_lr if self.layer == "embedding" else s.projection_lr
        power = orders.power(rms.expression**2) / 2 + orders.of[rate]
        return Asymptotic(sp.nsimplify(power), rms, (*rms.assumptions, *orders.assumptions))

    def derived(self, setup: AnySetup) -> float:
        if not isinstance(setup, Setup):
            raise Unavailable("the formula is derived for the linear network")
        if setup.steps != 2:
            raise Unavailable("the formula is derived for the first update (`steps` 1)")
        if self.layer == "embedding":
            return math.sqrt(_first_step.embedding_step_square(setup))
        if self.what == "update":
            return math.sqrt(_first_step.projection_update_square(setup))
        return math.sqrt(_first_step.projection_step_square(setup))

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        return predicted(setups, self.name, progress)

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        return Sampled(np.asarray(arrays[self.name], np.float64), log_rms)


UPDATES = (
    Update(
        "projection",
        "step",
        r"\mathrm{RMS}_{\Delta W}",
        "root mean square of (W_T - W_(T-1)) e_i(T-1), what update T changes by moving the "
        "projection, over outputs and over tokens by frequency",
    ),
    Update(
        "projection",
        "update",
        r"\mathrm{RMS}_W",
        "root mean square of (W_T - W_0) e_i(T), what T updates of the projection have changed, "
        "over outputs and over tokens by frequency",
    ),
    Update(
        "embedding",
        "step",
        r"\mathrm{RMS}_{\Delta E}",
        "root mean square of W_(T-1) (e_i(T) - e_i(T-1)), what update T changes by moving the "
        "embedding, over outputs and over tokens by frequency",
    ),
    Update(
        "embedding",
        "update",
        r"\mathrm{RMS}_E",
        "root mean square of W_0 (e_i(T) - e_i(0)), what T updates of the embedding have changed, "
        "over outputs and over tokens by frequency",
    ),
)
