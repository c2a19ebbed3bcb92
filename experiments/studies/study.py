"""A study: what is measured over a grid of cells, as one labelled dataset."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from experiments.results import fingerprint, provenance

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
    """

    name: str
    cells: Callable[[bool], Sequence[Cell]]
    measure: Callable[..., Mapping[str, tuple[Sequence[str], Any]]]
    config: Callable[[bool], Mapping[str, Any]]
    labels: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def description(self, full: bool) -> dict[str, Any]:
        return {"study": self.name, "cells": list(self.cells(full)), **self.config(full)}

    def fingerprint(self, full: bool) -> str:
        return fingerprint(self.description(full))

    def run(self, full: bool, advance: Advance = lambda: None) -> xr.Dataset:
        """Measures every cell; `advance` is called after each."""
        config = self.config(full)

        def labelled(cell: Cell) -> xr.Dataset:
            piece = xr.Dataset(dict(self.measure(**cell, **config)))
            advance()
            return piece.assign_coords(cell).expand_dims(list(cell))

        # Compilation dominates small cells and leaves a core idle; two at a time share the cores.
        with ThreadPoolExecutor(max_workers=2) as pool:
            try:
                pieces = list(pool.map(labelled, self.cells(full)))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        dataset = xr.combine_by_coords(pieces, join="outer")
        assert isinstance(dataset, xr.Dataset)
        counted = {name: np.arange(size) for name, size in dataset.sizes.items()}
        unlabelled = {k: v for k, v in counted.items() if k not in dataset.coords}
        dataset = dataset.assign_coords({**unlabelled, **self.labels})
        description = self.description(full)
        return dataset.assign_attrs(
            provenance(description), study=self.name, fingerprint=fingerprint(description)
        )


def grid(**axes: Iterable[Any]) -> list[Cell]:
    """Every combination of the axes' values, as cells."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
