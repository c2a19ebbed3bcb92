"""Evidence about the transfer of one global learning rate by rule, vocabulary and decay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import Estimate, Transfer, fit_transfer
from dynsim.claims import Evidence
from dynsim.statistics import (
    ExponentFit,
    Resamples,
    exponent_of,
    fitted_vertex,
    jackknife,
    jackknife_interval,
)

from .study import Case

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats]  # log learning rates (K,), losses (K, seeds)
Weights = Mapping[str, float]  # of cases in a contrast

NEIGHBOURS = 3  # learning rates on either side of the best that its parabola is fitted to
RESAMPLES = Resamples.QUICK
# Differences that must be positive, nats: from what the base ratio's tuning is worth, to a lot.
LEAST, MOST = 0.01, 0.2
PUBLISHED_FALL = float(np.log10(0.0046 / 0.036))  # of E by embedding x width, Kalra & Barkeshli
TOGGLED = {  # pairs without and with SP's embedding LR times width, all else equal
    "sp": "sp, embedding x width",
    "sp, mup readout": "mup, sp gains",
    "sp, mup gains": "mup, sp readout",
    "mup, sp embedding": "mup",
}


def widths_of(data: xr.Dataset, case: str) -> list[int]:
    """Widths that a case was trained at."""
    ran = data.diverged.sel(case=case).notnull().any(["learning_rate", "seed"])
    return [int(width) for width in data.width.values[ran.values]]


def curve(data: xr.Dataset, case: str, width: int) -> Curve:
    """Losses of a width at the learning rates around that of the lowest mean loss, of those that
    no seed diverged at."""
    cell = data.sel(case=case, width=width).transpose("learning_rate", "seed", ...)
    kept = np.flatnonzero((cell.diverged == 0).all("seed"))
    best = int(np.argmin(cell.loss.values[kept].mean(axis=-1)))
    near = kept[max(0, best - NEIGHBOURS) : best + NEIGHBOURS + 1]
    return np.log(cell.learning_rate.values[near]), cell.loss.values[near]


def contrast(data: xr.Dataset, weights: Weights, width: int) -> Estimate:
    """Sum of (weight) L*(width) over cases, in nats, paired over seeds: a seed has the same initial
    weights (up to the rule's scale) and batches in all cases of a network and vocabulary."""
    return _paired(
        data, list(weights), width, lambda lowest: float(lowest @ list(weights.values()))
    )


def closed_share(data: xr.Dataset, start: str, by: str, end: str, width: int) -> Estimate:
    """(L*(start) - L*(by)) / (L*(start) - L*(end)), paired over seeds."""
    return _paired(data, [start, by, end], width, lambda x: (x[0] - x[1]) / (x[0] - x[2]))


def _paired(
    data: xr.Dataset, cases: Sequence[str], width: int, of: Callable[[Floats], float]
) -> Estimate:
    curves = [curve(data, case, width) for case in cases]
    ends = np.cumsum([len(rates) for rates, _ in curves])[:-1]

    def statistic(losses: Floats, axis: int = -1) -> Floats:
        means = np.split(losses.mean(axis=axis), ends)
        lowest = [
            fitted_vertex(rates, mean)[1] for (rates, _), mean in zip(curves, means, strict=True)
        ]
        return np.asarray(of(np.array(lowest)))

    return jackknife(statistic, [np.concatenate([losses for _, losses in curves])])


def log2_optima(data: xr.Dataset, case: str) -> list[Estimate]:
    """log2 of the optimal base learning rate over that of the narrowest width, by width."""
    first, *others = (curve(data, case, width) for width in widths_of(data, case))

    def shift(other: Curve) -> Estimate:
        def octaves(*losses: Floats, axis: int = -1) -> Floats:
            start, end = (
                fitted_vertex(rates, one.mean(axis=axis))[0]
                for (rates, _), one in zip((first, other), losses, strict=True)
            )
            return np.asarray((end - start) / np.log(2))

        return jackknife(octaves, [first[1], other[1]])

    return [Estimate(0.0, 0.0, 0.0), *map(shift, others)]


def drift(data: xr.Dataset, case: str) -> ExponentFit:
    """Exponent of the width in the optimal base learning rate; 0 is transfer."""
    widths = widths_of(data, case)
    curves = [curve(data, case, width) for width in widths]

    def log_rates(*losses: Floats, axis: int = -1) -> Floats:
        best = [
            fitted_vertex(rates, one.mean(axis=axis))[0]
            for (rates, _), one in zip(curves, losses, strict=True)
        ]
        return np.array(best)

    return exponent_of(widths, [losses for _, losses in curves], log_rates, by_jackknife=True)


def fitted(data: xr.Dataset, case: str, resamples: int | None = None) -> Transfer:
    """Transfer metrics of a case."""
    table = data[["loss", "diverged"]].sel(case=case).to_dataframe().reset_index()
    table = table[table.diverged.notna()]
    columns = (table[name].to_numpy() for name in ("width", "learning_rate", "seed", "loss"))
    return fit_transfer(*columns, resamples=resamples or RESAMPLES)


def error_fall(data: xr.Dataset, network: str) -> Estimate:
    """log10 of the factor in E by SP's embedding LR times width, the mean over the other toggles.

    Interval: jackknife over the seeds of each width, left out of all cases together; resamples
    would add noise to E.
    """
    value, left_out = 0.0, {}
    for pair in TOGGLED.items():
        for sign, rule in zip((-1, 1), pair, strict=True):
            error = fitted(data, f"{network}; {rule}", resamples=2).resampled_error
            share = sign / len(TOGGLED)
            value += share * float(np.log10(error.value))
            for sample, errors in error.left_out.items():
                left_out[sample] = left_out.get(sample, 0) + share * np.log10(errors)
    return jackknife_interval(value, list(left_out.values()))


def _case(network: str, rule: str, **fields: Any) -> str:
    return replace(Case(network, rule), **fields).name


def _over(network: str, rule: str, other: str, weight: float = 1.0, **fields: Any) -> Weights:
    """L*(rule) - L*(other), times a weight, as a contrast."""
    return {_case(network, rule, **fields): weight, _case(network, other, **fields): -weight}


def advantage_closed(data: xr.Dataset, network: str, by: str) -> Evidence:
    """Share of muP's advantage over SP that the rule `by` brings at the widest network.

    Predicted is all of it.
    """
    start, rule, end = (_case(network, name) for name in ("sp", by, "mup"))
    return Evidence(
        predicted=1.0,
        simulated=None,
        measured=closed_share(data, start, rule, end, max(widths_of(data, end))),
    )


def loss_above(data: xr.Dataset, network: str, rule: str, other: str, **fields: Any) -> Evidence:
    """By how much a rule's lowest loss is above another's."""
    weights = _over(network, rule, other, **fields)
    return Evidence(
        predicted=(LEAST + MOST) / 2,
        simulated=None,
        measured=contrast(data, weights, _widest(data, weights)),
    )


def advantage_growth(
    data: xr.Dataset, network: str, other: str, start: Mapping[str, Any], **end: Any
) -> Evidence:
    """How much more SP's lowest loss is above another rule's in one condition than in another."""
    further = _over(network, "sp", other, -1.0, **start)
    weights = {**_over(network, "sp", other, **end), **further}
    return Evidence(
        predicted=(LEAST + MOST) / 2,
        simulated=None,
        measured=contrast(data, weights, _widest(data, weights)),
    )


def _widest(data: xr.Dataset, weights: Weights) -> int:
    """The widest of the widths that all cases have."""
    return min(max(widths_of(data, case)) for case in weights)


def drift_evidence(data: xr.Dataset, network: str, rule: str) -> Evidence:
    """`drift` of a rule's optimum against the prediction 0."""
    return Evidence.of_fit(drift(data, _case(network, rule)), predicted=0.0, simulated=None)


def fall_evidence(data: xr.Dataset, network: str) -> Evidence:
    """`error_fall` against the published value."""
    return Evidence(predicted=PUBLISHED_FALL, simulated=None, measured=error_fall(data, network))
