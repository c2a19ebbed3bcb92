"""From a dataset of a result to its figure: the name of the result says which."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.axes import Axes

from dynsim._errors import InputError

from . import _claims, _curves, _exponents, _maps, _rates, _theory
from ._style import style

Drawing = Callable[[xr.Dataset, Axes | None], Axes]

DRAWINGS: dict[str, Drawing] = {
    "Training": _curves.training,
    "NetworkTraining": _curves.network_training,
    "Prediction": _curves.prediction,
    "Flow": _curves.flow,
    "LinearizedTraining": _curves.linearized,
    "Comparison": _curves.comparison,
    "Coordinates": _curves.coordinates,
    "FirstStep": _theory.first_step,
    "HeadStep": _theory.head_step,
    "AgedUpdate": _theory.aged_update,
    "TokenLaw": _theory.token_law,
    "TokenUpdates": _theory.token_updates,
    "OptimalRates": _rates.optimal_rates,
    "LossSurface": _rates.loss_surface,
    "WidthCurve": _rates.width_curve,
    "Transfer": _rates.transfer,
    "Recommendation": _rates.recommendation,
    "Parametrization": _rates.parametrization,
    "PublishedRules": _rates.published_rules,
    "RegimeMap": _maps.regime_map,
    "ScalingExponent": _exponents.scaling_exponent,
    "Finding": _claims.finding,
    "Verdicts": _claims.verdicts,
}


def draw(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws the dataset of a result: one of `.to_xarray()`, or one that was stored as netCDF.

    On `ax` the main panel is drawn; without it a new figure, whose first axes are returned.
    Raises `InputError` for a dataset that is not of a result.

    **Example:**

    >>> from dynsim import first_step, token_law
    >>> from dynsim.plots import draw, style
    >>> step = first_step("projection", "sign", [64, 256, 1024], token_law("uniform", 256))
    >>> with style():
    ...     axes = draw(step.to_xarray())
    ...
    >>> axes.get_xlabel()
    'width $d$'
    """
    result = dataset.attrs.get("result")
    if result not in DRAWINGS:
        allowed = "must be a dataset of a result, by its to_xarray or read from its netCDF file"
        raise InputError("dataset", result, allowed)
    with style():
        return DRAWINGS[result](dataset, ax)
