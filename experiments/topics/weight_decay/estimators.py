"""Evidence about the size and the turning of weights at the equilibrium of AdamW."""

from __future__ import annotations

from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from derivations import DecayConvention
from dynsim import Estimate, bootstrap
from dynsim.claims import Evidence
from dynsim.statistics import Resamples, exponent_of, log_slope
from dynsim.theory import equilibrium_rms, kept_direction
from experiments.results import study_config

from .study import BETAS, DECAYS, LAG, RULES

Floats = NDArray[np.float64]
RESAMPLES = 1000
RARE = (0.0, 2.0)
FREQUENT = (5.0, 1e9)
PINNED = (20.0, 1e9)
ALL = (0.0, 1e9)
"""bands of visits within the memory of Adam's second moment, q/(1 - beta_2)"""


def cell(data: xr.Dataset, variable: str, source: str, convention: str) -> Floats:
    """Of all groups of rows, shape (groups, seeds)."""
    chosen = data[variable].sel(source=source, convention=convention)
    return chosen.transpose("group", "seed").to_numpy().astype(np.float64)


def chances(data: xr.Dataset, source: str, convention: str) -> Floats:
    """Visits a step of the groups."""
    return data.chance.sel(source=source, convention=convention).to_numpy().astype(np.float64)


def derived_rms(data: xr.Dataset, convention: str, chance: Floats) -> Floats:
    return equilibrium_rms(
        study_config(data)["rate"],
        DECAYS[convention],
        visit_chance=chance,
        beta2=BETAS[1],
        convention=cast(DecayConvention, convention),
    )


def _within(
    data: xr.Dataset, source: str, convention: str, band: tuple[float, float]
) -> NDArray[np.bool_]:
    visits = chances(data, source, convention) / (1 - BETAS[1])
    return (visits > band[0]) & (visits <= band[1])


def size_ratio(
    data: xr.Dataset,
    source: str,
    band: tuple[float, float] = ALL,
    conventions: tuple[str, ...] = ("coupled", "independent"),
    momentum_share: float = 1.0,
) -> Evidence:
    """RMS of rows over that of the law, geometric mean over groups of a band of visits.

    `momentum_share`, wrong on purpose: what the squared size is multiplied by if one step's mean
    square stood for the long-run variance.
    """
    samples, derived, sizes = [], [], []
    for convention in conventions:
        inside = _within(data, source, convention, band)
        chance = chances(data, source, convention)[inside]
        samples += list(cell(data, "mean_square", source, convention)[inside])
        derived += list(derived_rms(data, convention, chance) * momentum_share**0.5)
        sizes += list(chance)
    expected = np.array(derived)

    def ratio(*groups: Floats, axis: int = -1) -> Floats:
        logs = np.stack([0.5 * np.log(np.mean(group, axis=axis)) for group in groups])
        return logs - np.log(expected).reshape(-1, *[1] * (logs.ndim - 1))

    return Evidence.of_ratio(ratio, samples, sizes, resamples=RESAMPLES, vectorized=True)


def size_exponent(
    data: xr.Dataset, source: str, band: tuple[float, float], predicted: float | None = None
) -> Evidence:
    """Power of the visits a step in the RMS of rows, beside the slope of the law there, which is
    the prediction if there is no other."""
    inside = _within(data, source, "coupled", band)
    chance = chances(data, source, "coupled")[inside]
    order = np.argsort(chance)
    squares = cell(data, "mean_square", source, "coupled")[inside][order]

    def logs(some: Floats, axis: int = -1) -> Floats:
        return 0.5 * np.log(np.mean(some, axis=axis))

    measured = exponent_of(chance[order], [squares], logs, resamples=RESAMPLES, vectorized=True)
    law = np.log(derived_rms(data, "coupled", chance[order]))
    derived = float(log_slope(np.log(chance[order]), law))
    if predicted is None:
        return Evidence.of_fit(measured, predicted=derived, simulated=None)
    return Evidence.of_fit(measured, predicted=predicted, simulated=derived)


def turns(data: xr.Dataset, source: str, convention: str) -> tuple[Floats, Floats]:
    """Mean squares and lagged products of the groups."""
    return (
        cell(data, "mean_square", source, convention),
        cell(data, "lagged", source, convention),
    )


def turn(square: Floats, lagged: Floats, axis: int = -1) -> Floats:
    """-ln of the cosine between both looks."""
    return -np.log(np.mean(lagged, axis=axis) / np.mean(square, axis=axis))


def derived_turn(data: xr.Dataset, convention: str) -> float:
    """The same of noise, for rows of every frequency."""
    rate, name = study_config(data)["rate"], cast(DecayConvention, convention)
    kept = kept_direction(rate, DECAYS[convention], LAG, beta1=BETAS[0], convention=name)
    return -float(np.log(kept))


def turn_ratio(data: xr.Dataset, source: str, band: tuple[float, float] = ALL) -> Evidence:
    """Turn of rows over the law's, geometric mean over groups and conventions."""
    samples, derived, sizes = [], [], []
    for convention in DECAYS:
        inside = _within(data, source, convention, band)
        both = np.stack(turns(data, source, convention), axis=1)[inside]  # group, 2, seed
        samples += list(both)
        derived += [derived_turn(data, convention)] * len(both)
        sizes += list(chances(data, source, convention)[inside])
    expected = np.array(derived)

    def ratio(*groups: Floats, axis: int = -1) -> Floats:
        logs = np.stack([np.log(turn(*_apart(group), axis=axis)) for group in groups])
        return logs - np.log(expected).reshape(-1, *[1] * (logs.ndim - 1))

    return Evidence.of_ratio(ratio, samples, sizes, resamples=RESAMPLES, vectorized=True)


def _apart(both: Floats) -> tuple[Floats, Floats]:
    return both[0], both[1]


def widths(data: xr.Dataset) -> list[int]:
    return [int(width) for width in data.width.values]


def squares(data: xr.Dataset, quantity: str, **cell: float | str) -> Floats:
    """Mean squares of a quantity of hidden matrices, shape (widths, seeds).

    `cell` is the power of lambda under coupled decay, the rule under independent decay.
    """
    chosen = data.mean_square.sel(quantity=quantity, **cell)
    return chosen.transpose("width", "seed").to_numpy().astype(np.float64)


def hidden_rates(data: xr.Dataset, **cell: float | str) -> tuple[Floats, Floats]:
    """Learning rates and lambda of hidden matrices by width."""
    config, sizes = study_config(data), np.array(widths(data)) / 32
    by_rule = "rule" in cell
    rate_power, power = RULES[str(cell["rule"])] if by_rule else (-1.0, float(cell["power"]))
    return config["rate"] * sizes**rate_power, config["decay"] * sizes**power


def hidden_ratio(data: xr.Dataset) -> Evidence:
    """RMS of hidden matrices over the law, geometric mean over widths and powers of lambda, or
    over widths and rules under independent decay."""
    axis_name = "rule" if "rule" in data.dims else "power"
    convention: DecayConvention = "independent" if axis_name == "rule" else "coupled"
    samples, derived, sizes = [], [], []
    for one in data[axis_name].values:
        cell = {axis_name: one}
        samples += list(squares(data, "square", **cell))
        derived += list(equilibrium_rms(*hidden_rates(data, **cell), convention=convention))
        sizes += widths(data)
    expected = np.array(derived)

    def ratio(*cells: Floats, axis: int = -1) -> Floats:
        logs = np.stack([0.5 * np.log(np.mean(one, axis=axis)) for one in cells])
        return logs - np.log(expected).reshape(-1, *[1] * (logs.ndim - 1))

    return Evidence.of_ratio(ratio, samples, sizes, resamples=RESAMPLES, vectorized=True)


def hidden_exponent(
    data: xr.Dataset,
    quantity: str,
    predicted: float,
    over: str | None = None,
    **cell: float | str,
) -> Evidence:
    """Power of the width in the RMS of a quantity, or of its quotient by another one."""
    samples = [squares(data, quantity, **cell)]
    if over is not None:
        samples = [np.stack([samples[0], squares(data, over, **cell)], axis=1)]

    def logs(some: Floats, axis: int = -1) -> Floats:
        mean = 0.5 * np.log(np.mean(some, axis=axis))
        return mean if over is None else mean[:, 0] - mean[:, 1]

    measured = exponent_of(widths(data), samples, logs, resamples=RESAMPLES, vectorized=True)
    return Evidence.of_fit(measured, predicted=predicted, simulated=None)


def intervals(samples: Floats, factor: Floats) -> list[Estimate]:
    """RMS times a factor by row of mean squares (groups, seeds), with their intervals."""
    return [
        bootstrap(
            lambda some, axis=-1, by=by: by * np.sqrt(np.mean(some, axis=axis)),
            [row],
            resamples=Resamples.QUICK,
            vectorized=True,
        )
        for row, by in zip(samples, factor, strict=True)
    ]
