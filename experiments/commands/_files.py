"""The files that a command leaves behind: a figure of its result, and the numbers in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._options import Files

if TYPE_CHECKING:
    import xarray as xr


def write_files(
    files: Files, name: str, dataset: Callable[[], xr.Dataset], config: dict[str, Any]
) -> list[Path]:
    """Writes what `files` ask for, and returns the paths.

    `dataset` makes that of a result (`Result.to_xarray`) and is called only if it is needed. Into
    the folder go `name`.png, .pdf and .svg, `name`.nc with the provenance of the numbers, and
    `name`.csv, the result's table.
    """
    if not files.wanted:
        return []
    from dynsim._results import table
    from experiments.output import printed_all_the_same
    from experiments.plots._write import write_result
    from experiments.results import provenance, save, write_file

    numbers = dataset()
    stem = None if files.out is None else files.out / name
    written = write_result(numbers, files.plot, stem)
    if stem is not None:
        stored, rows = stem.with_suffix(".nc"), stem.with_suffix(".csv")
        with printed_all_the_same():
            save(numbers.assign_attrs(provenance(config)), stored)
            written.append(stored)
            write_file(rows, table(numbers).to_csv(index=False).encode())
            written.append(rows)
    return written


def with_files(document: dict[str, Any], written: list[Path]) -> dict[str, Any]:
    """The document, and where there are files their paths under `files`."""
    return document | {"files": written} if written else document


def print_files(written: list[Path]) -> None:
    """A line a file."""
    for path in written:
        print(path)
