"""A study: what is measured over a grid of cells, as one labelled dataset."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.results import fingerprint, load, provenance, save

SYMPY = threading.Lock()  # cells run in threads, and sympy must not
Cell = Mapping[str, Any]
Advance = Callable[[], object]


@dataclass(frozen=True)
class Study:
    """A measurement over a grid.

    - `cells`: the labelled cells of the quick (False) or full (True) version; none where there is
      no quick version.
    - `measure`: one cell's variables by name, as (dimensions, values).
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

    def description(self, full: bool) -> dict[str, Any]:
        return {"study": self.name, "cells": list(self.cells(full)), **self.config(full)}

    def fingerprint(self, full: bool) -> str:
        return fingerprint(self.description(full))

    def run(
        self, full: bool, advance: Advance = lambda: None, folder: Path | None = None
    ) -> xr.Dataset:
        """Measures every cell; `advance` is called after each.

        With a `folder`, each finished cell is kept there, and one that would come out the same is
        taken from there.
        """
        config = self.config(full)

        def finished(cell: Cell) -> xr.Dataset:
            piece = _kept(self._cell_file(folder, cell, full), lambda: labelled(cell))
            advance()
            return piece

        def labelled(cell: Cell) -> xr.Dataset:
            piece = xr.Dataset(dict(self.measure(**cell, **config)))
            return piece.assign_coords(cell).expand_dims(list(cell))

        # Compilation dominates small cells and leaves a core idle; two at a time share the cores.
        # On an accelerator one cell of the laboratory takes a fixed share of the memory.
        alone = self.laboratory and jax.default_backend() != "cpu"
        pool = ThreadPoolExecutor(max_workers=1 if alone else 2)
        try:
            pieces = list(pool.map(finished, self.cells(full)))
        finally:  # after an interruption, without waiting for the cells that are being measured
            pool.shutdown(wait=False, cancel_futures=True)
        dataset = _combined(pieces).set_coords(self.coordinates)
        counted = {name: np.arange(size) for name, size in dataset.sizes.items()}
        unlabelled = {k: v for k, v in counted.items() if k not in dataset.coords}
        dataset = dataset.assign_coords({**unlabelled, **self.labels})
        description = self.description(full)
        return dataset.assign_attrs(
            provenance(description), study=self.name, fingerprint=fingerprint(description)
        )

    def _cell_file(self, folder: Path | None, cell: Cell, full: bool) -> Path | None:
        if folder is None:
            return None
        made = {"study": self.name, "cell": dict(cell), **self.config(full)}
        return folder / f"{self.name}-{fingerprint(made)[:32]}.nc"


def _combined(pieces: Sequence[xr.Dataset]) -> xr.Dataset:
    """One dataset of labelled cells; NaN where cells have different coordinates or are missing."""
    indexes = [{name: tuple(index) for name, index in piece.indexes.items()} for piece in pieces]
    cells = math.prod(len({index.get(name) for index in indexes}) for name in indexes[0])
    if cells == len(pieces):
        dataset = xr.combine_by_coords(pieces, join="outer")
        assert isinstance(dataset, xr.Dataset)
        return dataset
    return xr.merge(pieces, join="outer", compat="no_conflicts")


def _kept(file: Path | None, measure: Callable[[], xr.Dataset]) -> xr.Dataset:
    """The dataset at `file`, measured and kept there if there is none."""
    if file is None:
        return measure()
    try:
        return load(file)
    except (OSError, ValueError):
        dataset = measure()
        with contextlib.suppress(OSError):  # a folder that cannot be written only costs time
            save(dataset, file)
        return dataset


def grid(**axes: Iterable[Any]) -> list[Cell]:
    """Every combination of the axes' values, as cells."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
