"""A map by mean-field theory: one solution for all cells that differ in rates or steps alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._outcome import Status
from dynsim._setup import Setup
from dynsim.scaling._quantity import Unavailable
from dynsim.theory.mean_field._predict import enough_particles, predict

from ._axes import Floats
from ._colours import Colour
from ._plane import Missing, Plane

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[float], object]
COLUMNS = {"projection_step_rms": -1, "loss": 0}  # where T updates stand beside index T
PARTICLES, REPLICAS = 512, 8


class CellStore(Protocol):
    """Where finished cells are kept: `read` gives None for a cell that is not there."""

    def read(self, name: str, identity: str) -> Arrays | None: ...
    def write(self, name: str, identity: str, arrays: Arrays) -> None: ...


@dataclass(frozen=True)
class Accuracy:
    """Particles and replicas of the solver; None: 512 and 8, or what outputs and steps need."""

    particles: int | None = None
    replicas: int | None = None


@dataclass(frozen=True)
class _Reading:
    """A value to be read: of which cell, on which side of its width, at which rates and update."""

    cell: tuple[int, int]
    side: int
    rates: tuple[float, float]
    updates: int


def mean_field_values(
    plane: Plane,
    colour: Colour,
    missing: Missing,
    accuracy: Accuracy,
    store: CellStore | None,
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Values and their numerical errors at every cell that is not missing, shape (y, x).

    Raises `Unavailable` for a colour that the solver does not give.
    """
    if colour.quantity not in COLUMNS:
        raise Unavailable(f"{colour.name} is not solved by mean-field theory")
    shape = missing.codes.shape
    sides = 2 if colour.slope else 1
    logs, errors = np.full((sides, *shape), np.nan), np.full((sides, *shape), np.nan)
    widths = np.full((sides, *shape), np.nan)
    solutions: dict[Setup, list[_Reading]] = {}
    for cell in zip(*np.nonzero(missing.codes == 0), strict=True):
        row, column = int(cell[0]), int(cell[1])
        try:
            setup = plane.setup(plane.x.values[column], plane.y.values[row])
            for side, one in enumerate(beside(setup) if colour.slope else [setup]):
                rates = (one.embedding_lr, one.projection_lr)
                reading = _Reading((row, column), side, rates, one.steps - 1)
                solutions.setdefault(_common(one), []).append(reading)
                widths[side, row, column] = one.width
        except InputError as error:
            _mark(missing, (row, column), f"`{error.field}` {error.allowed}")
    weights = [_work(readings) for readings in solutions.values()]
    for weight, (common, readings) in zip(weights, solutions.items(), strict=True):
        share = weight / sum(weights)

        def report(part: float, share: float = share) -> None:
            progress(part * share)

        try:
            solved = _solved(common, readings, colour.quantity, accuracy, store, report)
        except InputError as error:
            for reading in readings:
                _mark(missing, reading.cell, f"`{error.field}` {error.allowed}")
            continue
        for reading in readings:
            value, error, diverged = solved[reading]
            if diverged or not np.isfinite(value):
                _mark(missing, reading.cell, "the loss diverged")
            place = (reading.side, *reading.cell)
            with np.errstate(all="ignore"):
                logs[place], errors[place] = np.log(value), error / value
    if not colour.slope:
        values = np.exp(logs[0])
        return values, errors[0] * values
    octave = np.log(widths[1] / widths[0])
    return (logs[1] - logs[0]) / octave, np.hypot(errors[0], errors[1]) / octave


def beside(setup: Setup) -> list[Setup]:
    """The two setups whose slope is the local exponent: half an octave below and above.

    Raises `InputError` for a width that has no two neighbours.
    """
    low, high = round(setup.width / 2**0.5), round(setup.width * 2**0.5)
    if not 1 <= low < high:
        raise InputError("width", setup.width, "must be at least 2 for a slope in the width")
    return [replace(setup, width=low), replace(setup, width=high)]


def _mark(missing: Missing, cell: tuple[int, int], reason: str) -> None:
    here = np.zeros(missing.codes.shape, dtype=bool)
    here[cell] = True
    missing.mark(here, reason)


def _common(setup: Setup) -> Setup:
    """What setups share that one solution serves."""
    steps = setup.steps if setup.schedule != "constant" else 1
    return replace(setup, embedding_lr=0.0, projection_lr=0.0, steps=steps)


def _work(readings: Sequence[_Reading]) -> float:
    rates = {reading.rates for reading in readings}
    return float(len(rates) * max(reading.updates for reading in readings) ** 2)


def _solved(
    common: Setup,
    readings: Sequence[_Reading],
    column: str,
    accuracy: Accuracy,
    store: CellStore | None,
    progress: Progress,
) -> dict[_Reading, tuple[float, float, bool]]:
    """Value, error and divergence of every reading, from the store or by the solver."""
    pairs = sorted({reading.rates for reading in readings})
    setup = replace(common, steps=max(reading.updates for reading in readings) + 1)
    particles = accuracy.particles or enough_particles(setup, PARTICLES)
    replicas = accuracy.replicas or REPLICAS
    identity = json.dumps([setup.resolved(), pairs, particles, replicas, column])
    name = f"mean_field_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    kept = None if store is None else store.read(name, identity)
    if kept is None:
        rates = np.asarray(pairs)
        result = predict(
            setup,
            particles=particles,
            replicas=replicas,
            embedding_lrs=rates[:, 0],
            projection_lrs=rates[:, 1],
            progress=progress,
        )
        ended = [one.status is Status.DIVERGED for one in result.outcome]
        kept = {
            "value": getattr(result, column),
            "error": getattr(result, f"{column}_error"),
            "diverged": np.asarray(ended),
        }
        if store is not None:
            store.write(name, identity, kept)
    else:
        progress(1.0)
    found = {}
    for reading in readings:
        pair, index = pairs.index(reading.rates), reading.updates + COLUMNS[column]
        entry = (float(kept[one][pair, index]) for one in ("value", "error"))
        found[reading] = (*entry, bool(kept["diverged"][pair]))
    return found
