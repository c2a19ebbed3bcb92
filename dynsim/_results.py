"""What every result can do: become a labelled dataset, a table, and a figure.

A result declares in `arrays` which dimensions each of its arrays has. All else follows from that:
names, units and symbols come from `dynsim._names`, figures from `dynsim.plots`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ._names import attributes, name_of
from ._outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

Source = str | Callable[[Any], Any]
Declared = Mapping[str, str | tuple[str, Source]]


class Result:
    """A result with a dataset, a table and a figure.

    `arrays` declares the arrays by name: their dimensions as words, and where they are found, by
    default in the field of the same name, else in another field or by a function of the result::

        arrays: ClassVar[Declared] = {
            "loss": "rates seed step",
            "seed": ("seed", "seeds"),
            "status": ("rates", lambda result: [str(one) for one in result.outcome]),
        }

    The first array is the main one: `to_dataframe` has a row for each of its entries. An array of
    fewer dimensions than declared has the first of them, one of more is laid out in one row.
    """

    arrays: ClassVar[Declared]

    def described_by(self) -> dict[str, Any]:
        """What was computed: the setup's options by name."""
        setup: Any = getattr(self, "setup", None)
        return {} if setup is None else setup.resolved()

    def to_xarray(self) -> xr.Dataset:
        """All arrays as an `xarray.Dataset`.

        Every array has the attributes `long_name`, `units` and, where there is one, `symbol`. The
        dataset has the attributes `result` (the name of the class), `setup` (its options as JSON),
        `dynsim` (the version) and the single numbers and texts of the result.
        """
        arrays = {}
        for name, declared in type(self).arrays.items():
            dims, source = (declared, name) if isinstance(declared, str) else declared
            value = getattr(self, source) if isinstance(source, str) else source(self)
            if value is not None:
                arrays[name] = (tuple(dims.split()), value)
        described = self.described_by()
        return labelled(type(self).__name__, arrays, described, **_scalars(self, described))

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row for each entry of the main array, such as the loss.

        Its columns are the coordinates and all arrays that have no other dimensions.
        """
        return table(self.to_xarray())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the result, on `ax` or in a new figure, and returns the (first) axes.

        A new figure may have several panels; `plot().figure` is the whole. On `ax` only the main
        one is drawn. What bands and bars are is said in the figure.
        """
        from dynsim.plots import draw

        return draw(self.to_xarray(), ax)


def labelled(
    result: str,
    arrays: Mapping[str, tuple[tuple[str, ...], Any]],
    setup: Mapping[str, Any],
    **attrs: str | float,
) -> xr.Dataset:
    """A dataset of arrays by name, with dimensions and names as `Result.to_xarray` writes them.

    Raises `KeyError` for an array or a dimension without a name in `dynsim._names`.
    """
    import xarray as xr

    loss = str(setup.get("loss", "mse"))
    variables: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for name, (dims, value) in arrays.items():
        values = np.asarray(value)
        if values.ndim > len(dims):
            values = values.ravel()
        elif values.ndim < len(dims) == 1:
            values = np.atleast_1d(values)
        if values.dtype.kind == "O":
            values = values.astype(str)
        variables[name] = (dims[: values.ndim], values, attributes(name, loss))
        sizes |= zip(dims, values.shape, strict=False)
    for dim in sizes.keys() - variables.keys():
        variables[dim] = ((dim,), np.arange(sizes[dim]), attributes(dim, loss))
    coordinates = {name for name in variables if name in sizes or name_of(name).given}
    return xr.Dataset(
        {name: one for name, one in variables.items() if name not in coordinates},
        {name: one for name, one in sorted(variables.items()) if name in coordinates},
        {
            "result": result,
            "setup": json.dumps(setup, default=str),
            "dynsim": metadata.version("dynsim"),
            **attrs,
        },
    )


def table(dataset: xr.Dataset) -> pd.DataFrame:
    """The table of `Result.to_dataframe` from a dataset of `Result.to_xarray`."""
    main = dataset[next(iter(dataset.data_vars))].dims
    columns = [
        name
        for name, one in dataset.variables.items()
        if one.dims and set(one.dims) <= set(main) and name not in main
    ]
    return dataset[columns].to_dataframe(dim_order=list(main)).reset_index()


def _scalars(result: Any, described: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that are one number or one text, and that the setup does not hold."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if field.name in described or field.name in type(result).arrays:
            continue
        if isinstance(value, (Outcome, str)):
            found[field.name] = str(value)
        elif isinstance(value, (float, np.floating)):
            found[field.name] = float(value)
        elif isinstance(value, (bool, int, np.integer)):
            found[field.name] = int(value)
    return found
