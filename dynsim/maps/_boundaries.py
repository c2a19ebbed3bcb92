"""Lines of a map at which two parts of theory are equal, found from the derived formulas.

Every line is a contour of the logarithm of a ratio at the value zero. Its points are first found
between the cells of the map and then moved along the cell's edge to the root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim.scaling._quantity import Unavailable
from dynsim.theory._first_step import self_term_at
from dynsim.theory._lv_lifetime import aged_update_at

from ._axes import Axis, Floats
from ._colours import SIGNS, age_values, by_directions, kernel
from ._laws import PowerLaws
from ._plane import Missing, Plane, Points

HALVINGS = 48
FINEST = 101  # values of an axis, at least, on which lines are looked for
LogRatio = Callable[[Plane, Points], Floats]
Line = tuple[str, str, derivations.BoundaryFormula, LogRatio]


@dataclass(frozen=True, eq=False)
class Boundary:
    """A line on a map.

    - `name`; `meaning`: what is equal on it; `formula`: its asymptotic form, as a text;
      `drawn`: the same as mathematics for a figure.
    - `curves`: pieces of the line, each of shape (points, 2): values of x and of y.
    """

    name: str
    meaning: str
    formula: str
    drawn: str
    curves: tuple[Floats, ...]

    def __repr__(self) -> str:
        points = sum(map(len, self.curves))
        return f"{self.name}: {self.meaning}; {self.formula} ({points} points)"


def boundaries(plane: Plane, colour: str) -> tuple[Boundary, ...]:
    """All lines that belong to the colour and cross the map."""
    finer = replace(plane, x=_finer(plane.x), y=_finer(plane.y))
    found = []
    for name, meaning, formula, log_ratio in _lines(plane, colour):
        curves = zero_curves(finer, log_ratio)
        if curves:
            found.append(Boundary(name, meaning, *formula, curves))
    return tuple(found)


def zero_curves(plane: Plane, log_ratio: LogRatio) -> tuple[Floats, ...]:
    """The curves on which the ratio is 1, in values of the axes; none where it never is."""
    import contourpy

    missing = Missing((len(plane.y.values), len(plane.x.values)))
    points = plane.grid(whole=False)
    plane.mark_outside(points, missing)
    with np.errstate(all="ignore"):
        field = np.broadcast_to(log_ratio(plane, points), missing.codes.shape)
    hidden = (missing.codes != 0) | ~np.isfinite(field)
    if hidden.all() or not (field[~hidden].min() < 0 < field[~hidden].max()):
        return ()
    lines = contourpy.contour_generator(
        plane.x.positions, plane.y.positions, np.ma.masked_array(field, hidden)
    ).lines(0.0)
    pieces = [np.asarray(line) for line in lines]
    if not pieces:
        return ()
    refined = _refined(plane, log_ratio, np.concatenate(pieces))
    return tuple(np.split(refined, np.cumsum([len(piece) for piece in pieces])[:-1]))


def _finer(axis: Axis) -> Axis:
    """The same range with enough values for a smooth line."""
    if len(axis.values) >= FINEST:
        return axis
    places = axis.positions
    values = axis.at(np.linspace(places[0], places[-1], FINEST))
    values[[0, -1]] = axis.values[[0, -1]]
    return replace(axis, values=values)


def _refined(plane: Plane, log_ratio: LogRatio, points: Floats) -> Floats:
    """Points of a contour, moved to the root along the edge of the cells on which they lie."""
    x_low, x_high = _neighbours(plane.x, points[:, 0])
    y_low, y_high = _neighbours(plane.y, points[:, 1])
    along_x = x_high > x_low
    low = np.stack([x_low, np.where(along_x, points[:, 1], y_low)], axis=1)
    high = np.stack([x_high, np.where(along_x, points[:, 1], y_high)], axis=1)

    def at(places: Floats) -> Floats:
        x, y = plane.x.at(places[:, 0]), plane.y.at(places[:, 1])
        with np.errstate(all="ignore"):
            found = log_ratio(plane, plane.at(x, y, whole=False))
        return np.broadcast_to(found, len(places))

    at_low = at(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        before = np.sign(at(middle)) == np.sign(at_low)
        low = np.where(before[:, None], middle, low)
        high = np.where(before[:, None], high, middle)
    places = (low + high) / 2
    return np.stack([plane.x.at(places[:, 0]), plane.y.at(places[:, 1])], axis=1)


def _neighbours(axis: Axis, places: Floats) -> tuple[Floats, Floats]:
    """The positions of the axis around each place; twice the same for a place on one of them."""
    grid = axis.positions
    nearest = grid[np.abs(grid[None, :] - places[:, None]).argmin(axis=1)]
    on_grid = np.abs(nearest - places) <= 1e-9 * (grid[-1] - grid[0])
    above = np.clip(np.searchsorted(grid, places), 1, len(grid) - 1)
    return np.where(on_grid, nearest, grid[above - 1]), np.where(on_grid, nearest, grid[above])


def log_coherence(plane: Plane, points: Points) -> Floats:
    """ln rho of the first update: coherent over incoherent power, averaged over tokens."""
    ratio = derivations.average_coherence_ratio(kernel(plane), mini_batch=points.mini_batch)
    return np.log(np.asarray(evaluate(ratio, points.numbers)))


def log_aged_coherence(plane: Plane, points: Points) -> Floats:
    """ln rho at the age of the embedding."""
    values, age = age_values(plane, points)
    values[s.effective_outputs] = points.outputs
    power = by_directions(
        points.outputs,
        lambda directions: np.asarray(aged_update_at(values, age, directions).coherence),
    )
    return np.log(power)


def log_batch_coherence(plane: Plane, points: Points) -> Floats:
    """ln of (2/pi) (d - 1) over the effective vocabulary of a batch's own tokens."""
    numbers = dict(points.numbers)
    width = numbers.pop(s.width)
    crossover = evaluate(derivations.crossover_vocab_size(), {s.width: width})
    return np.log(np.asarray(evaluate(derivations.batch_alignment(), numbers) * crossover))


def log_self_term(plane: Plane, points: Points) -> Floats:
    """ln kappa: the part of the residual that the initial output makes, over the rest."""
    return np.log(np.asarray(self_term_at(points.numbers, plane.init)[s.self_term_ratio]))


def _lines(plane: Plane, colour: str) -> list[Line]:
    """Name, meaning, asymptotic formula and log ratio of the lines that may cross the map."""
    try:
        kernel(plane)
    except Unavailable:
        return []
    signs = plane.optimizer in SIGNS
    points = plane.grid()
    aged = colour != "restoration" and points.aged
    lines: list[Line] = [
        (
            "first_step",
            "coherent and incoherent power of the first update are equal",
            _first_step_formula(plane, points),
            log_coherence,
        )
    ]
    if points.mini_batch and signs:
        lines.append(
            (
                "batch",
                "the same for the tokens of the batch, weighted by their share of it",
                derivations.vocabulary_boundary("batch"),
                log_batch_coherence,
            )
        )
    if aged and _age_exists(plane, points):
        lines.append(
            (
                "restoration",
                "coherent and incoherent power are equal at the age of the embedding",
                _restoration_formula(points),
                log_aged_coherence,
            )
        )
    if colour == "optimal_rate_ratio" and signs:
        lines.append(
            (
                "self_term",
                "the initial output contributes as much to the projection's field as the targets",
                derivations.self_term_boundary(plane.init),
                log_self_term,
            )
        )
    return lines


def _age_exists(plane: Plane, points: Points) -> bool:
    try:
        age_values(plane, points)
    except Unavailable:
        return False
    return True


def _first_step_formula(plane: Plane, points: Points) -> derivations.BoundaryFormula:
    """Where rho = 1: at m* = (2/pi) (d - 1), or the power of d that the token law makes of it."""
    if plane.optimizer not in SIGNS:
        return derivations.BoundaryFormula("at finite sizes", "")
    law = points.law
    if isinstance(law, PowerLaws) and not np.any(law.exponent):
        return derivations.vocabulary_boundary("uniform")
    if points.mini_batch or not isinstance(law, PowerLaws):
        return derivations.vocabulary_boundary("law")
    return derivations.zipf_boundary(None if law.exponent.size > 1 else float(law.exponent))


def _restoration_formula(points: Points) -> derivations.BoundaryFormula:
    """theta_c of m >> d, which no longer depends on m."""
    return derivations.restoration_boundary("many" if np.any(points.outputs > 1) else "one")
