"""Evidence about language-model heads: exponents of single steps and of optimal rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim.claims import Evidence
from dynsim.statistics import (
    Estimate,
    ExponentFit,
    Resamples,
    exponent_of,
    jackknife,
    log_slope,
    parabola_minimum,
)

from .networks import LAYERS

Floats = NDArray[np.float64]
CORRECTION = 0.23  # power of the width in a readout's rate beyond muP's: an open question
JOINT, ALONE = 1, 0  # turns of the search
LATER = (2, 4, 8, 16)  # steps before the one whose alignment may have been restored


def line(data: xr.Dataset, path: str, optimizer: str, head: str) -> xr.Dataset:
    """The widths that were measured along a path."""
    cells = data.sel(path=path, optimizer=optimizer, head=head)
    return cells.sel(width=cells.width.values[cells.vocab_size.notnull().values])


def step_samples(data: xr.Dataset, update: str, moment: int) -> tuple[list[int], list[Floats]]:
    """Widths, and the mean squares of every seed of a width."""
    cells = data.size.sel(update=update, moment=moment).transpose("width", "seed")
    return [int(width) for width in cells.width.values], list(cells.to_numpy())


def step_exponent(
    data: xr.Dataset,
    path: str,
    update: str,
    moment: int = 0,
    *,
    optimizer: str = "adam",
    head: str = "untied",
    predicted: float = 1.0,
) -> Evidence:
    """Exponent of d of a step's RMS at constant rates: 1 where it adds up coherently, 1/2 where
    its terms have random signs."""
    widths, samples = step_samples(line(data, path, optimizer, head), update, moment)

    def logs(*cells: Floats, axis: int = -1) -> Floats:
        return np.array([0.5 * np.log(np.mean(cell, axis=axis)) for cell in cells])

    fit = exponent_of(widths, samples, logs, resamples=Resamples.QUICK, vectorized=True)
    return Evidence.of_fit(fit, predicted=predicted, simulated=None)


def derived_step_exponent(
    data: xr.Dataset, update: str, predicted: float, path: str = "fixed"
) -> Evidence:
    """Of a head's first step, beside the derivation on the text's bigrams at the same widths."""
    found = step_exponent(data, path, update, predicted=predicted)
    logits = "target" if update == "head_target" else "all"
    derived = line(data, path, "adam", "untied").derived_rms.sel(logits=logits)
    slope = log_slope(np.log(derived.width.values), np.log(derived.to_numpy()))
    return replace(found, simulated=float(slope))


def later_step_exponent(data: xr.Dataset, update: str) -> Evidence:
    """Exponent of d of a head's step at constant rates after 2 to 16 steps, mean of logarithms."""
    cells = line(data, "fixed", "adam", "untied")
    by_moment = [step_samples(cells, update, moment)[1] for moment in LATER]
    # A seed is one network at all moments, and is left out at all of them.
    samples = [np.stack(squares) for squares in zip(*by_moment, strict=True)]

    def logs(*chosen: Floats, axis: int = -1) -> Floats:
        return np.array([0.5 * np.log(cell.mean(axis=axis)).mean() for cell in chosen])

    widths = [int(width) for width in cells.width.values]
    fit = exponent_of(widths, samples, logs, by_jackknife=True)
    return Evidence.of_fit(fit, predicted=1.0, simulated=None)


def restoration(data: xr.Dataset, path: str) -> Evidence:
    """Exponent of the hidden matrix's later steps below a full head minus below few outputs."""
    lines = [line(data, path, "adam", head) for head in ("untied", "few")]
    samples, widths = [], step_samples(lines[0], "hidden", 0)[0]
    for one in lines:
        for moment in LATER:
            samples += step_samples(one, "hidden", moment)[1]
    shape = (2, len(LATER), len(widths))

    def difference(*cells: Floats, axis: int = -1, start: int = 0) -> Floats:
        logs = np.array([0.5 * np.log(np.mean(cell, axis=-1)) for cell in cells]).reshape(shape)
        mean = logs.mean(axis=1)[:, start:]
        slopes = log_slope(np.log(widths[start:]), mean.T)
        return slopes[0] - slopes[1]

    measured = jackknife(difference, samples)
    last = jackknife(lambda *cells, axis=-1: difference(*cells, start=-2), samples)
    drift = float(difference(*samples, start=1)) - measured.value
    fit = ExponentFit(measured.value, measured.low, measured.high, drift, last)
    return Evidence.of_fit(fit, predicted=0.0, simulated=None)


def log_rates(cells: xr.Dataset, layer: str, turn: int) -> tuple[Floats, Floats]:
    """Log rates (width, octave) at muP's scale and losses (width, octave, seed)."""
    chosen = cells.sel(layer=layer).isel(turn=turn)
    rates = np.log(chosen.rate.transpose("width", "octave").to_numpy())
    return rates, chosen.loss.transpose("width", "octave", "seed").to_numpy()


def log_optima(rates: Floats, losses: Floats) -> Floats:
    """Log of the best rate at every width; NaN where it lies at an end."""
    return np.asarray(parabola_minimum(rates, losses))


def rate_exponent(
    data: xr.Dataset,
    path: str,
    layer: str,
    *,
    optimizer: str = "adam",
    head: str = "untied",
    turn: int = JOINT,
    predicted: float = 0.0,
) -> Evidence:
    """Exponent of d in a layer's best rate beyond muP's. By the jackknife over seeds, which are
    one task at every width. NaN if a best rate lies at the end of what was searched."""
    cells = line(data, path, optimizer, head)
    rates, losses = log_rates(cells, layer, turn)
    return _exponent_of_rates(cells, rates, losses, predicted)


def rate_exponent_alone(data: xr.Dataset, case: str, predicted: float = 0.0) -> Evidence:
    """The same of a rate that was searched alone, at one vocabulary."""
    cells = data.sel(case=case)
    return _exponent_of_rates(cells, *log_rates_alone(cells), predicted=predicted)


def log_rates_alone(cells: xr.Dataset) -> tuple[Floats, Floats]:
    """Log rates (width, octave) at muP's scale and losses (width, octave, seed) of a case."""
    rates = np.log(cells.rate.transpose("width", "octave").to_numpy())
    return rates, cells.loss.transpose("width", "octave", "seed").to_numpy()


def rate_exponents_apart(data: xr.Dataset, case: str, other: str, predicted: float) -> Evidence:
    """Exponent of d in the best rate of one case minus that of the other, by the jackknife over
    seeds, which are one draw in both."""
    (rates, losses), (other_rates, other_losses) = (
        log_rates_alone(data.sel(case=one)) for one in (case, other)
    )
    log_widths = np.log(data.width.values)

    def apart(sample: Floats, axis: int = -1, start: int = 0) -> Floats:
        mean = sample.mean(axis=-1)
        optima = np.array([log_optima(rates, mean[0]), log_optima(other_rates, mean[1])])
        slopes = log_slope(log_widths[start:], optima[:, start:].T)
        return slopes[0] - slopes[1]

    both = np.stack([losses, other_losses])
    measured = jackknife(apart, [both])
    last = jackknife(partial(apart, start=-2), [both])
    drift = float(apart(both, start=1)) - measured.value
    fit = ExponentFit(measured.value, measured.low, measured.high, drift, last)
    return Evidence.of_fit(fit, predicted=predicted, simulated=None)


def best_rates(rates: Floats, losses: Floats) -> list[Estimate]:
    """Logarithm of the best rate at every width with its interval over seeds."""

    def best(sample: Floats, axis: int = -1, width: int = 0) -> Floats:
        return log_optima(rates[width], sample.mean(axis=axis))

    return [jackknife(partial(best, width=k), [loss]) for k, loss in enumerate(losses)]


def _exponent_of_rates(
    cells: xr.Dataset, rates: Floats, losses: Floats, predicted: float
) -> Evidence:
    def logs(sample: Floats, axis: int = -1) -> Floats:
        return log_optima(rates, sample.mean(axis=-1))

    widths: Sequence[int] = [int(width) for width in cells.width.values]
    if not np.all(np.isfinite(logs(losses))):
        nothing = ExponentFit(np.nan, np.nan, np.nan)
        return Evidence.of_fit(nothing, predicted=predicted, simulated=None)
    fit = exponent_of(widths, [losses], logs, by_jackknife=True)
    return Evidence.of_fit(fit, predicted=predicted, simulated=None)


def layers_of(head: str) -> tuple[str, ...]:
    return LAYERS[:2] if head == "tied" else LAYERS


# At larger vocabularies.


def large_rates(data: xr.Dataset, path: str, layer: str) -> tuple[Floats, Floats]:
    """Log rates (width, place) at muP's scale and losses (width, place, seed) that were trained."""
    cells = data.sel(path=path, layer=layer)
    rates = np.log(cells.rate.transpose("width", "place").to_numpy())
    losses = cells.loss.transpose("width", "place", "seed").to_numpy()
    places = np.isfinite(rates[0])
    return rates[:, places], losses[:, places]


def large_rate_exponent(data: xr.Dataset, path: str, layer: str) -> Evidence:
    """Exponent of d in the best rate beyond muP's, one layer's rate searched alone."""
    return _exponent_of_rates(data, *large_rates(data, path, layer), predicted=0.0)


def constant_rate_loss(
    data: xr.Dataset, read: Callable[[xr.Dataset], tuple[Floats, Floats]]
) -> Evidence:
    """Loss at the widest network by the head's rate that serves the narrowest, over that at muP's
    scale: the rate in the grid's middle, and the one that is larger by the ratio of widths.

    `read`: log rates (width, place) at muP's scale and losses (width, place, seed).
    """
    rates, losses = read(data)
    growth = float(np.log(data.width.values[-1] / data.width.values[0]))
    middle = rates.shape[1] // 2
    same = int(np.argmin(np.abs(rates[-1] - rates[-1, middle] - growth)))

    def ratio(sample: Floats, axis: int = -1) -> Floats:
        mean = sample.mean(axis=axis)
        return mean[same] / mean[middle]

    return Evidence(predicted=1.0, simulated=None, measured=jackknife(ratio, [losses[-1]]))
