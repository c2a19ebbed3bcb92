"""Maps of regimes: theory over two axes, with lines of the theory and trained networks."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError, check_choice, check_integer
from dynsim._precision import require_x64
from dynsim._setup import Setup
from dynsim.scaling._family import DEFAULT_SEEDS
from dynsim.scaling._quantity import Measurement, Unavailable
from dynsim.scaling.quantities._aged import STILL

from ._axes import Axis, Floats, axis
from ._boundaries import boundaries
from ._colours import COLOURS, Colour, projection_moments
from ._colours import colour as named_colour
from ._mean_field import Accuracy, CellStore, mean_field_values
from ._networks import counts, trained
from ._plane import AveragedOver, Missing, Plane, Points, plane
from ._result import RegimeMap

DEFAULT_AXES = {
    "closed": ("width=16:65536:200", "vocab_size=16:1e6:200"),
    "mean_field": ("width=64:16384:8", "vocab_size=64:16384:8"),
}
BATCH_COLOURS = ("local_exponent", "rms", "alignment")
EQUAL = 1e-12
THEORIES = ("closed", "mean_field")
Progress = Callable[[float], object]


def regime_map(
    colour: str = "local_exponent",
    x: str | Axis | None = None,
    y: str | Axis | None = None,
    *,
    theory: Literal["closed", "mean_field"] | None = None,
    averaged_over: AveragedOver = "law",
    networks: str | tuple[int, int] | None = None,
    seeds: int | ArrayLike | None = None,
    particles: int | None = None,
    replicas: int | None = None,
    store: CellStore | None = None,
    progress: Progress = lambda part: None,
    **options: Any,
) -> RegimeMap:
    """A quantity over two axes: theory everywhere, its boundaries, and networks at some points.

    **Arguments:**

    - `colour`: what is shown, a key of `dynsim.maps.COLOURS`: local_exponent, rms, alignment,
      optimal_rate_ratio, loss, restoration or mup_share.
    - `x`, `y`: the axes, as NAME=LOW:HIGH:N (see `dynsim.maps.axis`) or by `dynsim.maps.axis_of`;
      by default width=16:65536:200 and vocab_size=16:1e6:200, for the mean field fewer cells.
    - `theory`: closed (formulas) or mean_field (the solver, cell by cell); by default closed where
      there is a formula.
    - `averaged_over`: squares are averaged over tokens by their frequency in the law, or by their
      share of a batch (local_exponent, rms and alignment, of the first update).
    - `networks`: trains networks at so many points along x and y, such as "5x4"; `seeds`: how
      many at each, 8 if left out.
    - `particles`, `replicas`: of the mean-field solver, 512 and 8 if left out.
    - `store`: keeps finished mean-field solutions and networks, and gives them again.
    - `progress`: called with the fraction of solving and training finished since the last call.
    - `options`: every other size and rate, as a number or a path in d, m, n and B such as
      "d^0.7" (docs/guides/exponents.md#paths), and the rest of `dynsim.Setup`. `steps` is the
      number of updates T, 1 if left out. With one output `targets` are signs if left out, because
      the formulas are of residuals of equal size.

    Cells without a value are counted by reason. Raises `InputError` for axes and options that do
    not go together, a colour that does not depend on an axis, and a map without any value;
    `RuntimeError` if JAX's 64-bit types are off.

    Shapes: values of the result are (y, x); `seeds` is a count or labels (S,).

    **Example:**

    >>> from dynsim import regime_map
    >>> found = regime_map("local_exponent", "width=64:4096:3", "vocab_size=64:65536:3")
    >>> found.values.round(2)
    array([[0.7 , 0.92, 0.99],
           [0.51, 0.57, 0.78],
           [0.5 , 0.5 , 0.52]])
    """
    require_x64()
    of = named_colour(colour)
    points = None if networks is None else counts(networks)
    chosen = theory or ("mean_field" if of.formula is None else "closed")
    _check_theory(of, chosen)
    _check_unused(chosen, points, seeds, {"particles": particles, "replicas": replicas})
    default_x, default_y = DEFAULT_AXES[chosen]
    axes = axis("x", default_x if x is None else x), axis("y", default_y if y is None else y)
    given = {name: value for name, value in options.items() if value is not None}
    drawn = plane(*axes, given, averaged_over)
    _check_average(of, chosen, points, averaged_over)
    drawn = _held(drawn, of)
    _check_axes(drawn, of, chosen)
    missing = Missing((len(drawn.y.values), len(drawn.x.values)))
    grid = drawn.grid()
    drawn.mark_outside(grid, missing)
    drawn.example(missing)
    both = chosen == "mean_field" and points is not None
    report = _shared(progress, 2 if both else 1)
    try:
        if chosen == "closed":
            values, errors = _closed(drawn, of, grid, missing)
        else:
            accuracy = Accuracy(particles, replicas)
            values, errors = mean_field_values(drawn, of, missing, accuracy, store, report)
    except Unavailable as reason:
        raise InputError("colour", of.name, f"has no value on this map: {reason}") from None
    missing.mark(~np.isfinite(values), "the theory has no finite value")
    values = np.where(missing.codes == 0, values, np.nan)
    if not np.isfinite(values).any():
        raise InputError("colour", of.name, f"has no value on this map: {missing.texts[0]}")
    _check_varies(drawn, of, values)
    found = None
    if points is not None:
        theories = _theory_of(drawn, of, chosen, values)
        measure = None if store is None else _kept(store)
        labels = DEFAULT_SEEDS if seeds is None else seeds
        found = trained(drawn, of, points, labels, theories, measure, report)
    return RegimeMap(
        of.name,
        chosen,
        drawn.x,
        drawn.y,
        values,
        errors,
        missing.codes,
        tuple(missing.texts),
        boundaries(drawn, of.name),
        found,
        _described(drawn),
        _notes(drawn, of),
    )


def _check_theory(of: Colour, theory: str) -> None:
    check_choice("theory", theory, THEORIES)
    if of.formula is None and theory == "closed":
        raise InputError("theory", theory, f"must be mean_field for {of.name}: it has no formula")


def _check_unused(
    theory: str,
    points: tuple[int, int] | None,
    seeds: int | ArrayLike | None,
    accuracy: Mapping[str, int | None],
) -> None:
    """Raises `InputError` for the solver's options without it, and for seeds without networks."""
    if points is None and seeds is not None:
        raise InputError("seeds", seeds, "must be left out for a map without `networks`")
    for name, value in accuracy.items():
        if value is None:
            continue
        if theory == "closed":
            raise InputError(name, value, "must be left out for a closed-form map")
        check_integer(name, value, 2)


def _check_average(
    of: Colour, theory: str, points: tuple[int, int] | None, averaged_over: str
) -> None:
    by_batch = of.name in BATCH_COLOURS and theory == "closed" and points is None
    if averaged_over == "batch" and not by_batch:
        allowed = f"must be law unless the map is of {', '.join(BATCH_COLOURS)} by closed theory"
        raise InputError("averaged_over", averaged_over, f"{allowed} without `networks`")


def _closed(drawn: Plane, of: Colour, grid: Points, missing: Missing) -> tuple[Floats, Floats]:
    """The colour by its formula, and errors of zero."""
    assert of.formula is not None
    with np.errstate(all="ignore"):
        values = of.formula(drawn, grid, missing)
    return np.broadcast_to(values, missing.codes.shape), np.zeros(missing.codes.shape)


def _held(drawn: Plane, of: Colour) -> Plane:
    """The plane whose networks hold the projection still where the colour is of an aged embedding.

    The formulas of later updates are of a projection that has moved little.
    """
    if not drawn.ages or "projection_lr" in (*drawn.given, *drawn.axes):
        return drawn
    if of.name not in ("local_exponent", "alignment"):
        return drawn
    from dynsim.scaling._paths import scaling_path

    return replace(drawn, paths={**drawn.paths, "projection_lr": scaling_path(STILL)})


def _check_axes(drawn: Plane, of: Colour, theory: str) -> None:
    """Raises `InputError` for an axis along which the colour is the same."""
    fields = of.depends_on(drawn)
    if theory == "mean_field":
        fields = COLOURS["loss"].first
    for field, one in (("x", drawn.x), ("y", drawn.y)):
        if drawn.affects(one.name, fields):
            continue
        hint = ", unless `steps` is above 1" if one.name in of.aged else ""
        raise InputError(field, one.name, f"has no effect on {of.name}{hint}")


def _check_varies(drawn: Plane, of: Colour, values: Floats) -> None:
    """Raises `InputError` for an axis along which all values are the same, if others differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without any value
        spreads = [np.nanmax(np.nanmax(values, k) - np.nanmin(values, k)) for k in (1, 0)]
        smallest = EQUAL * np.nanmax(np.abs(values))
    if max(spreads) <= smallest:
        return
    for field, one, spread in zip("xy", (drawn.x, drawn.y), spreads, strict=True):
        if spread <= smallest:
            hint = "" if one.name != "batch_size" else "; `averaged_over` batch may differ"
            raise InputError(field, one.name, f"has no effect on {of.name} here{hint}")


def _theory_of(
    drawn: Plane, of: Colour, theory: str, values: Floats
) -> Callable[[Sequence[Setup], int, int], float]:
    """The value to hold networks against: the cell's, or the formula's slope between two widths."""

    def at(group: Sequence[Setup], row: int, column: int) -> float:
        known = np.isfinite(values[row, column])
        if len(group) == 1 or theory == "mean_field" or not known:
            return float(values[row, column])
        x, y = drawn.x.values[[column]], drawn.y.values[[row]]
        widths = np.array([float(setup.width) for setup in group])
        points = drawn.at(np.repeat(x, len(group)), np.repeat(y, len(group)))
        points = replace(points, width=widths)
        with np.errstate(all="ignore"):
            rms = np.broadcast_to(projection_moments(drawn, points)[0], widths.shape)
            return float(np.log(rms[-1] / rms[0]) / np.log(widths[-1] / widths[0]))

    return at


def _kept(store: CellStore) -> Callable[..., Mapping[str, NDArray[Any]]]:
    """Measures a cell, or reads it from the store."""

    def measure(
        measurement: Measurement, setup: Setup, labels: NDArray[np.int64]
    ) -> Mapping[str, NDArray[Any]]:
        identity = json.dumps([measurement.name, setup.resolved(), labels.tolist()])
        name = f"networks_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        kept = store.read(name, identity)
        if kept is None:
            kept = dict(measurement.run(setup, labels, lambda part: None))
            store.write(name, identity, kept)
        return kept

    return measure


def _shared(progress: Progress, parts: int) -> Progress:
    return lambda part: progress(part / parts)


def _described(drawn: Plane) -> dict[str, Any]:
    """The options that make this map again, as plain values."""
    paths = {name: str(path) for name, path in drawn.paths.items()}
    return {**paths, **{name: one for name, one in drawn.options.items() if one is not None}}


def _notes(drawn: Plane, of: Colour) -> tuple[str, ...]:
    """What a reader of the map must know."""
    notes = [one.rounded for one in (drawn.x, drawn.y) if one.rounded]
    if drawn.law is not None and drawn.law.note:
        notes.append(drawn.law.note)
    return tuple(notes)
