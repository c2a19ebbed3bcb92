"""The embedding's optimal learning rate over that of the hidden matrices of a network.

Rates are those of the weights in the function: the parametrization's factors are put in, and its
multipliers, as if they were one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._network_setup import NetworkSetup
from dynsim.scaling._family import Family
from dynsim.scaling._quantity import (
    AnySetup,
    Asymptotic,
    Measurement,
    Progress,
    Quantity,
    Sampled,
    Unavailable,
    Value,
)
from dynsim.theory.mean_field._model import model_of

from ._optimal_rates import NO_OPTIMUM, log_of_both, value_and_error
from ._rate_search import (
    How,
    Losses,
    deep_network_losses,
    mean_field_losses,
    own_factors,
    searched,
)

TASKS = 2  # of the mean field
ARGUED = (
    "only a scaling argument for linear networks is known "
    "(docs/theory/learning_rates.md#matrices-together)"
)


class HiddenRateRatio(Quantity):
    """The embedding's optimal learning rate over the hidden matrices', which share one.

    Layer by layer all other layers are frozen, the readout too. Jointly the readout is trained at
    `readout_ratio` times the hidden rate.
    """

    networks = ("mlp",)
    symbol = r"\eta_E^*/\eta_A^*"
    no_value = NO_OPTIMUM

    def __init__(self, name: str, how: How):
        self.name = name
        self.how: How = how
        others = "all other layers frozen" if how == "layerwise" else "all layers trained together"
        self.meaning = (
            "the embedding's learning rate over that of the hidden matrices, at which the mean "
            f"loss after T updates is lowest, {others}"
        )
        self.measurement = Measurement(f"{how}_hidden_rates", self._run)

    def asymptotic(self, family: Family) -> Asymptotic:
        raise Unavailable(ARGUED)

    def derived(self, setup: AnySetup) -> float:
        raise Unavailable(ARGUED)

    def check_mean_field(self, setup: AnySetup) -> None:
        assert isinstance(setup, NetworkSetup)
        if not model_of(setup).linear:
            allowed = f"must be identity without `normalisation` for the mean field of {self.name}"
            raise InputError("activation", setup.activation, allowed)

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        values = []
        for setup in setups:
            self.check_mean_field(setup)

            def report(part: float) -> None:
                progress(part / len(setups))

            arrays = self._searched(setup, np.arange(TASKS), report, mean_field_losses)
            value = value_and_error(self.sampled(setup, arrays))
            if not np.isfinite(value.value):
                raise Unavailable(f"{NO_OPTIMUM} (`width` {setup.width})")
            values.append(value)
        return values

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        assert isinstance(setup, NetworkSetup)
        rates = own_factors(setup)[:, None] * np.stack(
            [arrays["embedding_rates"], arrays["hidden_rates"]]
        )
        samples, log_value = log_of_both(rates, arrays["loss"] - arrays["initial_loss"], self.how)
        return Sampled(samples, log_value)

    def _run(
        self, setup: NetworkSetup, seeds: NDArray[np.int64], progress: Progress
    ) -> Mapping[str, NDArray[Any]]:
        return self._searched(setup, seeds, progress, deep_network_losses)

    def _searched(
        self, setup: AnySetup, seeds: NDArray[np.int64], progress: Progress, losses: Losses
    ) -> Mapping[str, NDArray[Any]]:
        assert isinstance(setup, NetworkSetup)
        task = replace(setup, readout_ratio=0.0) if self.how == "layerwise" else setup
        found = searched(task, seeds, self.how, losses, progress)
        return {
            "embedding_rates": found.rates[0],
            "hidden_rates": found.rates[1],
            "loss": found.loss,
            "initial_loss": found.initial_loss,
        }


HIDDEN_RATES: tuple[Quantity, ...] = (
    HiddenRateRatio("hidden_optimal_rate_ratio", "layerwise"),
    HiddenRateRatio("joint_hidden_optimal_rate_ratio", "joint"),
)
