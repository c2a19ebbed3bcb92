"""Claims about the transfer of one base learning rate in the linear model, rule by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim import Transfer, fit_transfer
from dynsim._compiled import evaluate
from dynsim.statistics import jackknife, log_slope, parabola_vertex
from experiments.topics._claim import Claim, Evidence, Verdict

from .study import CASES, LAYERS, MOST_FINITE_WIDTH, NETWORK_WIDTHS, RULES, THEORY_WIDTHS

LIMIT_WIDTH = max(THEORY_WIDTHS)

Floats = NDArray[np.float64]


def cell(data: xr.Dataset, case: str, source: str, width: int, curve: str) -> tuple[Floats, Floats]:
    """Base rates (octave,) and losses (octave, seed) of a rule or of a frozen layer."""
    one = data.sel(case=case, source=source, width=width, curve=curve)
    return one.rate.to_numpy(), one.loss.transpose("octave", "seed").to_numpy()


def log_optimum(rates: Floats, means: Floats) -> tuple[float, float]:
    """ln eta* and L* of the parabola through the three points around the lowest loss.

    NaN where the lowest loss is at the grid's end.
    """
    return parabola_vertex(np.log(rates), means)


def optima(cells: Sequence[tuple[Floats, Floats]], losses: Floats, axis: int = -1) -> Floats:
    """ln eta* and L* of every cell, shape (2, cells), from losses (cell, octave, seed)."""
    means = losses.mean(axis=axis)
    pairs = [log_optimum(rates, mean) for (rates, _), mean in zip(cells, means, strict=True)]
    return np.array(pairs).T


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
    log_width = np.log(NETWORK_WIDTHS)
    cells = {
        source: [cell(data, case, source, width, rule) for width in NETWORK_WIDTHS]
        for source in ("networks", "theory")
    }

    def slope(losses: Floats, axis: int = -1, *, source: str = "networks", first: int = 0):
        logs = optima(cells[source], losses, axis)[0]
        return np.asarray(log_slope(log_width[first:], logs[first:]))

    losses = {source: stacked(one) for source, one in cells.items()}
    measured = jackknife(slope, [losses["networks"]])
    predicted = float(CASES[case].base_rate(rule).exponent)
    return Evidence(
        predicted if held_against is None else held_against,
        float(slope(losses["theory"], source="theory")),
        measured,
        float(slope(losses["networks"], first=1)) - measured.value,
    )


def limit_drift(data: xr.Dataset) -> Evidence:
    """RMS, over cases and rules, of theory's exponent of the best base rate at the end less g."""
    widths = THEORY_WIDTHS[-2:]
    kinds = [(case, rule) for case in CASES for rule in RULES]
    cells = [cell(data, case, "theory", width, rule) for case, rule in kinds for width in widths]
    derived = np.array([float(CASES[case].base_rate(rule).exponent) for case, rule in kinds])

    def distance(losses: Floats, axis: int = -1) -> Floats:
        logs = optima(cells, losses, axis)[0].reshape(-1, 2)
        slopes = np.diff(logs, axis=1)[:, 0] / np.diff(np.log(widths))
        return np.asarray(np.sqrt(np.mean((slopes - derived) ** 2)))

    return Evidence(0.0, None, jackknife(distance, [stacked(cells)]))


def limit_loss(data: xr.Dataset, case: str, pairs: Sequence[tuple[str, str]]) -> Evidence:
    """RMS over pairs of curves of ln(L*/L* of the other) at the largest width, theory."""
    curves = [curve for pair in pairs for curve in pair]
    cells = [cell(data, case, "theory", LIMIT_WIDTH, curve) for curve in curves]

    def distance(losses: Floats, axis: int = -1) -> Floats:
        logs = np.log(optima(cells, losses, axis)[1]).reshape(-1, 2)
        return np.asarray(np.sqrt(np.mean(np.diff(logs, axis=1) ** 2)))

    return Evidence(0.0, None, jackknife(distance, [stacked(cells)]))


def frozen_limit(data: xr.Dataset, case: str) -> Evidence:
    """`limit_loss` of every rule that the exponent side says freezes a layer, against that."""
    pairs = [(rule, twin) for rule in RULES if (twin := frozen_twin(case, rule)) is not None]
    return limit_loss(data, case, pairs)


def best_rule(data: xr.Dataset, case: str) -> str:
    """The rule with theory's lowest loss at the largest width."""
    cells = [cell(data, case, "theory", LIMIT_WIDTH, rule) for rule in RULES]
    return list(RULES)[int(np.argmin(optima(cells, stacked(cells))[1]))]


def penalty(data: xr.Dataset, case: str, source: str, width: int, rule: str) -> Floats:
    """How far a rule's L* is above the best rule's, as a share of that, and its interval."""
    cells = [cell(data, case, source, width, one) for one in (rule, best_rule(data, case))]

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
    return Evidence(float(limit(theory)), None, measured)


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

    return Evidence(0.0, None, jackknife(distance, [stacked(cells)]))


def least_squares_floor(ratios: Floats) -> Floats:
    """What no projection of a frozen embedding goes below, at these m/d."""
    values = {s.width: 1.0, s.vocab_size: np.asarray(ratios, dtype=np.float64)}
    return np.asarray(evaluate(derivations.frozen_embedding_floor(), values))


def networks_against_theory(
    data: xr.Dataset, cases: Sequence[str] = tuple(CASES), *, penalties: bool
) -> Evidence:
    """RMS, over cases, rules and widths, of ln(L* of networks over theory's).

    `penalties`: of L* over that of the best rule, which a rule loses at that width.
    """
    sources = ("networks", "theory")
    kinds = [(case, width) for case in cases for width in NETWORK_WIDTHS]
    cells = [
        cell(data, case, source, width, rule)
        for source in sources
        for case, width in kinds
        for rule in RULES
    ]
    best = np.array([list(RULES).index(best_rule(data, case)) for case, _ in kinds])

    def distance(losses: Floats, axis: int = -1) -> Floats:
        logs = np.log(optima(cells, losses, axis)[1]).reshape(2, len(kinds), len(RULES))
        if penalties:
            logs = logs - np.take_along_axis(logs, best[None, :, None], axis=2)
        return np.asarray(np.sqrt(np.mean((logs[0] - logs[1]) ** 2)))

    return Evidence(0.0, None, jackknife(distance, [stacked(cells)]))


def transfer_fit(
    data: xr.Dataset, case: str, source: str, rule: str, widest: int = MOST_FINITE_WIDTH
) -> Transfer:
    """The transfer fit of one rule, as `dynsim transfer` makes it of a sweep up to `widest`."""
    widths = [
        width
        for width in (NETWORK_WIDTHS if source == "networks" else THEORY_WIDTHS)
        if width <= widest
    ]
    runs = []
    for width in widths:
        rates, losses = cell(data, case, source, width, rule)
        rate, seed = np.meshgrid(rates, np.arange(losses.shape[1]), indexing="ij")
        runs.append(np.stack([np.full(rate.shape, width), rate, seed, losses]).reshape(4, -1))
    width, rate, seed, loss = np.concatenate(runs, axis=1)
    return fit_transfer(width, rate, seed, loss)


OURS = "ours; theory notes, sections 5, 8 and 9"


def _claims() -> tuple[Claim, ...]:
    drifts = (
        ("fixed", "width", "muP init, m = 16, rule x width: the best base rate stays"),
        ("proportional", "width", "muP init, m = 4d, rule x width: it stays"),
        ("proportional", "root", "muP init, m = 4d, rule x sqrt(d): it grows as d^(1/4)"),
        ("proportional", "none", "muP init, m = 4d, no rule: it grows as sqrt(d)"),
        ("fixed-sp", "root", "SP init, m = 16, rule x sqrt(d): it stays"),
        ("proportional-sp", "none", "SP init, m = 4d, no rule: it grows as sqrt(d)"),
    )
    limits: tuple[tuple[str, str, Verdict], ...] = (
        ("fixed", "muP init, m = 16, where the unfrozen rule x width has it too", "undecided"),
        ("fixed-sp", "SP init, m = 16", "holds"),
        ("proportional-sp", "SP init, m = 4d", "holds"),
    )
    exponent = "exponent of d in the best base rate"
    formula = "min over stability constraints of slack / number of layers"
    at_limit = "RMS of ln(L* over that of the frozen network), mean field, d = 2^20"
    loss = "RMS of ln(L* of networks over theory's), d = 64 ... 512"
    return (
        *(
            Claim(
                f"transfer-drift-{case}-{rule}",
                statement,
                exponent,
                formula,
                "transfer_theory",
                partial(drift, case=case, rule=rule),
                0.15,
                OURS,
            )
            for case, rule, statement in drifts
        ),
        Claim(
            "transfer-drift-limit",
            "From d = 2^16 on the mean field's optimum drifts as derived, all cases and rules",
            "RMS of the exponent less the derived one",
            "0",
            "transfer_theory",
            limit_drift,
            0.1,
            OURS,
        ),
        *(
            Claim(
                f"transfer-limit-{case}",
                f"{where}: a rule that freezes a layer has that layer's frozen loss as its limit",
                at_limit,
                "0",
                "transfer_theory",
                partial(frozen_limit, case=case),
                0.05,
                OURS,
                expected,
            )
            for case, where, expected in limits
        ),
        Claim(
            "transfer-networks-loss",
            "Networks have theory's lowest losses at all widths, by all rules (m = 4d)",
            loss,
            "0",
            "transfer_theory",
            partial(
                networks_against_theory,
                cases=("proportional", "proportional-sp"),
                penalties=False,
            ),
            0.1,
            "theory notes, section 8",
        ),
        Claim(
            "transfer-networks-penalty",
            "Networks have theory's penalties of each rule against the best one",
            "RMS of ln(networks' over theory's L*/L*(best rule)), d = 64 ... 512",
            "0",
            "transfer_theory",
            partial(networks_against_theory, penalties=True),
            0.1,
            OURS,
        ),
        Claim(
            "control-transfer-limit-embedding",
            "Wrong on purpose: without a rule the embedding freezes (muP init, m = 4d)",
            "RMS of ln(L* over that of the frozen embedding), mean field, d = 2^20",
            "0",
            "transfer_theory",
            partial(limit_loss, case="proportional", pairs=[("none", "frozen embedding")]),
            0.05,
            "control",
            "fails",
        ),
        Claim(
            "control-transfer-root-free",
            "Wrong on purpose: the rule x sqrt(d) loses nothing against none (SP init, m = 4d)",
            "ln(L* over that of no rule), mean field, d = 2^20",
            "0",
            "transfer_theory",
            partial(limit_loss, case="proportional-sp", pairs=[("root", "none")]),
            0.05,
            "control",
            "fails",
        ),
        Claim(
            "control-transfer-drift-sp",
            "Wrong on purpose: muP's rule keeps the base rate under SP's initial weights",
            exponent,
            "0",
            "transfer_theory",
            partial(drift, case="fixed-sp", rule="width", held_against=0.0),
            0.15,
            "control",
            "fails",
        ),
        Claim(
            "control-transfer-penalty-early",
            "Wrong on purpose: networks of d = 512 show what muP's rule loses at infinite width "
            "(SP init, m = 4d)",
            "ln(L* by muP's rule over that by none), networks, d = 512",
            "the same in the mean field, d = 2^20",
            "transfer_theory",
            partial(early_penalty, case="proportional-sp", rule="width", against="none"),
            0.05,
            "control",
            "fails",
        ),
        Claim(
            "transfer-frozen-floor",
            "A frozen embedding of m >= 16 d ends near the least-squares floor (muP, two tasks)",
            "RMS of L* of the frozen embedding less the floor, mean field, m/d = 16 and 64",
            "0",
            "transfer_ratio",
            above_floor,
            0.05,
            "least squares",
            "undecided",
        ),
    )


CLAIMS = _claims()
