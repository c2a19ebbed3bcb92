"""What a quantity is: the same number by derivation, by mean-field theory and by training.

A quantity is read after T updates of training. Losses and total updates are those of the state
after T updates; step quantities are those of the T-th update (T = 1: the first). A `Setup` made by
a `Family` has `steps` = T + 1, so that in the columns of a run totals stand at index T and step
quantities at index T - 1. Every RMS contains the learning rates of the setup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from derivations import Derivation, LimitLine
from dynsim._errors import InputError
from dynsim._network_setup import NetworkName, NetworkSetup
from dynsim._setup import Setup

from ._family import Family

AnySetup = Setup | NetworkSetup
Floats = NDArray[np.float64]
Progress = Callable[[float], object]


class Unavailable(Exception):
    """A quantity has no such column; the text is one sentence that says why."""


def check_conditions(needed: Mapping[str, bool]) -> None:
    """Raises `Unavailable` with the first condition of a derivation that is not met."""
    for condition, met in needed.items():
        if not met:
            raise Unavailable(f"it is derived for {condition}")


@dataclass(frozen=True)
class Asymptotic:
    """The power of the growing size in a quantity, as the growing size goes to infinity.

    - `exponent`: as an exact fraction.
    - `derivation`: where the formula comes from; `assumptions`: when it holds.
    - `lines`: how the exponent follows from the formula along the path.
    """

    exponent: Fraction
    derivation: Derivation
    assumptions: tuple[str, ...]
    lines: tuple[LimitLine, ...] = ()


class Value(NamedTuple):
    """A number of a theory with its numerical error (0: exact)."""

    value: float
    error: float = 0.0


class Sampled(NamedTuple):
    """A measured quantity of one setup, before its seeds are averaged.

    `samples` has the seeds on its last axis. `log_value` takes samples (..., S) or resamples
    (..., R, S) to the logarithm of the quantity, a number or shape (R,).
    """

    samples: Floats
    log_value: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Measurement:
    """One training from which several quantities are read.

    `run(setup, seeds, progress)` returns arrays by name, each with the seeds on its last axis or
    without any seed axis (grids). It uses no theory formula, but to place a grid.
    """

    name: str
    run: Callable[[Any, NDArray[np.int64], Progress], Mapping[str, NDArray[Any]]]


class Quantity:
    """A quantity along a path. Columns that do not exist raise `Unavailable` with the reason.

    - `name`: what the command line takes; `symbol`: for axes, as mathematics.
    - `meaning`: its definition in one sentence, with the equation.
    - `networks`: those that have it; `measurement`: what is trained for it.
    - `no_value`: why networks that stayed finite may have no value.
    """

    name: str
    symbol: str
    meaning: str
    networks: tuple[str, ...] = ("linear", "mlp", "transformer")
    measurement: Measurement | None = None
    no_value: str = "the networks have no finite value"

    def check_network(self, network: str) -> None:
        """Raises `InputError` for a network that does not have the quantity, before its other
        options are looked at."""
        if network in get_args(NetworkName) and network not in self.networks:
            *others, last = self.networks
            names = f"{', '.join(others)} or {last}" if others else last
            raise InputError("network", network, f"must be {names} for {self.name}")

    def check(self, setup: AnySetup) -> None:
        """Raises `InputError` where the quantity does not exist for a network or optimizer."""
        self.check_network(getattr(setup, "network", "linear"))

    def moving_layers(self, setup: Setup) -> tuple[str, ...]:
        """The layers of the linear network whose moves the quantity is of: embedding, projection.

        By default all that are not frozen.
        """
        rates = {"embedding": setup.embedding_lr, "projection": setup.projection_lr}
        return tuple(layer for layer, rate in rates.items() if rate)

    def asymptotic(self, family: Family) -> Asymptotic:
        """The exponent along the family, derived symbolically."""
        raise Unavailable("no power is derived for it")

    def derived(self, setup: AnySetup) -> float:
        """The derived formula at finite sizes."""
        raise Unavailable("no formula is derived for it")

    def check_mean_field(self, setup: AnySetup) -> None:
        """Raises `Unavailable` or `InputError` where the mean-field solver does not give it.

        Nothing is solved.
        """
        if type(self).mean_field is Quantity.mean_field:
            self.mean_field([setup])  # says why

    def begin_mean_field(self, setup: AnySetup) -> None:
        """Begins to compile, in a thread, what `mean_field` takes, where that is what takes long.

        Formulas are derived meanwhile. Here nothing is begun.
        """

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        """The mean-field solution at each setup."""
        raise Unavailable("the mean-field solver does not give it")

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        """The quantity in what its measurement recorded."""
        raise Unavailable("it is not measured")
