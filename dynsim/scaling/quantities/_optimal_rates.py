"""Optimal learning rates: each layer tuned with the other frozen, and both tuned together.

The optimum after T updates is the rate with the lowest mean loss over tasks. Learning rates of the
setup are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import derivations
from dynsim._setup import Setup
from dynsim.scaling._epsilon import check_small_epsilon
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
    check_conditions,
)
from dynsim.statistics import LossSurface, fitted_parabola
from dynsim.statistics._intervals import jackknife_variances
from dynsim.statistics._loss_surface import TunedRate, log_optimum
from dynsim.statistics._parabola import quadratic_form_minimum
from dynsim.theory._first_step import TARGETS, optimal_learning_rates

from ._orders import family_orders
from ._rate_search import (
    How,
    Losses,
    is_parabola,
    mean_field_losses,
    network_losses,
    searched,
)

Floats = NDArray[np.float64]
Which = derivations.OptimalRate

MEAN_FIELD_TASKS = 4
LARGE_VOCABULARY = 2**18  # beyond it a task is like any other, and the tokens take the time
RIDGE = 0.05  # of what training removes: a rise between two low losses that parts two valleys
NO_OPTIMUM = (
    "no single optimum: the loss has two valleys in the learning rate (targets of equal size, such "
    "as signs, have several after a few steps), or none inside the grid"
)
ONE_UPDATE = (
    "it is derived for one update; later ones are computed and measured "
    "(docs/theory/learning_rates.md#which-ratio-when)"
)
SELF_TERM = "the self term of the projection is included: it matters from m ~ d^2 (SP: d) on"
BOTH_LAYERS = (
    "with both layers trained only a lower bound on the ratio is argued for "
    "(docs/theory/learning_rates.md#which-ratio-when)"
)


def linear_setup(setup: AnySetup) -> Setup:
    """The setup, which `Quantity.check` has found to be of the linear model."""
    assert isinstance(setup, Setup)
    return setup


def check_derived(setup: Setup) -> None:
    """Raises `Unavailable` where the closed forms of the first step do not hold."""
    if setup.steps != 2:
        raise Unavailable(ONE_UPDATE)
    needed = {
        "`optimizer` sign or adam": setup.optimizer in ("sign", "adam"),
        "`loss` mse": setup.loss_name == "mse",
        "one of `outputs`": setup.output_count == 1,
        f"`targets` {' or '.join(TARGETS)} without `target_rank`": setup.targets in TARGETS
        and not setup.target_rank,
        "full batches (`batch_size` 0)": setup.batch_size == 0,
        "constant rates (`schedule`, `warmup_steps`)": setup.schedule == "constant"
        and not setup.warmup_steps,
        "no `weight_decay`": setup.decay_rate == 0,
    }
    check_conditions(needed)


class OptimalRate(Quantity):
    """An optimal learning rate after T updates, or the ratio of both layers'."""

    which: Which
    how: How
    networks = ("linear",)
    no_value = NO_OPTIMUM

    def __init__(self, name: str, which: Which, how: How):
        self.name, self.which, self.how = name, which, how
        others = "the other layer frozen" if how == "layerwise" else "both layers trained together"
        self.symbol = _SYMBOLS[which]
        self.meaning = f"{_OF[which]} at which the mean loss after T updates is lowest, {others}"
        self.measurement = _LAYERWISE if how == "layerwise" else _JOINT

    def moving_layers(self, setup: Setup) -> tuple[str, ...]:
        return ("embedding", "projection") if self.which == "ratio" else (self.which,)

    def asymptotic(self, family: Family) -> Asymptotic:
        if self.how == "joint":
            raise Unavailable(BOTH_LAYERS)
        if family.along in ("steps", "outputs"):
            raise Unavailable(f"no power of the number of {family.along} is derived")
        for size in (family.sizes[0], family.sizes[-1]):
            check_derived(linear_setup(family.setup(size)))
        orders = family_orders(family)
        found = derivations.optimal_rate_power(self.which, orders)
        own = (*found.derivation.assumptions, SELF_TERM)
        assumptions = (*own, *orders.assumptions)
        return Asymptotic(found.power, found.derivation, assumptions, found.lines)

    def derived(self, setup: AnySetup) -> float:
        if self.how == "joint":
            raise Unavailable(BOTH_LAYERS)
        setup = linear_setup(setup)
        check_derived(setup)
        check_small_epsilon(setup)
        embedding, projection = (
            float(rate)
            for rate in optimal_learning_rates(
                setup.width, setup.law(), init=setup.init, targets=setup.targets
            )
        )
        rates = {"embedding": embedding, "projection": projection}
        return {**rates, "ratio": embedding / projection}[self.which]

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        values = []
        for setup in setups:
            few = self.how == "joint" or setup.vocab_size > LARGE_VOCABULARY
            labels = np.arange(2 if few else MEAN_FIELD_TASKS)

            def report(part: float) -> None:
                progress(part / len(setups))

            arrays = _measured(linear_setup(setup), labels, report, self.how, mean_field_losses)
            value = value_and_error(self.sampled(setup, arrays))
            if not np.isfinite(value.value):
                raise Unavailable(f"{NO_OPTIMUM} (`width` {setup.width})")
            values.append(value)
        return values

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        setup = linear_setup(setup)
        rates = np.stack([arrays["embedding_rates"], arrays["projection_rates"]])
        change = arrays["loss"] - arrays["initial_loss"]
        if self.how == "joint":
            return Sampled(_bounded(change), _joint_log(rates, self.which))
        rows = {"embedding": [0], "projection": [1], "ratio": [0, 1]}[self.which]
        if is_parabola(setup):
            return Sampled(change[rows], _layer_log(rates[rows], _exact_optimum))
        return Sampled(_bounded(change[rows]), _layer_log(rates[rows], _fitted_optimum))


def log_of_both(
    rates: Floats, change: Floats, how: How
) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Samples and ln of the quotient of two optima, from changes of loss that are no parabola."""
    log_value = _joint_log(rates, "ratio") if how == "joint" else _layer_log(rates, _fitted_optimum)
    return _bounded(change), log_value


def value_and_error(sampled: Sampled) -> Value:
    """The quantity of solved tasks, and its standard error by leaving out one task at a time."""
    samples = sampled.samples
    without = [np.delete(samples, one, axis=-1) for one in range(samples.shape[-1])]
    left_out = np.array([float(sampled.log_value(one)) for one in without])
    value = float(np.exp(sampled.log_value(samples)))
    return Value(value, value * float(jackknife_variances([left_out])[0]) ** 0.5)


def _bounded(change: Floats) -> Floats:
    """Changes of the loss, 0 where a run diverged or ended above its start."""
    return np.minimum(np.nan_to_num(change, nan=0.0, posinf=0.0, neginf=0.0), 0.0)


def _layer_log(
    rates: Floats, optimum: Callable[[Floats, Floats], Floats]
) -> Callable[[Floats], Floats]:
    """ln of an optimum, or of the quotient of two, from samples (1 or 2, K, ..., S)."""

    def log_value(samples: Floats) -> Floats:
        curves = np.moveaxis(samples.mean(axis=-1), 1, -1)  # (1 or 2, ..., K)
        logs = [optimum(*one) for one in zip(rates, curves, strict=True)]
        return logs[0] - logs[1] if len(logs) == 2 else logs[0]

    return log_value


def _exact_optimum(rates: Floats, curves: Floats) -> Floats:
    """ln of the vertex of losses (..., K) that are quadratic in the rate; NaN beyond the grid."""
    unit = rates[len(rates) // 2]  # powers of rates far from 1 would spoil the least squares
    vertex, _, curvature = fitted_parabola(rates / unit, curves)
    inside = (curvature > 0) & (vertex > rates[0] / unit) & (vertex < rates[-1] / unit)
    return np.log(np.where(inside, vertex, np.nan)) + np.log(unit)


def _fitted_optimum(rates: Floats, curves: Floats) -> Floats:
    """ln of the minimum of the parabola in ln rate through all low losses (..., K); NaN at an end.

    NaN too where no rate lowers the loss, and where the loss has two valleys.
    """
    axis = np.log(rates)
    place = quadratic_form_minimum([axis], curves)[..., 0]
    known = _within(place, axis) & (curves.min(axis=-1) < 0) & ~_two_valleys(curves)
    return np.where(known, place, np.nan)


def _two_valleys(curves: Floats) -> NDArray[np.bool_]:
    """Whether changes of loss (..., K) fall again by more than `RIDGE` of the largest decrease
    after they rose by more on the way from the lowest to one end."""
    best = curves.argmin(axis=-1)[..., None]
    lowest = curves.min(axis=-1, keepdims=True)
    place = np.arange(curves.shape[-1])
    found = np.zeros(curves.shape[:-1], dtype=bool)
    for side, outwards in ((place >= best, 1), (place <= best, -1)):
        way = np.where(side, curves, lowest)[..., ::outwards]
        fall = np.maximum.accumulate(way, axis=-1) - way
        found |= (fall > -RIDGE * lowest).any(axis=-1)
    return found


def _within(place: Floats, axis: Floats) -> NDArray[np.bool_]:
    slack = 1e-6 * (axis[1] - axis[0])
    return (place > axis[0] + slack) & (place < axis[-1] - slack)


def _joint_log(rates: Floats, which: Which) -> Callable[[Floats], Floats]:
    """ln of the optimum of both rates together, from changes of loss (K + 1, K + 1, ..., S).

    NaN for a layer that does best frozen or at its grid's end.
    """
    axes = [np.append(0.0, one) for one in rates]
    shape = (len(axes[0]), len(axes[1]), 1)
    surface = LossSurface(axes[0], axes[1], np.zeros(shape), np.zeros(1))
    tuned: tuple[TunedRate, TunedRate] = ("embedding", "hidden")
    minima = [log_optimum(surface, rate) for rate in tuned]

    def log_value(samples: Floats) -> Floats:
        mean = samples.mean(axis=-1)
        flat = mean.reshape(-1, *mean.shape[2:]).argmin(axis=0)
        index = np.unravel_index(flat, mean.shape[:2])
        logs = []
        for axis, minimum, place in zip(np.log(rates), minima, index, strict=True):
            log = minimum(samples)
            logs.append(np.where(_within(log, axis) & (place > 0), log, np.nan))
        return {"embedding": logs[0], "projection": logs[1], "ratio": logs[0] - logs[1]}[which]

    return log_value


def _measured(
    setup: Setup,
    seeds: NDArray[np.int64],
    progress: Progress,
    how: How,
    losses: Losses = network_losses,
) -> Mapping[str, NDArray[Any]]:
    found = searched(setup, seeds, how, losses, progress)
    return {
        "embedding_rates": found.rates[0],
        "projection_rates": found.rates[1],
        "loss": found.loss,
        "initial_loss": found.initial_loss,
    }


def _run(how: How) -> Callable[[Setup, NDArray[np.int64], Progress], Mapping[str, NDArray[Any]]]:
    return lambda setup, seeds, progress: _measured(linear_setup(setup), seeds, progress, how)


_LAYERWISE = Measurement("layerwise_rates", _run("layerwise"))
_JOINT = Measurement("joint_rates", _run("joint"))
_SYMBOLS = {
    "embedding": r"\eta_E^*",
    "projection": r"\eta_W^*",
    "ratio": r"\eta_E^*/\eta_W^*",
}
_OF: Mapping[Which, str] = {
    "embedding": "the embedding's learning rate",
    "projection": "the projection's learning rate",
    "ratio": "the embedding's learning rate over the projection's",
}


OPTIMAL_RATES: tuple[Quantity, ...] = (
    OptimalRate("embedding_optimal_lr", "embedding", "layerwise"),
    OptimalRate("projection_optimal_lr", "projection", "layerwise"),
    OptimalRate("optimal_rate_ratio", "ratio", "layerwise"),
    OptimalRate("joint_embedding_optimal_lr", "embedding", "joint"),
    OptimalRate("joint_projection_optimal_lr", "projection", "joint"),
    OptimalRate("joint_optimal_rate_ratio", "ratio", "joint"),
)
