"""Evidence about the ratio of the embedding's learning rate to that of hidden layers.

The rate of a choice of layers is its *sufficient* one: the smallest at which the loss falls by nine
tenths of what the best rate makes it fall. It is the lower end of the near-optimal rates, and
unlike the best rate it does not depend on which of several valleys of the loss is deepest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim import Estimate, bootstrap
from dynsim.claims import Evidence
from dynsim.statistics import Resamples, exponent_of, log_slope
from experiments.results import study_config

from .study import EMBEDDING_LR, trained_matrices

Floats = NDArray[np.float64]
RESAMPLES = Resamples.QUICK
SHARE = 0.9  # of what the best rate removes
LEAST = 0.001  # of the initial loss that the best rate must remove
VOCAB_EXPONENTS = {"fixed": 0.0, "proportional": 1.0, "superlinear": 1.5}
WITH_EMBEDDING = ("embedding+hidden", "all")
LARGEST_COMPARED = 1024  # width of theory beside networks


class Family(NamedTuple):
    """What is trained, and along which path the sizes grow."""

    optimizer: str
    path: str
    depth: int
    layers: str


def horizons(data: xr.Dataset) -> list[int]:
    return study_config(data)["horizons"]


def family_widths(data: xr.Dataset, family: Family, source: str) -> list[int]:
    sizes = data.vocab_size.sel(_labels(family, source))
    return [int(width) for width in sizes.width.values[sizes.notnull().values]]


def _labels(family: Family, source: str) -> dict[str, Any]:
    """Of the cells of a family."""
    return {
        "optimizer": family.optimizer,
        "path": family.path,
        "depth": family.depth,
        "source": source,
    }


class Curve(NamedTuple):
    """Learning rates (K,) and losses (K + 1, S) of a cell, the last row without the layers."""

    rates: Floats
    losses: Floats


def curve(data: xr.Dataset, family: Family, source: str, width: int, horizon: int) -> Curve:
    at = {**_labels(family, source), "width": width}
    place = horizons(data).index(horizon)
    losses = data.loss.sel(layers=family.layers, **at).isel(horizon=place)
    losses = losses.transpose("octave", "seed").to_numpy()
    known = ~np.isnan(losses).all(axis=0)
    without = np.ones(known.sum())
    if family.layers in WITH_EMBEDDING:
        without = data.loss_alone.sel(at).isel(horizon=place).to_numpy()[known]
    rows = np.concatenate([losses[:, known], without[None]]).astype(np.float64)
    return Curve(data.rate.sel(layers=family.layers, **at).to_numpy(), rows)


def log_sufficient(rates: Floats, losses: Floats, axis: int = -1) -> Floats:
    """ln of the sufficient rate; NaN where it lies at the grid's lower end, or none helps.

    `losses` as in a `Curve`; between rates and seeds may stand resamples, for shape (resamples,).
    """
    mean = losses.mean(axis=axis)
    removed = mean[-1] - mean[:-1]
    most = removed.max(axis=0)
    needed = SHARE * most
    first = np.argmax(removed >= needed, axis=0)
    place = np.maximum(first, 1)
    below, above = (np.take_along_axis(removed, k[None], axis=0)[0] for k in (place - 1, place))
    log_rates = np.log(rates)
    low, high = log_rates[place - 1], log_rates[place]
    with np.errstate(divide="ignore", invalid="ignore"):  # where it is not at `place`
        between = (high - low) / (above - below) * (needed - below) + low
    return np.where((first == 0) | (most < LEAST), np.nan, between)


def log_ratio(layer: Curve, embedding: Curve | None, losses: Sequence[Floats]) -> Floats:
    """ln of the embedding's rate, its own sufficient one or the fixed one, over the layers'."""
    own: float | Floats = math.log(EMBEDDING_LR)
    if embedding is not None:
        own = log_sufficient(embedding.rates, losses[1])
    return own - log_sufficient(layer.rates, losses[0])


def pairs(
    data: xr.Dataset, family: Family, source: str, horizon: int, widths: Sequence[int]
) -> list[tuple[Curve, Curve | None]]:
    """At every width the curve of the layers and, unless it trains beside, the embedding's own."""
    alone = family._replace(layers="embedding")
    return [
        (
            curve(data, family, source, width, horizon),
            None if family.layers in WITH_EMBEDDING else curve(data, alone, source, width, horizon),
        )
        for width in widths
    ]


def _samples(pair: tuple[Curve, Curve | None]) -> Floats:
    """Losses of both curves, shape (1 or 2, K + 1, S): one seed is one network."""
    return np.stack([one.losses for one in pair if one is not None])


def _of_samples(pair: tuple[Curve, Curve | None]) -> Callable[..., Any]:
    return lambda samples, axis=-1: log_ratio(*pair, list(samples))


def ratio_at(data: xr.Dataset, family: Family, source: str, horizon: int, width: int) -> Estimate:
    """ln of the ratio of a cell with its interval."""
    ((pair),) = pairs(data, family, source, horizon, [width])
    samples = [_samples(pair)]
    return bootstrap(_of_samples(pair), samples, resamples=RESAMPLES, vectorized=True)


def theory_ratios(data: xr.Dataset, family: Family, horizon: int) -> tuple[list[int], Floats]:
    """Widths and mean-field ratios."""
    widths = family_widths(data, family, "theory")
    found = pairs(data, family, "theory", horizon, widths)
    return widths, np.exp([_of_samples(pair)(_samples(pair)) for pair in found])


def predicted_power(family: Family) -> float:
    """The derived power of the width in the ratio. Muon's update of a matrix is d times smaller
    than that of sign descent in what it does to the outputs."""
    muon = 1.0 if family.optimizer == "muon" else 0.0
    if family.layers in WITH_EMBEDDING:
        return 1.0 - muon
    power = derivations.ratio_power_together().expression.subs(
        {
            derivations.trained_matrices: trained_matrices(family.layers, family.depth),
            s.vocab_exponent: VOCAB_EXPONENTS[family.path],
        }
    )
    return float(power) - muon


def simulated_slope(data: xr.Dataset, family: Family, horizon: int) -> float:
    """The slope of mean-field theory at widths up to 1024."""
    widths, ratios = theory_ratios(data, family, horizon)
    small = [k for k, width in enumerate(widths) if width <= LARGEST_COMPARED]
    logs = np.log(np.array(widths, dtype=np.float64)[small])
    return float(log_slope(logs, np.log(ratios[small])))


def ratio_exponent(
    data: xr.Dataset, family: Family, horizon: int, *, predicted: float | None = None
) -> Evidence:
    """Exponent of the ratio in networks, against the derived power."""
    widths = family_widths(data, family, "networks")
    found = pairs(data, family, "networks", horizon, widths)
    samples = [_samples(pair) for pair in found]
    readers = [_of_samples(pair) for pair in found]

    def log_ratios(*cells: Floats, axis: int = -1) -> Floats:
        return np.array([read(cell) for read, cell in zip(readers, cells, strict=True)])

    measured = exponent_of(widths, samples, log_ratios, resamples=RESAMPLES)
    return Evidence.of_fit(
        measured,
        predicted=predicted_power(family) if predicted is None else predicted,
        simulated=simulated_slope(data, family, horizon),
    )


def variant_exponent(data: xr.Dataset, variant: str, family: Family, horizon: int) -> Evidence:
    """The same in networks that are not plain or have more than one output."""
    return ratio_exponent(data.sel(variant=variant), family, horizon)


def coordinate_search(losses: Floats, start: tuple[int, ...]) -> tuple[int, ...]:
    """Where a search ends that sets one rate after the other to its best, from a place on a grid.

    Losses above the first one are all the same, so that a line without a better one is no step.
    """
    place = list(start)
    while True:
        before = tuple(place)
        for axis in range(losses.ndim):
            line = losses[tuple(slice(None) if k == axis else i for k, i in enumerate(place))]
            if line.min() < line[place[axis]]:
                place[axis] = int(line.argmin())
        if tuple(place) == before:
            return before
