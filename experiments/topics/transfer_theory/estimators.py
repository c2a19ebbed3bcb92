"""Evidence about the transfer of one base learning rate in the linear model, rule by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim import evaluate
from dynsim.claims import Evidence
from dynsim.statistics import exponent_of, jackknife, log_slope, parabola_vertex

from .study import CASES, LAYERS, NETWORK_WIDTHS, RULES, THEORY_WIDTHS

LIMIT_WIDTH = max(THEORY_WIDTHS)

Floats = NDArray[np.float64]


def cell(data: xr.Dataset, case: str, source: str, width: int, curve: str) -> tuple[Floats, Floats]:
    """Base rates (octave,) and losses (octave, seed) of a rule or of a frozen layer."""
    labels = {"case": case, "source": source, "width": width, "curve": curve}
    place = {name: data.get_index(name).get_loc(label) for name, label in labels.items()}
    rate, loss = (  # as `sel` finds them, which takes ten times as long
        data.variables[name].isel(place, missing_dims="ignore") for name in ("rate", "loss")
    )
    return rate.to_numpy(), loss.transpose("octave", "seed").to_numpy()


def log_optimum(rates: Floats, means: Floats) -> tuple[Floats, Floats]:
    """ln eta* and L* of the parabola through the three points around the lowest loss.

    NaN where the lowest loss is at the grid's end.
    """
    return parabola_vertex(np.log(rates), means)


def optima(cells: Sequence[tuple[Floats, Floats]], losses: Floats, axis: int = -1) -> Floats:
    """ln eta* and L* of every cell, shape (2, cells), from losses (cell, octave, seed)."""
    means = losses.mean(axis=axis)
    return np.array(log_optimum(np.stack([rates for rates, _ in cells]), means))


def stacked(cells: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Losses (cell, octave, seed): a seed is one task in every cell, left out of all together."""
    return np.stack([losses for _, losses in cells])


def frozen_twin(case: str, rule: str) -> str | None:
    """The frozen layer without which the same parts of the output's change stay of order one."""
    kept = CASES[case].base_rate(rule).kept
    curves = [f"frozen {layer}" for layer in LAYERS]
    return next((one for one in curves if CASES[case].base_rate(one).kept == kept), None)


def drift(data: xr.Dataset, case: str, rule: str, *, held_against: float | None = None) -> Evidence:
    """Exponent of the best base rate. `held_against`: as a control, another than the derived."""
    cells = {
        source: [cell(data, case, source, width, rule) for width in NETWORK_WIDTHS]
        for source in ("networks", "theory")
    }

    def log_rates(losses: Floats, axis: int = -1, *, source: str = "networks") -> Floats:
        return optima(cells[source], losses, axis)[0]

    measured = exponent_of(
        NETWORK_WIDTHS, [stacked(cells["networks"])], log_rates, by_jackknife=True
    )
    theory = log_rates(stacked(cells["theory"]), source="theory")
    predicted = float(CASES[case].base_rate(rule).exponent)
    return Evidence.of_fit(
        measured,
        predicted=predicted if held_against is None else held_against,
        simulated=float(log_slope(np.log(NETWORK_WIDTHS), theory)),
    )


def limit_drift(data: xr.Dataset) -> Evidence:
    """RMS, over cases and rules, of theory's exponent of the best base rate at the end less g."""
    widths = THEORY_WIDTHS[-2:]
    curves = [(case, rule) for case in CASES for rule in RULES]
    cells = [cell(data, case, "theory", width, rule) for case, rule in curves for width in widths]
    derived = np.array([float(CASES[case].base_rate(rule).exponent) for case, rule in curves])

    def distance(losses: Floats, axis: int = -1) -> Floats:
        logs = optima(cells, losses, axis)[0].reshape(-1, 2)
        slopes = np.diff(logs, axis=1)[:, 0] / np.diff(np.log(widths))
        return np.asarray(np.sqrt(np.mean((slopes - derived) ** 2)))

    return Evidence(predicted=0.0, simulated=None, measured=jackknife(distance, [stacked(cells)]))


def limit_loss(data: xr.Dataset, case: str, pairs: Sequence[tuple[str, str]]) -> Evidence:
    """RMS over pairs of curves of ln(L*/L* of the other) at the largest width, theory."""
    curves = [curve for pair in pairs for curve in pair]
    cells = [cell(data, case, "theory", LIMIT_WIDTH, curve) for curve in curves]

    def distance(losses: Floats, axis: int = -1) -> Floats:
        logs = np.log(optima(cells, losses, axis)[1]).reshape(-1, 2)
        return np.asarray(np.sqrt(np.mean(np.diff(logs, axis=1) ** 2)))

    return Evidence(predicted=0.0, simulated=None, measured=jackknife(distance, [stacked(cells)]))


def frozen_limit(data: xr.Dataset, case: str) -> Evidence:
    """`limit_loss` of every rule that the exponent side says freezes a layer, against that."""
    pairs = [(rule, twin) for rule in RULES if (twin := frozen_twin(case, rule)) is not None]
    return limit_loss(data, case, pairs)


def best_rule(data: xr.Dataset, case: str) -> str:
    """The rule with theory's lowest loss at the largest width."""
    cells = [cell(data, case, "theory", LIMIT_WIDTH, rule) for rule in RULES]
    return list(RULES)[int(np.argmin(optima(cells, stacked(cells))[1]))]


def penalty(data: xr.Dataset, case: str, source: str, width: int, rule: str, best: str) -> Floats:
    """How far a rule's L* is above the best rule's, as a share of that, and its interval."""
    cells = [cell(data, case, source, width, one) for one in (rule, best)]

    def share(losses: Floats, axis: int = -1) -> Floats:
        this, best = optima(cells, losses, axis)[1]
        return np.asarray(this / best - 1)

    found = jackknife(share, [stacked(cells)])
    return np.array([found.value, found.low, found.high])


def early_penalty(data: xr.Dataset, case: str, rule: str, against: str) -> Evidence:
    """ln(L* by a rule over that by another) of the widest networks, against theory's limit."""

    def penalty_at(source: str, width: int) -> tuple[Callable[..., Floats], Floats]:
        cells = [cell(data, case, source, width, one) for one in (against, rule)]

        def difference(losses: Floats, axis: int = -1) -> Floats:
            return np.asarray(np.diff(np.log(optima(cells, losses, axis)[1]))[0])

        return difference, stacked(cells)

    limit, theory = penalty_at("theory", LIMIT_WIDTH)
    early, networks = penalty_at("networks", max(NETWORK_WIDTHS))
    measured = jackknife(early, [networks])
    return Evidence(predicted=float(limit(theory)), simulated=None, measured=measured)


def above_floor(data: xr.Dataset) -> Evidence:
    """RMS of the frozen embedding's L* less the least-squares floor, for m >= 16 d."""
    ratios = [float(ratio) for ratio in data.ratio.values if ratio >= 16]
    cells = []
    for ratio in ratios:
        one = data.sel(ratio=ratio, curve="frozen embedding")
        cells.append((one.rate.to_numpy(), one.loss.transpose("octave", "seed").to_numpy()))
    floor = least_squares_floor(np.array(ratios))

    def distance(losses: Floats, axis: int = -1) -> Floats:
        return np.asarray(np.sqrt(np.mean((optima(cells, losses, axis)[1] - floor) ** 2)))

    return Evidence(predicted=0.0, simulated=None, measured=jackknife(distance, [stacked(cells)]))


def least_squares_floor(ratios: Floats) -> Floats:
    """What no projection of a frozen embedding goes below, at these m/d."""
    values = {s.width: 1.0, s.vocab_size: np.asarray(ratios, dtype=np.float64)}
    return np.asarray(evaluate(derivations.frozen_embedding_floor(), values))


def networks_against_theory(
    data: xr.Dataset,
    cases: Sequence[str] = tuple(CASES),
    *,
    penalties: bool,
    predicted: bool = True,
) -> Evidence:
    """RMS, over cases, rules and widths, of ln(L* of networks over theory's).

    `penalties`: of L* over that of the best rule, which a rule loses at that width. As a control,
    without what is `predicted`: as if no rule lost anything.
    """
    sources = ("networks", "theory")
    sizes = [(case, width) for case in cases for width in NETWORK_WIDTHS]
    cells = [
        cell(data, case, source, width, rule)
        for source in sources
        for case, width in sizes
        for rule in RULES
    ]
    best = np.array([list(RULES).index(best_rule(data, case)) for case, _ in sizes])

    def distance(losses: Floats, axis: int = -1) -> Floats:
        logs = np.log(optima(cells, losses, axis)[1]).reshape(2, len(sizes), len(RULES))
        if penalties:
            logs = logs - np.take_along_axis(logs, best[None, :, None], axis=2)
        return np.asarray(np.sqrt(np.mean((logs[0] - predicted * logs[1]) ** 2)))

    return Evidence(predicted=0.0, simulated=None, measured=jackknife(distance, [stacked(cells)]))
