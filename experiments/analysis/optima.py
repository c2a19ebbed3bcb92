"""Optima and exponents of a stored sweep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dynsim import InputError
from dynsim.statistics import (
    LossSurface,
    RateExponent,
    TunedRate,
    is_determined,
    optimum_interval,
    rate_exponent,
    surface_optimum,
)
from experiments.results import load, unreadable
from experiments.sweeps.dataset import contradiction, judged_loss

CELL = ("width", "vocab_size", "embedding_lr", "hidden_lr", "seed")
VARIABLES = {
    "loss": (*CELL, "horizon"),
    "initial_loss": ("width", "vocab_size", "seed"),
    "embedding_lr_factor": ("width",),
    "hidden_lr_factor": ("width",),
}
COORDINATES = ("width", "vocab_size", "embedding_lr", "hidden_lr", "horizon")
WHOLE = ("width", "vocab_size", "horizon")
LARGEST = 2**53  # above it not every whole number is a float
SIZES = ("width", "vocab_size")
Surfaces = dict[tuple[int, int], LossSurface]


def read_sweep(path: Path) -> xr.Dataset:
    """The sweep stored at `path`. Raises `InputError` if there is none."""
    try:
        sweep = load(path)
    except OSError as error:
        raise InputError("FILE", str(path), unreadable(error)) from None
    for name, dimensions in VARIABLES.items():
        if name not in sweep or set(sweep[name].dims) != set(dimensions):
            needed = f"must be a sweep, with {name}({', '.join(dimensions)})"
            raise InputError("FILE", str(path), needed)
        if sweep[name].dtype.kind not in "iuf":
            raise InputError("FILE", str(path), f"must be a sweep, with numbers as its {name}")
    for name in COORDINATES:
        values = sweep[name].values
        numeric = name in sweep.coords and values.dtype.kind in "iuf" and values.ndim == 1
        if not numeric or not values.size or len(set(values)) < len(values):
            needed = f"must be a sweep, with different numbers as its coordinate {name}"
            raise InputError("FILE", str(path), needed)
        whole = name in WHOLE
        if not np.all((values >= (1 if whole else 0)) & (values < LARGEST)):
            needed = f"must be a sweep, with positive, finite numbers as its coordinate {name}"
            raise InputError("FILE", str(path), needed)
        if whole and np.any(values != np.floor(values)):
            needed = f"must be a sweep, with whole numbers as its coordinate {name}"
            raise InputError("FILE", str(path), needed)
    for name in ("embedding_lr_factor", "hidden_lr_factor"):
        if not np.all((sweep[name].values > 0) & np.isfinite(sweep[name].values)):
            needed = f"must be a sweep, with positive, finite numbers as its {name}"
            raise InputError("FILE", str(path), needed)
    if wrong := contradiction(sweep):
        raise InputError("FILE", str(path), f"is damaged: {wrong}")
    sweep = sweep.sortby(list(COORDINATES))
    try:
        found = [surfaces(sweep, int(horizon)) for horizon in sweep.horizon.values]
    except ValueError as error:
        raise InputError("FILE", str(path), str(error)) from error
    if not all(found) or not all(one.tuned_rates for cells in found for one in cells.values()):
        needed = "must hold losses at three or more positive learning rates of a layer"
        raise InputError("FILE", str(path), needed)
    return sweep


def surfaces(sweep: xr.Dataset, horizon: int) -> Surfaces:
    """Losses after `horizon` steps by (width, vocabulary size), where there are any.

    A run counts as diverged if its loss is missing or not finite, or if the file says so at this
    horizon; a flag without horizon is one at the end of training.
    """
    loss = judged_loss(sweep).sel(horizon=horizon).transpose(*CELL)
    initial = sweep.initial_loss.transpose("width", "vocab_size", "seed")
    cells = {}
    for width in sweep.width.values:
        for vocab_size in sweep.vocab_size.values:
            cell = {"width": width, "vocab_size": vocab_size}
            runs, start = loss.sel(cell).values, initial.sel(cell).values
            trained = np.isfinite(start) & ~np.all(np.isnan(runs), axis=(0, 1))
            if np.any(trained):
                rates = sweep.embedding_lr.values, sweep.hidden_lr.values
                cells[int(width), int(vocab_size)] = LossSurface(
                    rates[0].astype(float),
                    rates[1].astype(float),
                    runs[..., trained].astype(float),
                    start[trained].astype(float),
                )
    return cells


def factors(sweep: xr.Dataset, rate: TunedRate) -> dict[int, float]:
    """What the parametrization multiplies the base rate (or ratio) with, by width."""
    factor = {
        "embedding": sweep.embedding_lr_factor,
        "hidden": sweep.hidden_lr_factor,
        "ratio": sweep.embedding_lr_factor / sweep.hidden_lr_factor,
    }[rate.removesuffix("_alone")]
    return {int(w): float(f) for w, f in zip(sweep.width.values, factor.values, strict=True)}


def tuned_rates(cells: Surfaces) -> tuple[TunedRate, ...]:
    """What the grid of these surfaces can tune."""
    return next(iter(cells.values())).tuned_rates


def exponents(
    sweep: xr.Dataset, cells: Surfaces, rate: TunedRate
) -> Iterator[tuple[str, int, RateExponent]]:
    """Exponents of a rate in each size at each value of the other: (size, other's value, fit).

    A size with one value only in the whole file has no exponents.
    """
    by_width = factors(sweep, rate)
    for axis, size in enumerate(SIZES):
        if len({cell[axis] for cell in cells}) < 2:
            continue
        for fixed in sorted({cell[1 - axis] for cell in cells}):
            line = sorted(cell for cell in cells if cell[1 - axis] == fixed)
            fit = rate_exponent(
                [cell[axis] for cell in line],
                [cells[cell] for cell in line],
                rate,
                factors=[by_width[cell[0]] for cell in line],
            )
            yield size, fixed, fit


def horizon_answer(sweep: xr.Dataset, horizon: int) -> dict[str, Any]:
    """Optima of every size and all exponents after `horizon` steps, as a document."""
    cells = surfaces(sweep, horizon)
    rates = tuned_rates(cells)
    by_width = {rate: factors(sweep, rate) for rate in rates}
    optima = [
        {
            "width": width,
            "vocab_size": vocab_size,
            "seeds": len(surface.initial_loss),
            **{rate: _optimum(surface, rate, by_width[rate][width]) for rate in rates},
        }
        for (width, vocab_size), surface in cells.items()
    ]
    fits = [
        {"rate": rate, "size": size, SIZES[1 - SIZES.index(size)]: fixed, **_exponent(fit)}
        for rate in rates
        for size, fixed, fit in exponents(sweep, cells, rate)
    ]
    return {"horizon": horizon, "optima": optima, "exponents": fits}


def _optimum(surface: LossSurface, rate: TunedRate, factor: float) -> dict[str, Any]:
    found = surface_optimum(surface, rate)
    interval = optimum_interval(surface, rate) if is_determined(found) else None
    return {
        "base": found.value,
        "actual": found.value * factor,
        "near_optimal": [found.low, found.high],
        "ci": None if interval is None else [interval.low, interval.high],
        "status": found.status,
        "loss": found.loss,
    }


def _exponent(fit: RateExponent) -> dict[str, Any]:
    return {
        "exponent": fit.value,
        "ci": [fit.low, fit.high],
        "actual_exponent": fit.actual.value,
        "actual_ci": [fit.actual.low, fit.actual.high],
        "rule": fit.rule,
        "drift": fit.drift,
        "without_smallest": fit.without_smallest,
        "theil_sen": fit.theil_sen,
        "reach_drift": fit.narrow_fit_drift,
        "compatible": [fit.compatible_low, fit.compatible_high],
        "status": fit.status,
        "used": fit.used,
        "flat": fit.flat,
        "excluded": fit.excluded,
    }
