"""A study: what is measured over a grid of cells, as one labelled dataset."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
import xarray as xr

from dynsim._compiled import SYMPY as SYMPY  # cells run in threads, and sympy must not
from dynsim._programs import compiled_sooner
from experiments.cells.complete import CellJob, complete_cells
from experiments.cells.executors import Executor, ThreadExecutor
from experiments.cells.store import Arrays, Store
from experiments.results import fingerprint, provenance

from ._seeds import check_run

Cell = Mapping[str, Any]
Advance = Callable[[], object]
DIMS = " dims"


@dataclass(frozen=True)
class Study:
    """A measurement over a grid.

    - `cells`: the labelled cells of the quick (False) or full (True) version; none where there is
      no quick version.
    - `measure`: one cell's variables by name, as (dimensions, values). Its argument `seed` is that
      of the run (default 0), of which `run_seed` makes the seeds of random numbers.
    - `config`: everything else that the numbers depend on.
    - `labels`: the coordinates of the dimensions that `measure` returns (without: 0, 1, 2, ...).
    - `coordinates`: variables that describe cells, and become coordinates.
    - `laboratory`: a study of minutes in its quick version too (`full` is for a GPU), which is run
      when it is asked for by name.
    """

    name: str
    cells: Callable[[bool], Sequence[Cell]]
    measure: Callable[..., Mapping[str, tuple[Sequence[str], Any]]]
    config: Callable[[bool], Mapping[str, Any]]
    labels: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    coordinates: Sequence[str] = ()
    laboratory: bool = False

    def description(self, full: bool, seed: int = 0) -> dict[str, Any]:
        """What a run's numbers depend on, beside code, libraries and device."""
        cells = list(self.cells(full))
        return {"study": self.name, "cells": cells, **self._settings(full, seed)}

    def fingerprint(self, full: bool, seed: int = 0) -> str:
        return fingerprint(self.description(full, seed))

    def run(
        self,
        full: bool,
        advance: Advance = lambda: None,
        store: Store | None = None,
        where: Executor | None = None,
        *,
        seed: int = 0,
    ) -> xr.Dataset:
        """Measures every cell; `advance` is called after each.

        With a `store`, each finished cell is kept there, and one that would come out the same is
        taken from there. Runs of different `seed` share no random numbers. Raises `InputError` for
        a seed that is no integer from 0 on.
        """
        check_run(seed)
        found = complete_cells(
            self.jobs(full, seed), measured_cell, where or self._threads(), store, advance
        )
        return self.dataset(self.cells(full), found, full, seed)

    def dataset(
        self, cells: Sequence[Cell], found: Sequence[Arrays], full: bool, seed: int = 0
    ) -> xr.Dataset:
        """What was `found` in these `cells`, which may be some of them, as one dataset."""
        pieces = [_labelled(cell, arrays) for cell, arrays in zip(cells, found, strict=True)]
        dataset = _combined(pieces).set_coords(self.coordinates)
        counted = {name: np.arange(size) for name, size in dataset.sizes.items()}
        unlabelled = {k: v for k, v in counted.items() if k not in dataset.coords}
        dataset = dataset.assign_coords({**unlabelled, **self.labels})
        description = self.description(full, seed)
        return dataset.assign_attrs(
            provenance(description), study=self.name, fingerprint=fingerprint(description)
        )

    def _settings(self, full: bool, seed: int) -> dict[str, Any]:
        # Without a seed of its own a run is described as runs were before there were seeds.
        return {**self.config(full), **({"seed": seed} if seed else {})}

    def jobs(self, full: bool, seed: int = 0) -> list[CellJob]:
        """What `measured_cell` computes of every cell, in their order."""
        cells, config = self.cells(full), self._settings(full, seed)
        made = fingerprint({"study": self.name, **config})
        measure = self.measure if full or self.laboratory else partial(_sooner, self.measure)
        jobs = []
        for cell in cells:
            identity = f"{made} {json.dumps(dict(cell), sort_keys=True)}"
            name = hashlib.sha256(identity.encode()).hexdigest()[:32]
            jobs.append(CellJob(name, identity, (measure, dict(cell), dict(config))))
        return jobs

    def _threads(self) -> Executor:
        # Compilation dominates small cells and leaves a core idle; two at a time share the cores.
        # On an accelerator one cell of the laboratory takes a fixed share of the memory.
        alone = self.laboratory and jax.default_backend() != "cpu"
        return ThreadExecutor(1 if alone else 2)


def _sooner(measure: Callable[..., Any], **options: Any) -> Any:
    """A cell of a quick version: compiling takes longer there than what is compiled."""
    with compiled_sooner():
        return measure(**options)


def measured_cell(
    job: tuple[Callable[..., Any], dict[str, Any], dict[str, Any]], progress: object = None
) -> Arrays:
    """One cell's variables, and the names of each one's dimensions."""
    measure, cell, config = job
    variables = xr.Dataset(dict(measure(**cell, **config))).variables
    values = {str(name): variable.to_numpy() for name, variable in variables.items()}
    dims = {
        f"{name}{DIMS}": np.array(variable.dims, dtype=str) for name, variable in variables.items()
    }
    return values | dims


def _labelled(cell: Cell, arrays: Arrays) -> xr.Dataset:
    """The dataset of a measured cell, with the cell's labels as coordinates."""
    names = [name for name in arrays if not name.endswith(DIMS)]
    variables = {name: (arrays[f"{name}{DIMS}"].tolist(), arrays[name]) for name in names}
    return xr.Dataset(variables).assign_coords(cell).expand_dims(list(cell))


def _combined(pieces: Sequence[xr.Dataset]) -> xr.Dataset:
    """One dataset of labelled cells; NaN where cells have different coordinates or are missing."""
    indexes = [{name: tuple(index) for name, index in piece.indexes.items()} for piece in pieces]
    cells = math.prod(len({index.get(name) for index in indexes}) for name in indexes[0])
    if cells == len(pieces):
        dataset = xr.combine_by_coords(pieces, join="outer")
        assert isinstance(dataset, xr.Dataset)
        return dataset
    return xr.merge(pieces, join="outer", compat="no_conflicts")


def grid(**axes: Iterable[Any]) -> list[Cell]:
    """Every combination of the axes' values, as cells."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
