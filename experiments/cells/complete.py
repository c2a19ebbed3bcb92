"""Computes the cells that a store lacks, and the file that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from experiments.results import save

from .executors import Executor
from .store import REPEATABLE, Arrays, Store, open_store, writing


class CellJob(NamedTuple):
    """A cell to compute.

    - `name`: of its file, without the suffix.
    - `identity`: a text that is equal only where the numbers are.
    - `job`: what the function that computes it is called with.
    """

    name: str
    identity: str
    job: Any


def complete_cells(
    cells: Sequence[CellJob],
    function: Callable[..., Arrays],
    where: Executor,
    store: Store | None = None,
    advance: Callable[[], object] = lambda: None,
) -> list[Arrays]:
    """`function` of every cell's job, in the order of `cells`.

    What the store holds is taken from there, and what it lacks is computed and kept. `advance` is
    called once for each cell.
    """
    found: dict[int, Arrays] = {}
    for number, cell in enumerate(cells):
        kept = None if store is None else store.read(cell.name, cell.identity)
        if kept is not None:
            found[number] = kept
            advance()
    missing = ((number, cell.job) for number, cell in enumerate(cells) if number not in found)
    with where:
        for number, arrays in where.results(function, list(missing), lambda *_: None):
            if store is not None:
                store.write(cells[number].name, cells[number].identity, arrays)
            found[number] = arrays
            advance()
    return [found[number] for number in range(len(cells))]


def complete_file(path: Path, measure: Callable[[Store], xr.Dataset]) -> xr.Dataset:
    """What `measure` makes of the cells in its store, written to `path`.

    After an interruption the next call finds the finished cells; once the file is written they are
    removed. Raises `InputError` where another process works on `path` or it cannot be written.
    """
    with open_store(path, resume=True, advice=REPEATABLE) as store:
        try:
            dataset = measure(store)
        finally:
            store.remove_if_empty()
        with writing(path, REPEATABLE):
            save(dataset, path)
        store.remove()
    return dataset
