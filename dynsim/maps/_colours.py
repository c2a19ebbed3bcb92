"""What the colour of a map can be, by closed formulas on a whole grid.

Each colour says on which sizes and rates it depends, its formula, and the quantity that networks
are measured by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._errors import InputError
from dynsim.scaling._epsilon import NEGLIGIBLE
from dynsim.scaling._quantity import Unavailable
from dynsim.scaling.quantities._first_step import FIRST_STEP
from dynsim.scaling.quantities._optimal_rates import check_derived as check_rates
from dynsim.scaling.quantities._restoration import (
    Sizes,
    check_options,
    derived_ends,
    outside,
    spread_of,
)
from dynsim.theory._first_step import first_step_at, optimal_rates_at
from dynsim.theory._lv_lifetime import aged_update_at

from ._axes import Floats
from ._domain import initial_std, mark_first_update, mark_later_updates, uniform_cells
from ._laws import PowerLaws
from ._plane import Missing, Plane, Points
from ._reasons import (
    LARGE_EPSILON,
    LATER,
    LATER_IN_BATCHES,
    MUP_SHARE,
    NO_FIRST_STEP,
    ONE_NEURON,
    OPTIMAL_RATIO,
    RATES_OF_FULL_BATCH,
    RATES_OF_ONE_OUTPUT,
    SIGN_ONLY,
    SIGNS_ONLY,
    UNIFORM_ONLY,
)

LARGEST_TARGETS = 2**22  # entries of targets that a map draws
SIGNS = ("sign", "adam")  # optimizers whose first moves are signs
LAW = frozenset({"width", "vocab_size", "zipf"})
FIRST = LAW | {"batch_size"}
AGED = FIRST | {"age", "steps", "embedding_lr", "outputs"}
EVERYTHING = AGED | {"projection_lr"}

UPDATE = "update T (the first, T = 1, unless steps or an age are given)"
Formula = Callable[[Plane, Points, Missing], Floats]


@dataclass(frozen=True)
class Colour:
    """What a map shows.

    - `name`; `symbol` and `label`: for the colour bar; `meaning`: its definition in one sentence.
    - `scale`: linear, log, or centred (around `centre`, where two regimes meet).
    - `first`, `aged`: what it depends on at the first update and at later ones.
    - `formula`: its closed form on a grid, or None where there is none.
    - `quantity`: what networks are measured by and the mean field is solved for; `slope`: the
      colour is its local power of the width.
    """

    name: str
    label: str
    meaning: str
    scale: Literal["linear", "log", "centred"]
    limits: tuple[float, float] | None
    first: frozenset[str]
    aged: frozenset[str]
    formula: Formula | None
    quantity: str | None
    slope: bool = False

    def depends_on(self, plane: Plane) -> frozenset[str]:
        """The fields that change it on this plane."""
        return self.aged if plane.ages else self.first


def colour(name: str) -> Colour:
    """The colour of that name. Raises `InputError` with the nearest names."""
    if name in COLOURS:
        return COLOURS[name]
    near = get_close_matches(str(name), COLOURS, n=3, cutoff=0.5) or list(COLOURS)
    raise InputError("colour", name, f"must be one of {', '.join(near)}")


def signs_only(plane: Plane, what: str) -> None:
    """Raises `Unavailable` where the optimizer's first moves are no signs."""
    if plane.optimizer not in SIGNS:
        raise Unavailable(SIGNS_ONLY.format(what=what))


def age_values(plane: Plane, points: Points) -> tuple[dict[Any, Floats], dict[Any, Any]]:
    """Numbers and the age's formulas for `aged_update_at`, without n_eff.

    Raises `Unavailable` where no age is derived.
    """
    signs_only(plane, LATER)
    if not points.mini_batch:
        return {**points.numbers, s.displacement: points.age}, derivations.full_batch_age()
    uniform_only(points, LATER_IN_BATCHES)
    if plane.optimizer != "sign":
        raise Unavailable(SIGN_ONLY.format(what=LATER_IN_BATCHES))
    m, batch = points.vocab_size, points.batch_size
    rate = np.where(points.embedding_lr > 0, points.embedding_lr, 1.0)
    values = {
        s.width: points.width,
        s.vocab_size: m,
        s.batch_size: batch,
        s.presence: -np.expm1(batch * np.log1p(-1 / np.maximum(m, 1 + 1e-12))),
        derivations.age_step: rate,
        derivations.age_steps: points.age / rate,
    }
    return values, derivations.mini_batch_age()


def uniform_only(points: Points, what: str) -> None:
    """Raises `Unavailable` for a token law that is not uniform."""
    if not (isinstance(points.law, PowerLaws) and not np.any(points.law.exponent)):
        raise Unavailable(UNIFORM_ONLY.format(what=what))


def by_directions(outputs: Floats, function: Callable[[derivations.Directions], Floats]) -> Floats:
    """One formula for one output, another for several."""
    if np.all(outputs == 1):
        return function("one")
    if np.all(outputs > 1):
        return function("many")
    return np.where(outputs > 1, function("many"), function("one"))


def kernel(plane: Plane) -> derivations.Optimizer:
    """The optimizer of the first step. Raises `Unavailable` where none is derived."""
    if plane.optimizer not in FIRST_STEP:
        raise Unavailable(NO_FIRST_STEP.format(optimizer=plane.optimizer))
    decay, warmup = plane.paths.get("weight_decay"), plane.paths.get("warmup_steps")
    if any(path is not None and (path.variables or path() > 0) for path in (decay, warmup)):
        raise Unavailable("the formulas are without `weight_decay` and `warmup_steps`")
    if plane.options.get("schedule", "constant") != "constant":
        raise Unavailable("the formulas are of a constant learning rate (`schedule` constant)")
    return FIRST_STEP[plane.optimizer]


def batch_numbers(points: Points) -> dict[Any, Floats]:
    """Numbers whose P_3/P_2 is the squared alignment of a batch's own tokens, by their share."""
    if not points.mini_batch:
        return points.numbers
    law = {symbol: value for symbol, value in points.numbers.items() if symbol != s.width}
    square = np.asarray(evaluate(derivations.batch_alignment(), law))
    ones = np.ones_like(square)
    return {
        s.width: points.width,
        s.frequency_square_sum: ones,
        s.frequency_cube_sum: square,
    }


def _moments(
    plane: Plane, points: Points, missing: Missing, *, slope: bool = False
) -> tuple[Floats, Floats]:
    """`projection_moments` of the cells; those at which they, or the slope, are off are marked."""
    found = projection_moments(plane, points)
    if plane.averaged_over == "batch":
        if plane.example(missing).targets != "sign":
            raise Unavailable("the average over a batch's own tokens is drawn for `targets` sign")
        return found
    mark_first_update(plane, points, missing, kernel(plane), slope=slope)
    if points.aged:
        mark_later_updates(plane, points, missing)
    return found


def projection_moments(plane: Plane, points: Points) -> tuple[Floats, Floats]:
    """RMS at learning rate 1 and local exponent of the projection's update T."""
    if plane.averaged_over == "batch":
        signs_only(plane, "the average over a batch's own tokens")
        if points.aged:
            raise Unavailable("the average over a batch's own tokens is that of the first update")
        numbers = batch_numbers(points)
        _, rms, slope = first_step_at(numbers, "projection", "sign", init=plane.init)
        return np.asarray(rms), np.asarray(slope)
    if not points.aged:
        _, rms, slope = first_step_at(
            points.numbers,
            "projection",
            kernel(plane),
            mini_batch=points.mini_batch,
            init=plane.init,
        )
        return np.asarray(rms), np.asarray(slope)
    values, age = age_values(plane, points)
    values[s.effective_outputs] = points.outputs

    def both(directions: derivations.Directions) -> Floats:
        moments = aged_update_at(values, age, directions)
        return np.stack(np.broadcast_arrays(moments.rms, moments.local_exponent))

    rms, slope = by_directions(points.outputs, both)
    return rms, slope


def _local_exponent(plane: Plane, points: Points, missing: Missing) -> Floats:
    return _moments(plane, points, missing, slope=True)[1]


def _rms(plane: Plane, points: Points, missing: Missing) -> Floats:
    return points.projection_lr * _moments(plane, points, missing)[0]


def _alignment(plane: Plane, points: Points, missing: Missing) -> Floats:
    """RMS over that of |dW_k| |e_i|: under sign sqrt(d) and sqrt(d (1 + Theta))."""
    signs_only(plane, "the alignment")
    rms, _ = _moments(plane, points, missing)
    growth = 0.0
    if points.aged:
        values, age = age_values(plane, points)
        growth = np.asarray(evaluate(age[s.displacement_square], values))
    return rms / (points.width * np.sqrt(1 + growth))


def _optimal_rate_ratio(plane: Plane, points: Points, missing: Missing) -> Floats:
    signs_only(plane, OPTIMAL_RATIO)
    if points.mini_batch:
        raise Unavailable(RATES_OF_FULL_BATCH)
    if np.any(points.outputs != 1):
        raise Unavailable(RATES_OF_ONE_OUTPUT)
    setup = plane.example(missing)
    check_rates(setup)
    gradient = initial_std(setup, points) * points.numbers[s.frequency_square_sum]
    missing.mark(
        (setup.optimizer == "adam") & (setup.epsilon > NEGLIGIBLE * gradient),
        LARGE_EPSILON,
    )
    rates = optimal_rates_at(points.numbers, plane.init, targets=setup.targets)
    return np.asarray(rates.embedding) / np.asarray(rates.projection)


def _restoration(plane: Plane, points: Points, missing: Missing) -> Floats:
    setup = plane.example(missing)
    check_options(setup)
    missing.mark(points.width < 2, ONE_NEURON)
    sizes = Sizes(
        np.maximum(points.width, 2),
        points.vocab_size,
        points.batch_size,
        points.outputs,
        points.numbers[s.frequency_square_sum],
        points.numbers[s.frequency_cube_sum],
        uniform_cells(points),
        _spread(plane, points, missing),
    )
    for reason, cells in outside(setup, sizes).items():
        missing.mark(cells, reason)
    return derived_ends(setup, sizes)


def _spread(plane: Plane, points: Points, missing: Missing) -> Floats:
    """n_eff of the targets at the end of the regime: the outputs, or by the targets themselves."""
    rank = plane.paths.get("target_rank")
    if rank is None or (not rank.variables and rank() == 0):
        return points.outputs
    if rank.variables:
        raise Unavailable("it is drawn for one `target_rank`")
    missing.mark(
        points.vocab_size * points.outputs > LARGEST_TARGETS,
        f"the targets, which `target_rank` needs, have more than {LARGEST_TARGETS} entries",
    )
    known: dict[tuple[object, ...], float] = {}
    found = np.ones(missing.codes.shape)
    sizes = [np.broadcast_to(one, found.shape) for one in (points.vocab_size, points.outputs)]
    for row, column in np.argwhere(missing.codes == 0):
        setup = plane.setup(float(plane.x.values[column]), float(plane.y.values[row]))
        key = (*(float(one[row, column]) for one in sizes), setup.law_name)
        if key not in known:
            known[key] = spread_of(setup)
        found[row, column] = known[key]
    return found


def _mup_share(plane: Plane, points: Points, missing: Missing) -> Floats:
    signs_only(plane, MUP_SHARE)
    values = {**points.numbers}
    values.pop(s.frequency_cube_sum)
    one_neuron = points.width < 2
    values[s.width] = np.where(one_neuron, 2.0, points.width)
    edge = derivations.crossover_frequency(mini_batch=points.mini_batch)
    frequency = np.asarray(evaluate(edge, values))
    share = points.law.mass_above(frequency, points.vocab_size)
    return np.where(one_neuron, 0.0, share)


COLOURS: dict[str, Colour] = {
    one.name: one
    for one in (
        Colour(
            "local_exponent",
            r"local exponent  $\partial\ln\mathrm{RMS}/\partial\ln d$",
            f"d ln RMS / d ln width of the projection's {UPDATE} at fixed vocabulary, token law, "
            "batch and displacement of the embedding",
            "centred",
            (0.5, 1.0),
            FIRST,
            AGED,
            _local_exponent,
            "projection_step_rms",
            slope=True,
        ),
        Colour(
            "rms",
            r"$\mathrm{RMS}(\Delta W\,e_i)$",
            f"root mean square of what {UPDATE} changes by moving the projection",
            "log",
            None,
            FIRST | {"projection_lr"},
            EVERYTHING,
            _rms,
            "projection_step_rms",
        ),
        Colour(
            "alignment",
            r"alignment  $\mathrm{RMS}(\Delta W\,e_i)/(|\Delta W||e_i|)$",
            f"RMS of the projection's {UPDATE} over the root mean square of |dW_k| |e_i|",
            "log",
            None,
            FIRST,
            AGED,
            _alignment,
            "alignment",
        ),
        Colour(
            "optimal_rate_ratio",
            r"optimal ratio  $\eta_E^*/\eta_W^*$",
            "ratio of the learning rates that lower the loss most in one update, each with the "
            "other layer frozen",
            "log",
            None,
            LAW,
            LAW,
            _optimal_rate_ratio,
            "optimal_rate_ratio",
        ),
        Colour(
            "loss",
            r"loss after $T$ updates",
            "loss after T updates (1 unless steps are given), by mean-field theory",
            "log",
            None,
            EVERYTHING,
            EVERYTHING,
            None,
            "loss",
        ),
        Colour(
            "restoration",
            r"end of the LV regime  $\eta_E t_c$",
            "displacement of the embedding, in initial standard deviations, at which coherent and "
            "incoherent power are equal; 0 where they are from the start",
            "log",
            None,
            FIRST | {"outputs"},
            FIRST | {"outputs"},
            _restoration,
            "restoration",
        ),
        Colour(
            "mup_share",
            r"token mass in the $\mu$P regime  $\sum_i p_i\,[\rho_i>1]$",
            "sum of the frequencies p_i of all tokens whose own coherence ratio rho_i is above 1",
            "linear",
            (0.0, 1.0),
            FIRST,
            FIRST,
            _mup_share,
            None,
        ),
    )
}
