"""Evidence about embedding LR / hidden LR with a hidden layer, against d and sqrt(d)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim.claims import Evidence, Verdict, judged
from dynsim.laboratory import grid_factors, training_optimizer
from dynsim.statistics import (
    ExponentFit,
    LossSurface,
    RateExponent,
    is_determined,
    jackknife,
    log_optimum,
    log_slope,
    rate_exponent,
    surface_optimum,
)

from .study import AXES, CASES, CORPUS_ALIGNMENT

Floats = NDArray[np.float64]
Tuned = Literal["ratio", "ratio_alone"]
EARLY, MIDDLE, LATE = 0, 1, 2
RESAMPLES = 300  # of intervals that are stored with their verdicts; new claims take `Resamples`
TOLERANCE = 0.15
VOCAB_EXPONENTS = {"fixed": 0, "superlinear": 2}
HYPOTHESES = {"d": 1.0, "sqrt(d)": 0.5}


def case_widths(data: xr.Dataset, case: str) -> list[int]:
    sizes = data.vocab_size.sel(case=case)
    return [int(width) for width in sizes.width.values[sizes.notnull().values]]


def surface(data: xr.Dataset, case: str, width: int, horizon: int) -> LossSurface:
    """Losses of a network size, as shares of the initial one."""
    names = [f"{axis}_octave" for axis in AXES]
    loss = data.loss.sel(case=case, width=width, horizon=horizon)
    for name in (*names, "seed"):  # what other cases measured and this one did not
        loss = loss.dropna(name, how="all")
    values = loss.transpose(*names, "seed").to_numpy().astype(np.float64)
    rates = [2.0 ** loss[name].to_numpy() for name in names]
    return LossSurface(rates[0], rates[1], values, np.ones(values.shape[-1]))


def ratio_exponent(data: xr.Dataset, case: str, tuned: Tuned, horizon: int) -> RateExponent:
    """Exponent of the optimal embedding LR / hidden LR; its `actual` is that of actual rates.

    With two seeds intervals are by the jackknife: there are too few resamples for percentiles.
    """
    widths = case_widths(data, case)
    surfaces = [surface(data, case, width, horizon) for width in widths]
    _, factors = _factors(case, widths)
    few = surfaces[0].change.shape[-1] == 2
    return rate_exponent(
        widths, surfaces, tuned, factors=factors, resamples=RESAMPLES, by_jackknife=few
    )


def _factors(case: str, widths: Sequence[int]) -> Floats:
    """Widths, and what the parametrization multiplies embedding LR / hidden LR with there."""
    pairs = [grid_factors(CASES[case].setup(width)) for width in widths]
    return np.array([widths, [embedding / hidden for embedding, hidden in pairs]], float)


def first_step_exponent(case: str) -> float:
    """Exponent of d at which both layers change the output by the same at the first step.

    That of the hidden layer's update at equal entries of Delta W, in the limit of large sizes: the
    vocabulary of a family is d^mu, mu = 0, 1 or 2; the update of Muon has the weight's own size.
    """
    if CASES[case].setup(case_base(case)).optimizer == "muon":
        return 0.0
    law = derivations.exponent("projection", "sign").subs(s.zipf_exponent, 0)
    return float(law.subs(s.vocab_exponent, VOCAB_EXPONENTS.get(case, 1)))


def case_base(case: str) -> int:
    return CASES[case].widths[0]


def first_step_theory(case: str, widths: list[int]) -> float:
    """The same from the compiled first-step moments at the measured sizes and token laws.

    Of real text the law is the one that the study was measured on.
    """
    logs = []
    for width in widths:
        setup = CASES[case].setup(width)
        alignment = (
            CORPUS_ALIGNMENT[setup.vocab_size]
            if setup.law_name == "corpus"
            else setup.law().mean_alignment_square
        )
        growth = derivations.hidden_update_growth(width, 1, alignment, training_optimizer(setup))
        logs.append(np.log(growth * width) if setup.optimizer != "muon" else 0.0)
    return float(log_slope(np.log(widths), np.array(logs)))


def measured_exponent(found: RateExponent) -> ExponentFit:
    """Exponent of the actual ratio at the lowest loss; NaN if an optimum lies outside its grid.

    The interval is over seeds. Where optima are flat, many other ratios have nearly the same loss:
    `compatible_low` and `compatible_high` say which, and are not part of any verdict.
    """
    return found.actual if found.excluded == 0 else ExponentFit(np.nan, np.nan, np.nan)


def layerwise(data: xr.Dataset, case: str) -> Evidence:
    """The layer-wise optimal ratio's exponent at the last horizon against first-step theory.

    With its embedding frozen a hidden layer keeps the alignment of the first step.
    """
    found = ratio_exponent(data, case, "ratio_alone", LATE)
    return Evidence.of_fit(
        measured_exponent(found),
        predicted=first_step_exponent(case),
        simulated=first_step_theory(case, case_widths(data, case)),
    )


def joint(data: xr.Dataset, cases: Sequence[str], exponent: float) -> Evidence:
    """The jointly optimal ratio's exponent at the last horizon, averaged over cases.

    By the jackknife, as in `ratio_exponent`. NaN if an optimum lies outside its grid. All cases
    have three widths or more.
    """
    lines = [
        [(width, surface(data, case, width, LATE)) for width in case_widths(data, case)]
        for case in cases
    ]
    factors = [np.log(_factors(case, case_widths(data, case))) for case in cases]
    read = log_optimum(lines[0][0][1], "ratio")

    def mean_exponent(*changes: Floats, axis: int = -1, start: int = 0) -> Floats:
        """The mean slope over the widths from number `start` on."""
        rest = iter(changes)
        logs = [np.array([read(next(rest)) for _ in line]) for line in lines]
        slopes = [
            log_slope(log_widths[start:], values[start:])
            for (log_widths, _), values in zip(factors, logs, strict=True)
        ]
        rules = [log_slope(log_widths[start:], rule[start:]) for log_widths, rule in factors]
        return np.mean(np.add(slopes, rules), axis=0)

    surfaces = [one for line in lines for _, one in line]
    inside = all(is_determined(surface_optimum(one, "ratio")) for one in surfaces)
    changes = [one.change for one in surfaces]
    measured = jackknife(mean_exponent, changes)
    drift = float(mean_exponent(*changes, start=1)) - measured.value
    last = jackknife(partial(mean_exponent, start=-2), changes)
    fit = ExponentFit(measured.value, measured.low, measured.high, drift, last)
    found = fit if inside else ExponentFit(np.nan, np.nan, np.nan)
    return Evidence.of_fit(found, predicted=exponent, simulated=None)


@dataclass(frozen=True)
class RatioRow:
    """One exponent of embedding LR / hidden LR and what it says about the rules.

    `verdicts`: for Theta(d) and Theta(sqrt(d)), by the rule of claims with +-0.15.
    """

    case: str
    tuned: Tuned
    steps: int
    exponent: RateExponent
    theory: float
    verdicts: dict[str, Verdict]


def ratio_rows(data: xr.Dataset) -> Iterator[RatioRow]:
    """Every case, layer by layer and jointly, early and late."""
    for case in CASES:
        widths = case_widths(data, case)
        for tuned in ("ratio_alone", "ratio"):
            for horizon in (EARLY, MIDDLE, LATE):
                found = ratio_exponent(data, case, tuned, horizon)
                measured = measured_exponent(found)
                verdicts: dict[str, Verdict] = {
                    name: judged(
                        Evidence.of_fit(measured, predicted=exponent, simulated=None), TOLERANCE
                    )
                    for name, exponent in HYPOTHESES.items()
                }
                steps = int(data.steps.sel(case=case, width=widths[0], horizon=horizon))
                theory = first_step_theory(case, widths)
                yield RatioRow(
                    case=case,
                    tuned=tuned,
                    steps=steps,
                    exponent=found,
                    theory=theory,
                    verdicts=verdicts,
                )
