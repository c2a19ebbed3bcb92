"""A map: values over two axes, lines, networks, and what could not be computed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynsim._summary import summary

from ._axes import Axis, Floats
from ._boundaries import Boundary
from ._colours import COLOURS, Colour
from ._networks import MapNetworks

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class RegimeMap:
    """A quantity over two sizes, rates or exponents.

    **Fields:**

    - `colour`: its name; `theory`: closed or mean_field.
    - `x`, `y`: the axes, with `name` and `values`.
    - `values`, `errors`: shape (y, x), NaN where there is none; errors are numerical (0: exact).
    - `missing`: 0 where there is a value and k where there is none by the k-th of `reasons`.
    - `reasons`: why cells have no value.
    - `boundaries`: lines on which two parts of the theory are equal.
    - `networks`: what trained networks measured at points of the map, or None.
    - `options`: the other options of the setups; `notes`: what a reader must know.
    """

    colour: str
    theory: str
    x: Axis
    y: Axis
    values: Floats
    errors: Floats
    missing: NDArray[np.int8]
    reasons: tuple[str, ...]
    boundaries: tuple[Boundary, ...]
    networks: MapNetworks | None
    options: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def of(self) -> Colour:
        """What the colour means."""
        return COLOURS[self.colour]

    @property
    def missing_counts(self) -> dict[str, int]:
        """How many cells have no value, by reason."""
        return {
            reason: int(np.count_nonzero(self.missing == code))
            for code, reason in enumerate(self.reasons, start=1)
        }

    def __repr__(self) -> str:
        counted = [f"{count} cells: {reason}" for reason, count in self.missing_counts.items()]
        return summary(
            f"Map of {self.colour} by {self.theory} theory",
            meaning=self.of.meaning,
            x=self.x.described(),
            y=self.y.described(),
            options={name: one for name, one in self.options.items() if one is not None},
            values=self.values,
            boundaries="; ".join(map(repr, self.boundaries)) or None,
            networks=self.networks,
            missing="; ".join(counted) or None,
            notes="; ".join(self.notes) or None,
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the map on `ax` or in a new figure, and returns the axes."""
        from dynsim.plots import draw

        return draw(self.to_xarray(), ax)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for every cell: the two axes, the value, its error, why there is none."""
        import pandas as pd

        y, x = np.meshgrid(self.y.values, self.x.values, indexing="ij")
        names = np.array(["", *self.reasons])
        columns = {
            self.x.name: _whole(self.x, x.ravel()),
            self.y.name: _whole(self.y, y.ravel()),
            self.colour: self.values.ravel(),
        }
        if self.theory == "mean_field":
            columns[f"{self.colour}_error"] = self.errors.ravel()
        return pd.DataFrame(columns | {"missing": names[self.missing.ravel()]})

    def networks_dataframe(self) -> pd.DataFrame:
        """A row for every point at which networks were trained."""
        import pandas as pd

        found = self.networks
        names = ("value", "low", "high", "theory", "misses")
        if found is None:
            return pd.DataFrame(columns=[self.x.name, self.y.name, *names])
        places = {
            self.x.name: _whole(self.x, found.x),
            self.y.name: _whole(self.y, found.y),
        }
        return pd.DataFrame(places | {name: getattr(found, name) for name in names})

    def document(self) -> dict[str, Any]:
        """The map as plain values: axes, values by row, lines, networks, and what is missing."""
        found = self.networks
        networks: dict[str, Any] | None = None
        if found is not None:
            names = ("x", "y", "value", "low", "high", "theory", "misses")
            networks = {name: getattr(found, name) for name in names}
            networks |= {"seeds": found.seeds, "left_out": found.left_out}
        return {
            "colour": self.colour,
            "meaning": self.of.meaning,
            "theory": self.theory,
            "axes": {
                place: {"name": one.name, "spacing": one.spacing, "values": _whole(one, one.values)}
                for place, one in (("x", self.x), ("y", self.y))
            },
            "values": self.values,
            "errors": self.errors if self.theory == "mean_field" else None,
            "missing": {"counts": self.missing_counts, "cells": self.missing},
            "boundaries": [
                {
                    "name": line.name,
                    "meaning": line.meaning,
                    "formula": line.formula,
                    "curves": list(line.curves),
                }
                for line in self.boundaries
            ],
            "networks": networks,
            "notes": self.notes,
        }

    def to_xarray(self) -> xr.Dataset:
        """Everything as a dataset with the axes as coordinates.

        A boundary is a variable of shape (its points, 2), its pieces separated by NaN.
        """
        import xarray as xr

        dims = (self.y.name, self.x.name)
        coordinates: dict[str, Any] = {
            axis.name: (axis.name, _whole(axis, axis.values), _about(axis))
            for axis in (self.x, self.y)
        }
        of: dict[str, Any] = {
            "long_name": self.of.meaning,
            "label": self.of.label,
            "scale": self.of.scale,
        }
        if self.of.limits is not None:
            of["limits"] = np.asarray(self.of.limits)
        variables: dict[str, Any] = {self.colour: (dims, self.values, of)}
        if self.theory == "mean_field":
            error = {"long_name": f"numerical error of {self.colour}"}
            variables[f"{self.colour}_error"] = (dims, self.errors, error)
        why = {"long_name": "0, or the number of the reason why there is no value"}
        variables["missing"] = (dims, self.missing, why)
        for line in self.boundaries:
            about = {"long_name": line.meaning, "formula": line.formula, "drawn": line.drawn}
            pieces = [np.vstack([piece, [[np.nan, np.nan]]]) for piece in line.curves]
            axes = (f"{line.name}_point", "coordinate")
            variables[f"boundary_{line.name}"] = (axes, np.vstack(pieces)[:-1], about)
        if self.boundaries:
            coordinates["coordinate"] = ("coordinate", [self.x.name, self.y.name], {})
        if self.networks is not None:
            found = self.networks
            for name in ("x", "y", "value", "low", "high", "theory", "misses"):
                variables[f"network_{name}"] = ("network", getattr(found, name), {})
        attrs: dict[str, Any] = {
            "result": type(self).__name__,
            "colour": self.colour,
            "theory": self.theory,
            "x": self.x.name,
            "y": self.y.name,
            "setup": json.dumps(self.options, default=str),
            "reasons": json.dumps(self.missing_counts),
            "notes": json.dumps(self.notes),
            "dynsim": metadata.version("dynsim"),
        }
        if self.networks is not None:
            attrs["left_out"] = json.dumps(self.networks.left_out)
            attrs["seeds"] = len(self.networks.seeds)
        return xr.Dataset(variables, coordinates, attrs)


def _whole(axis: Axis, values: Floats) -> NDArray[Any]:
    return values.astype(np.int64) if axis.integer else values


def _about(axis: Axis) -> dict[str, str]:
    return {"long_name": axis.label, "spacing": axis.spacing}
