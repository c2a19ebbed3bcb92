"""Transfer metrics of every group of a table of runs, and R_inf of each against its set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from dynsim import Estimate, Outcome, Status, Transfer, fit_transfer
from dynsim.transfer import TransferParameter, asymptotic_penalties

SYMBOLS = {
    "kappa": "robustness",
    "alpha": "loss_exponent",
    "beta": "rate_exponent",
    "gamma": "curvature_exponent",
    "L_inf": "loss_limit",
    "A": "loss_amplitude",
    "eta_inf": "rate_limit",
    "b": "rate_amplitude",
    "h": "curvature_amplitude",
}
NO_JOINT_FIT = Outcome(Status.UNDETERMINED, "needs three widths with a bracketed optimum")

Name = dict[str, Any]  # a group's value of each column that tells groups apart


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of a group, their fit, and its R_inf."""

    name: Name
    label: str
    runs: int
    fit: Transfer
    penalty: TransferParameter

    def parameter(self, symbol: str) -> TransferParameter:
        """A parameter of the fit, or R_inf, by its symbol."""
        return self.penalty if symbol == "R_inf" else getattr(self.fit, SYMBOLS[symbol])


@dataclass(frozen=True)
class ComparedGroups:
    """Groups, by number, that share their values of `within`, and the reference of their R_inf."""

    label: str
    groups: list[int]
    reference: int | None


def analyse(
    parts: Sequence[tuple[Name, pd.DataFrame]],
    factor: float,
    columns: Sequence[str],
    within: Sequence[str],
    fitted: Callable[[], object],
) -> tuple[list[Group], list[ComparedGroups]]:
    """Every group, and the sets of groups that are compared.

    Labels hold the `columns`, the fewest that tell groups apart if there are none. `fitted` is
    called after each fit.
    """
    names = [name for name, _ in parts]
    fits = []
    for _, runs in parts:
        values = (runs[name].to_numpy() for name in ("width", "learning_rate", "seed", "loss"))
        fits.append(fit_transfer(*values, factor=factor))
        fitted()
    sets, penalties = _compare(names, fits, within)
    shown = columns or telling_columns(names)
    groups = [
        Group(name, _label(name, shown), len(runs), fit, penalty)
        for (name, runs), fit, penalty in zip(parts, fits, penalties, strict=True)
    ]
    return groups, sets


def _compare(
    names: Sequence[Name], fits: Sequence[Transfer], within: Sequence[str]
) -> tuple[list[ComparedGroups], list[TransferParameter]]:
    """The sets of groups that are compared, and R_inf of every group."""
    members: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        members.setdefault(_label(name, within), []).append(k)
    sets, found = [], {}
    for label, groups in members.items():
        lowest, penalties = asymptotic_penalties([fits[k] for k in groups])
        sets.append(ComparedGroups(label, groups, None if lowest is None else groups[lowest]))
        found.update(zip(groups, penalties, strict=True))
    return sets, [found[k] for k in range(len(fits))]


def telling_columns(names: Sequence[Name]) -> tuple[str, ...]:
    """The fewest columns that tell all groups apart, the first of several such choices."""
    columns = tuple(names[0])
    choices = (chosen for count in range(len(columns)) for chosen in combinations(columns, count))
    apart = (chosen for chosen in choices if len({_label(n, chosen) for n in names}) == len(names))
    return next(apart, columns)


def _label(name: Name, columns: Sequence[str]) -> str:
    return ", ".join(f"{column} {name[column]}" for column in columns) or "all runs"


def in_one_sentence(group: Group) -> str:
    """Whether the best learning rate moves with the width, and what that costs."""
    fit = group.fit
    slope = fit.trend.slope
    name = f"{group.label}: " if group.label else ""
    if math.isnan(slope.value):
        found = sum(curve.outcome.ok for curve in fit.curves)
        return (
            f"{name}Whether the best learning rate moves with the width cannot be said: that needs "
            "two widths at which the lowest loss lies between other learning rates, and here "
            f"{found} of {len(fit.curves)} {'is' if found == 1 else 'are'} so."
        )
    power = f"width^{slope.value:.2g}"
    if math.isnan(slope.low):
        text = f"The best learning rate goes like {power}, with unknown noise"
    elif slope.low <= 0 <= slope.high:
        text = (
            "No movement of the best learning rate with the width is seen: it goes like "
            f"width^p, p in [{slope.low:.2g}, {slope.high:.2g}]"
        )
    else:
        text = f"The best learning rate moves like {power} [{slope.low:.2g}, {slope.high:.2g}]"
    costs = fit.costs
    if not costs:
        return f"{name}{text}."
    far = max(costs, key=lambda one: (one.used, -one.tuned))
    share = 100 * far.cost.value / far.lowest
    cost = f"tuned at width {far.tuned:g} it costs {share:.2g} % of the lowest loss at {far.used:g}"
    return f"{name}{text}; {cost}."


def answer(group: Group) -> dict[str, Any]:
    """A group as a document, in which outcomes are still `Outcome`s."""
    fit = group.fit
    joint = NO_JOINT_FIT if fit.surface is None else Outcome()
    return {
        "group": group.name,
        "answer": in_one_sentence(group),
        "runs": group.runs,
        "diverged": fit.diverged,
        "intervals": fit.intervals,
        "E": {
            **{"value": fit.error, "low": None, "high": None},
            "status": joint,
            "noise": fit.noise_error,
            "held_out": fit.held_out_error,
            "held_out_noise": fit.held_out_noise,
        },
        "R_inf": _parameter(group.penalty),
        **{symbol: _parameter(group.parameter(symbol)) for symbol in SYMBOLS},
        "widths": [
            {
                "width": curve.width,
                "status": curve.outcome.message or str(curve.status),
                "learning_rates": len(curve.learning_rates),
                "near": int(curve.near.sum()),
                "eta*": _estimate(curve.learning_rate),
                "L*": _estimate(curve.loss),
                "H": _estimate(curve.curvature),
            }
            for curve in fit.curves
        ],
        "trend": {
            "slope": _estimate(fit.trend.slope),
            "bend": _estimate(fit.trend.bend),
            "status": fit.trend.outcome,
        },
        "costs": [
            {
                "tuned": one.tuned,
                "used": one.used,
                "cost": _estimate(one.cost),
                "read": one.read,
                "lowest": one.lowest,
            }
            for one in fit.costs
        ],
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _parameter(parameter: TransferParameter) -> dict[str, Any]:
    return {**_estimate(parameter), "status": parameter.outcome}
