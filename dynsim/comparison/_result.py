"""What a comparison holds: a curve for every route, and where two of them part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dynsim._network_setup import NetworkSetup
from dynsim._outcome import OK, Outcome
from dynsim._results import Declared, Result
from dynsim._setup import Setup
from dynsim._summary import summary

Floats = NDArray[np.float64]

QUANTITIES = ("loss", "projection_update_rms", "embedding_update_rms")  # of every network
MOST_PERCENT = 9.99  # larger differences are written as a factor
NETWORKS = "networks"
ROUTES = (NETWORKS, "mean field", "flow", "linearised")


def quantities_of(setup: Setup | NetworkSetup) -> tuple[str, ...]:
    """What is compared: loss and updates, of an mlp also those of every hidden layer."""
    layers = range(1, setup.depth + 1) if isinstance(setup, NetworkSetup) else ()
    return (*QUANTITIES, *(f"hidden_{layer}_update_rms" for layer in layers))


@dataclass(frozen=True, eq=False)
class Curves:
    """One route's curves at every step, the first axis in the order of `quantities_of`.

    - `value`; `low`, `high`: of networks the 95 % interval of the mean, else the value with its
      numerical error on both sides.
    - `outcome`: ok, or how the route ended.
    """

    value: Floats
    low: Floats
    high: Floats
    outcome: Outcome = OK

    def __repr__(self) -> str:
        return summary(
            "Curves", value=self.value, low=self.low, high=self.high, outcome=self.outcome
        )


@dataclass(frozen=True)
class Parting:
    """Where two routes part in one quantity.

    - `first_step`: the first step at which they differ by more than the networks' 95 % band and
      the errors of both, None where they never do; `steps_apart`: at how many of `steps` they do.
    - `difference`, `relative`: at the last step that both have, the second route minus the first,
      and this over the first (NaN where that is 0).
    """

    quantity: str
    first: str
    second: str
    first_step: int | None
    steps_apart: int
    steps: int
    difference: float
    relative: float

    def __str__(self) -> str:
        if self.first_step is None:
            where = "never part"
        else:
            where = f"part at step {self.first_step} (apart at {self.steps_apart} of {self.steps})"
        return f"{self.quantity}, {self.first} and {self.second}: {where}; {self.end} at the end"

    @property
    def end(self) -> str:
        """The difference at the last step in words."""
        if not math.isfinite(self.relative):
            return f"{self.difference:+.3g}"
        if abs(self.relative) > MOST_PERCENT:
            return f"x{1 + self.relative:.3g}"
        return f"{self.relative:+.1%}"


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Networks, mean field, flow and linearised dynamics of one setup, before each of T steps.

    **Fields:**

    - `setup`; `seeds`: labels of the networks, shape (K,).
    - `curves`: by route, those that cover the setup, in the order `networks`, `mean field`,
      `flow`, `linearised`.
    - `missing`: by route, why it has no curve: it does not cover the setup, or is too stiff.
    - `partings`: for each quantity and pair of routes, where they part.

    The quantities are `loss`, `projection_update_rms`, `embedding_update_rms` and, of an mlp,
    `hidden_update_rms` layer by layer, as in `Training` and `NetworkTraining`
    (docs/theory/model.md#quantities). Flow and linearised dynamics start from the very networks
    that are trained, in float64, and are averaged over them.
    """

    arrays: ClassVar[Declared] = {
        "loss": ("route step", lambda found: _of(found, "loss", "value")),
        "loss_low": ("route step", lambda found: _of(found, "loss", "low")),
        "loss_high": ("route step", lambda found: _of(found, "loss", "high")),
        "projection_update_rms": (
            "route step",
            lambda found: _of(found, "projection_update_rms", "value"),
        ),
        "projection_update_rms_low": (
            "route step",
            lambda found: _of(found, "projection_update_rms", "low"),
        ),
        "projection_update_rms_high": (
            "route step",
            lambda found: _of(found, "projection_update_rms", "high"),
        ),
        "embedding_update_rms": (
            "route step",
            lambda found: _of(found, "embedding_update_rms", "value"),
        ),
        "embedding_update_rms_low": (
            "route step",
            lambda found: _of(found, "embedding_update_rms", "low"),
        ),
        "embedding_update_rms_high": (
            "route step",
            lambda found: _of(found, "embedding_update_rms", "high"),
        ),
        "hidden_update_rms": ("route step layer", lambda found: _of_layers(found, "value")),
        "hidden_update_rms_low": ("route step layer", lambda found: _of_layers(found, "low")),
        "hidden_update_rms_high": ("route step layer", lambda found: _of_layers(found, "high")),
        "status": ("route", lambda found: [str(one.outcome) for one in found.curves.values()]),
        "route": ("route", lambda found: list(found.curves)),
    }

    setup: Setup | NetworkSetup
    seeds: NDArray[np.int64]
    curves: dict[str, Curves]
    missing: dict[str, str]
    partings: tuple[Parting, ...]

    def __repr__(self) -> str:
        shown = (one for one in self.partings if NETWORKS in (one.first, one.second))
        return summary(
            "Comparison of the routes to one setup's dynamics",
            setup=self.setup,
            seeds=self.seeds,
            steps=self.setup.steps,
            routes=list(self.curves),
            **{f"no {route}": why for route, why in self.missing.items()},
            **{f"parting {number}": str(one) for number, one in enumerate(shown, 1)},
        )

    def described_by(self) -> dict[str, Any]:
        """The setup's options, and the labels of the seeds."""
        return self.setup.resolved() | {"seeds": self.seeds.tolist()}


def _of(found: Comparison, quantity: str, part: str) -> Floats:
    """One quantity of all routes, shape (routes, T)."""
    row = QUANTITIES.index(quantity)
    return np.stack([getattr(one, part)[row] for one in found.curves.values()])


def _of_layers(found: Comparison, part: str) -> Floats | None:
    """The updates of hidden layers of all routes, shape (routes, T, depth)."""
    first = len(QUANTITIES)
    if len(quantities_of(found.setup)) == first:
        return None
    return np.stack([getattr(one, part)[first:].T for one in found.curves.values()])
