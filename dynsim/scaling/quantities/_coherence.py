"""What the neurons do in common in the projection's last update, and what each does alone."""

from __future__ import annotations

import math
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

from . import _aged
from . import _first_step as first
from ._mean_field import begin, predicted
from ._measurements import TRAINING
from ._orders import family_orders
from ._updates import check_moves, first_order, is_first, linear, log_rms

STEP = "projection_step_rms"


def log_root_of_mean(values: Floats) -> Floats:
    """Log of the root of the mean over seeds; NaN where the mean is not positive."""
    mean = np.mean(values, axis=-1)
    return 0.5 * np.log(np.where(mean > 0, mean, np.nan))


def log_rms_ratio(pair: Floats) -> Floats:
    """Log of the ratio of two root mean squares; the first axis holds both squares."""
    return log_rms(pair[0]) - log_rms(pair[1])


class Coherence(Quantity):
    """A part of the projection's T-th update, or its alignment."""

    networks = ("linear",)
    measurement = TRAINING

    def __init__(self, part: derivations.UpdatePart, name: str, symbol: str, meaning: str):
        self.part: derivations.UpdatePart = part
        self.name, self.symbol, self.meaning = name, symbol, meaning

    def check(self, setup: AnySetup) -> None:
        super().check(setup)
        check_moves(setup, "projection", self.name)

    def moving_layers(self, setup: Setup) -> tuple[str, ...]:
        return ("projection",) if setup.steps == 2 else super().moving_layers(setup)

    def asymptotic(self, family: Family) -> Asymptotic:
        if not is_first(family):
            raise Unavailable("a power is derived for the first update (`steps` 1)")
        setup, orders = family.linear_setups()[-1], family_orders(family)
        part = derivations.update_part_power(
            self.part, first.kernel_of(setup), orders, mini_batch=setup.batch_size > 0
        )
        power, lines = part.power, part.lines
        if self.part == "aligned":  # of which the alignment is a share
            whole = first_order(family, "projection")
            power = whole.power - power
            lines = tuple(dict.fromkeys((*whole.lines, *lines)))
            lines += (derivations.LimitLine("RMS/(largest RMS)", power, "the quotient"),)
        return Asymptotic(power, part.derivation, part.assumptions, lines)

    def derived(self, setup: AnySetup) -> float:
        total, incoherent, aligned = self._squares(linear(setup))
        if self.part == "aligned":
            return math.sqrt(total / aligned)
        return math.sqrt(incoherent if self.part == "incoherent" else total - incoherent)

    def _squares(self, setup: Setup) -> tuple[float, float, float]:
        """Mean squares of the whole update, of its incoherent part and of full alignment."""
        kernel, at = first.kernel_of(setup), first.field(setup)
        if setup.steps != 2:
            aged = _aged.projection_step(setup)
            return aged.total, aged.incoherent, aged.incoherent * setup.width
        if kernel == "sgd" and np.max(at.self_term_ratio) ** 2 > first.SMALL:
            raise Unavailable("under sgd the parts are derived without self term (small output)")
        values = {
            s.width: float(setup.width),
            s.projection_lr: setup.projection_lr * first.step_factor(setup),
            s.embedding_std: 1.0,
            s.field_square_sum: at.square_sum,
            s.alignment: np.sqrt(at.alignment_square),
        }
        incoherent = derivations.update_part("projection", kernel, "incoherent")
        aligned = derivations.update_part("projection", kernel, "aligned")
        return (
            first.projection_step_square(setup),
            float(np.mean(np.asarray(evaluate(incoherent, values)))),
            float(np.mean(np.asarray(evaluate(aligned, values)))),
        )

    def check_mean_field(self, setup: AnySetup) -> None:
        known = linear(setup)
        if self.part == "incoherent":
            raise Unavailable("the mean-field solver does not record what single neurons do")
        if known.steps != 2 or first.kernel_of(known) == "sgd":
            raise Unavailable(
                "the mean-field solver gives the whole update; its parts follow at the first step "
                "(`steps` 1) under `optimizer` sign or adam"
            )

    def begin_mean_field(self, setup: AnySetup) -> None:
        self.check_mean_field(setup)
        begin(setup, STEP)

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        for setup in setups:
            self.check_mean_field(setup)
        known, values = [linear(setup) for setup in setups], []
        for setup, whole in zip(known, predicted(known, STEP, progress), strict=True):
            _, incoherent, aligned = self._squares(setup)
            if self.part == "aligned":
                size = math.sqrt(aligned)
                values.append(Value(whole.value / size, whole.error / size))
                continue
            square = whole.value**2 - incoherent
            coherent = math.sqrt(square) if square > 0 else math.nan
            values.append(Value(coherent, whole.value * whole.error / coherent))
        return values

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        whole = np.asarray(arrays[STEP], np.float64)
        if self.part == "incoherent":
            return Sampled(np.asarray(arrays["incoherent_rms"], np.float64), log_rms)
        if self.part == "coherent":
            return Sampled(whole - arrays["incoherent_rms"], log_root_of_mean)
        return Sampled(np.stack([whole, arrays["aligned_rms"]]), log_rms_ratio)


COHERENCE = (
    Coherence(
        "aligned",
        "alignment",
        "A",
        "size of the projection's T-th update over the largest that these changes and embeddings "
        "could have: the root of sum_i p_i mean_k (dW_k e_i)^2 over mean_k |dW_k|^2 "
        "sum_i p_i |e_i|^2",
    ),
    Coherence(
        "coherent",
        "coherent_rms",
        "K",
        "what the neurons do in common in the projection's T-th update: the root of its mean "
        "square less that of single neurons, sum_i p_i mean_k sum_l (dW_kl e_il)^2",
    ),
    Coherence(
        "incoherent",
        "incoherent_rms",
        "I",
        "what the projection's T-th update would be if the neurons' signs were random: the root "
        "of sum_i p_i mean_k sum_l (dW_kl e_il)^2",
    ),
)
