"""The loss after T updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
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

from . import _first_step as first
from ._mean_field import begin, check_column, predicted
from ._measurements import LOSSES
from ._orders import family_orders
from ._updates import OWN_RESIDUALS, first_order, is_first, linear


def log_mean(losses: Floats) -> Floats:
    """Log of the mean over seeds."""
    return np.log(np.mean(losses, axis=-1))


class Loss(Quantity):
    """Loss over the whole token law after T updates."""

    name, symbol = "loss", "L"
    meaning = (
        "loss over the whole token law after T updates, summed over outputs (next-token targets: "
        "on text that is not trained on)"
    )
    measurement = LOSSES

    def asymptotic(self, family: Family) -> Asymptotic:
        if family.network != "linear":
            raise Unavailable("it is derived for the linear network")
        setup = family.linear_setups()[-1]
        if not is_first(family) or setup.loss_name != "mse":
            raise Unavailable("a power is derived after one update (`steps` 1) for `loss` mse")
        orders = family_orders(family)
        updates = [
            first_order(family, layer)
            for layer in ("projection", "embedding")
            if getattr(setup, f"{layer}_lr") > 0
        ]
        found = derivations.first_loss_power(orders, [update.power for update in updates])
        lines = [line for update in updates for line in update.lines]
        presumed = [text for update in updates for text in update.assumptions]
        return Asymptotic(
            found.power,
            found.derivation,
            (
                *dict.fromkeys(presumed),
                OWN_RESIDUALS,
                "half the mean square of residual plus update, which do not cancel to leading "
                "order; leading order in the learning rates (no cross term)",
            ),
            (*dict.fromkeys(lines), *found.lines),
        )

    def derived(self, setup: AnySetup) -> float:
        known = linear(setup)
        if known.steps != 2 or known.output_count != 1 or known.loss_name != "mse":
            raise Unavailable("it is derived after one update (`steps` 1) for one output and mse")
        if known.batch_size or first.kernel_of(known) == "sgd":
            raise Unavailable("it is derived in full batch under `optimizer` sign or adam")
        return first_loss(known)

    def check_mean_field(self, setup: AnySetup) -> None:
        check_column(setup, self.name)

    def begin_mean_field(self, setup: AnySetup) -> None:
        begin(setup, self.name)

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        return predicted(setups, self.name, progress)

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        return Sampled(np.asarray(arrays["loss"], np.float64), log_mean)


def first_loss(setup: Setup) -> float:
    """Loss after one update, in the mean over networks, from the residuals of its own targets."""
    first.check_many_tokens(setup)
    frequencies, at = setup.law().frequencies, first.field(setup)
    sizes, (weighted, slope) = first.absolute_residuals(setup), first.residual_sizes(setup)
    factor = first.step_factor(setup)
    values = {
        s.width: float(setup.width),
        s.embedding_std: 1.0,
        s.projection_lr: setup.projection_lr * factor,
        s.embedding_lr: setup.embedding_lr * factor,
        s.field_square_sum: float(at.square_sum[0]),
        s.alignment_square: float(at.alignment_square[0]),
        s.self_term_ratio: float(at.self_term_ratio[0]),
        s.frequency_square_sum: setup.law().power_sum(2),
        derivations.mean_absolute_residual: float(frequencies @ sizes[:, 0]),
        derivations.weighted_residual: float(weighted[0]),
        derivations.residual_sign_slope: float(slope[0]),
    }
    change = evaluate(derivations.mean_field_first_loss(equal_residuals=False), values)
    start = float(frequencies @ first.residual_squares(setup)[:, 0]) / 2
    return start + float(change)
