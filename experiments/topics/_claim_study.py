"""The study that claims written as data need, and their evidence from its dataset.

A cell is a setup with its seeds and what is recorded of it (or solved by mean-field theory), as
JSON text; claims that need the same cell share it. Its networks have the labels `first`, `first` +
1, and so on; `first` is left out where it is 0. Arrays of cells of different sizes stand in one
variable, filled up with NaN; `..._shape` holds the size of each.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim.claims import Claim, Finding
from dynsim.claims._verify import claim_setups, finding, fresh, version
from dynsim.scaling import Measurement, Quantity, Value
from dynsim.scaling._exponent import named_quantity
from dynsim.scaling._fitted import Fitted, fitted
from dynsim.scaling._measured import Measure, measured_cells, own_labels
from dynsim.scaling._quantity import AnySetup
from dynsim.scaling.quantities._registry import QUANTITIES
from experiments.results import study_config

from ._study import Cell, Study

Variables = Mapping[str, tuple[Sequence[str], Any]]
SOLVED = "mean_field"


def claim_study(name: str, claims: Sequence[Claim], *, quick: bool = True) -> Study:
    """The study that measures every cell of these claims once; without `quick` with --full only."""

    def cells(full: bool) -> list[Cell]:
        return claim_cells([version(one, full=full) for one in claims]) if full or quick else []

    return Study(
        name,
        cells=cells,
        measure=measured_cell,
        config=lambda full: {"full": full},
    )


def claim_cells(claims: Sequence[Claim]) -> list[Cell]:
    """The distinct cells of several claims, in their order; the run's seed is not part of them."""
    found: dict[str, None] = {}
    for one in claims:
        quantity = named_quantity(one.quantity)
        setups = claim_setups(one)
        assert quantity.measurement is not None
        labels = own_labels(setups, np.arange(one.seeds))
        for setup, own in zip(setups, labels, strict=True):
            found[_measured(quantity.measurement, setup, own)] = None
        if one.against == "mean_field":
            found |= dict.fromkeys(_solved(quantity, setup) for setup in setups)
    return [{"cell": text} for text in found]


def claim_finding(claim: Claim, data: xr.Dataset) -> Finding:
    """A claim judged on a dataset that holds its cells."""

    def solve(quantity: Quantity, setups: Sequence[AnySetup]) -> list[Value]:
        values = [_arrays(data, _solved(quantity, setup), SOLVED) for setup in setups]
        return [Value(*map(float, one["value"])) for one in values]

    full = study_config(data)["full"]
    return finding(claim, measure=_kept_in(data), solve=solve, full=full)


def claim_networks(claim: Claim, data: xr.Dataset) -> Fitted:
    """What networks measured along a claim's first path, without theory or verdict."""
    chosen = version(claim, full=study_config(data)["full"])
    quantity, setups = named_quantity(chosen.quantity), claim_setups(chosen)
    cells = measured_cells(quantity, setups, chosen.seeds, measure=_kept_in(data))
    return fitted(chosen.sizes, cells[: len(chosen.sizes)])


def _kept_in(data: xr.Dataset) -> Measure:
    """The arrays of cells that were measured before."""

    def measure(measurement: Measurement, setup: AnySetup, labels: NDArray[np.int64]) -> Any:
        return _arrays(data, _measured(measurement, setup, labels), measurement.name)

    return measure


def extended(study: Study, kept: xr.Dataset) -> Study:
    """The study with all cells of an earlier dataset, which are taken from there."""
    before = kept["cell"].values.tolist()

    def measure(cell: str, **config: Any) -> Variables:
        if cell not in before:
            return measured_cell(cell, **config)
        prefix = _prefix(json.loads(cell))
        return _variables(prefix, _arrays(kept, cell, prefix))

    def cells(full: bool) -> list[Cell]:
        needed = [cell["cell"] for cell in study.cells(full)]
        return [{"cell": text} for text in dict.fromkeys([*before, *needed])]

    return replace(study, cells=cells, measure=measure)


def measured_cell(cell: str, full: bool, seed: int = 0) -> Variables:
    """One cell's variables: what its measurement recorded, or the mean-field value."""
    description = json.loads(cell)
    setup = fresh(_setup(description), seed)
    if SOLVED in description:
        (value,) = QUANTITIES[description[SOLVED]].mean_field([setup])
        return _variables(SOLVED, {"value": np.array(value)})
    measurement = _measurements()[description["measured"]]
    labels = description.get("first", 0) + np.arange(description["seeds"])
    return _variables(measurement.name, measurement.run(setup, labels, lambda part: None))


@cache
def _measurements() -> dict[str, Measurement]:
    found = (quantity.measurement for quantity in QUANTITIES.values())
    return {one.name: one for one in found if one is not None}


def _prefix(description: Mapping[str, Any]) -> str:
    return SOLVED if SOLVED in description else description["measured"]


def _measured(measurement: Measurement, setup: AnySetup, labels: NDArray[np.int64]) -> str:
    first = int(labels[0])
    assert np.array_equal(labels, first + np.arange(len(labels)))
    seeds = {"seeds": len(labels), **({"first": first} if first else {})}
    return json.dumps({"measured": measurement.name, **seeds, **_fields(setup)})


def _solved(quantity: Quantity, setup: AnySetup) -> str:
    return json.dumps({SOLVED: quantity.name, **_fields(setup)})


def _fields(setup: AnySetup) -> dict[str, Any]:
    """Sizes and what is not at its default."""
    fields = {
        one.name: (getattr(setup, one.name), one.default) for one in dataclasses.fields(setup)
    }
    sizes = ("width", "vocab_size", "steps")
    return {
        name: value for name, (value, usual) in fields.items() if name in sizes or value != usual
    }


def _setup(description: Mapping[str, Any]) -> AnySetup:
    from dynsim import NetworkSetup, Setup

    kind = NetworkSetup if "network" in description else Setup
    known = {one.name for one in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in description.items() if name in known})


def _variables(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Variables:
    """Arrays with named dimensions, and their shapes. Seeds stand last where there are any."""
    found: dict[str, tuple[Sequence[str], Any]] = {}
    for name, values in arrays.items():
        full, axes = f"{prefix}.{name}", f"{prefix}.{name}.axis"
        dims = [f"{full}.{number}" for number in range(values.ndim)]
        sizes = dict(zip([*dims, axes], [*values.shape, values.ndim], strict=True))
        found |= {dim: ((dim,), np.arange(size)) for dim, size in sizes.items()}
        found[full] = (dims, values)
        found[f"{full}.shape"] = ((axes,), np.array(values.shape, dtype=np.int64))
    return found


def _arrays(data: xr.Dataset, cell: str, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays of a cell, as they were measured. Raises `KeyError` for a cell that is missing."""
    chosen = data.sel(cell=cell)
    found = {}
    for shape in (str(name) for name in chosen.data_vars if str(name).endswith(".shape")):
        name, sizes = shape.removesuffix(".shape"), chosen[shape].to_numpy()
        if name.startswith(f"{prefix}.") and not np.isnan(sizes).any():
            slices = tuple(slice(int(size)) for size in sizes)
            found[name.removeprefix(f"{prefix}.")] = chosen[name].to_numpy()[slices]
    return found
