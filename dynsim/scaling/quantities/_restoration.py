"""The end of the large-vocabulary (LV) regime, as the displacement of the embedding.

While the projection is held, every step of the embedding makes the projection's next update more
coherent. The regime ends where the coherent part of an update has grown to the incoherent part of
the first one. Learning rates and steps of the setup are not used: the embedding moves in steps
small enough for several of them to lie before the end.

Source: docs/theory/lv_lifetime.md#end-of-lv.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim._errors import InputError
from dynsim._setup import Setup
from dynsim._targets import targets
from dynsim.laboratory._linear_training import train_linear
from dynsim.scaling._epsilon import NEGLIGIBLE, check_small_epsilon
from dynsim.scaling._family import Family
from dynsim.scaling._quantity import (
    AnySetup,
    Asymptotic,
    Floats,
    Measurement,
    Progress,
    Quantity,
    Sampled,
    Unavailable,
    Value,
    check_conditions,
)
from dynsim.statistics import first_passage
from dynsim.theory._first_step import visit_chance
from dynsim.theory._lv_lifetime import (
    isotropic_restoration,
    late_effective_outputs,
    restoration_displacements_at,
    smoothed_speed,
)
from dynsim.theory.mean_field._predict import MAX_PARTICLES
from dynsim.theory.mean_field._quick import COLUMNS, quick_means

from ._aged import STILL
from ._optimal_rates import linear_setup, value_and_error
from ._orders import family_orders
from ._rate_search import tasks

STEPS_TO_END, MOST_STEPS_TO_END = 16, 128
MARGIN, RUNS = 1.5, 8  # steps that are run over those expected; runs until the step is right
STEP_ERROR = 1.1  # factor by which the end may lie off the step at which it is wanted
PARTICLES, REPLICAS, MEAN_FIELD_TASKS, DOUBLINGS = 1024, 2, 4, 2
FEWER_STEPS = 2.0  # by theory: many small steps use up directions in the particles' space
STEP = COLUMNS.index("projection_step_rms")
SIGNS = ("sign", "smoothed-sign", "adam")
LEAST_VISITS = 8  # of a token before the end, for Adam's averages of its gradient to settle
MUP_START = "the first update is in the muP regime already: there is no LV regime to end"
FEW_VISITS = (
    f"under adam in mini-batches it is derived for {LEAST_VISITS} visits of a token or more before "
    f"the end, which takes at most {MOST_STEPS_TO_END} steps (`batch_size` at least about "
    f"`vocab_size` / {MOST_STEPS_TO_END // LEAST_VISITS})"
)
FEWER_AND_FEWER = (
    "under adam a power is derived where the share of batches that hold a token stays the same "
    "(`batch_size` in proportion to `vocab_size`, or all tokens)"
)
NEVER = "the networks never reached the end of the LV regime, or began beyond it"


@dataclass(frozen=True)
class Sizes:
    """Sizes and token laws of one setup or of many, as arrays that broadcast; B = 0: all tokens.

    - `square_sum`, `cube_sum`: P_2 and P_3; `uniform`: whether all tokens are equally frequent.
    - `spread`: n_eff of the targets at the end of the regime (1: one direction).
    """

    width: Floats
    vocab_size: Floats
    batch_size: Floats
    outputs: Floats
    square_sum: Floats
    cube_sum: Floats
    uniform: NDArray[np.bool_]
    spread: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(*(np.shape(value) for value in vars(self).values()))

    @property
    def chance(self) -> Floats:
        """The chance that a batch holds a token, for uniform tokens; 1 in full batch."""
        once = np.log1p(-1 / np.maximum(self.vocab_size, 1 + 1e-12))
        return np.where(self.batch_size > 0, -np.expm1(self.batch_size * once), 1.0)

    @property
    def projection_std(self) -> Floats:
        """sigma_W under muP, for which alone the end is derived."""
        return 1 / self.width


def sizes_of(setup: Setup) -> Sizes:
    """The sizes of one setup."""
    law = setup.law()
    numbers = (setup.width, setup.vocab_size, setup.batch_size, setup.output_count)
    width, vocab_size, batch_size, outputs = (np.asarray(one, np.float64) for one in numbers)
    return Sizes(
        width,
        vocab_size,
        batch_size,
        outputs,
        np.asarray(law.power_sum(2)),
        np.asarray(law.power_sum(3)),
        np.asarray(np.ptp(law.frequencies) <= 1e-9 * law.frequencies[0]),
        np.asarray(spread_of(setup)),
    )


def spread_of(setup: Setup) -> float:
    """n_eff at the end of the regime: the outputs, or what targets of low rank come to."""
    if setup.target_rank and setup.targets == "gaussian" and setup.output_count > 1:
        return late_effective_outputs(targets(setup), setup.law().frequencies)
    return float(setup.output_count)


def speed(setup: Setup, sizes: Sizes) -> Floats:
    """How far a visit moves a token, in embedding learning rates.

    1 under sign, less under a smoothed one, q^(-1/2) under Adam where batches hold the token with
    the chance q and it is visited often. `setup` gives the optimizer.
    Source: docs/theory/lv_lifetime.md#lifetime-of-other-optimizers.
    """
    if setup.optimizer == "adam":
        return sizes.chance**-0.5
    if setup.optimizer == "smoothed-sign":
        whole = sizes.batch_size == 0
        share = np.where(whole, sizes.square_sum, 1 / np.maximum(sizes.batch_size, 1))
        gradient = share * np.sqrt(sizes.outputs) * sizes.projection_std
        return np.asarray(smoothed_speed(setup.epsilon, gradient))
    return np.ones(sizes.shape)


def steps_to_end(sizes: Sizes) -> Floats:
    """The step at which the regime is to end: in mini-batches more, for several visits."""
    return np.minimum(STEPS_TO_END / sizes.chance, MOST_STEPS_TO_END)


def check_options(setup: Setup) -> None:
    """Raises `Unavailable` for options, other than sizes, for which the end is not derived."""
    needed = {
        f"`optimizer` {' or '.join(SIGNS)}": setup.optimizer in SIGNS,
        "`loss` mse": setup.loss_name == "mse",
        "a small initial output (`init` mup)": setup.init == "mup",
        "`targets` sign or gaussian": setup.targets in ("sign", "gaussian"),
        "constant rates (`schedule`, `warmup_steps`)": setup.schedule == "constant"
        and not setup.warmup_steps,
        "no `weight_decay`": setup.decay_rate == 0,
    }
    check_conditions(needed)


def outside(setup: Setup, sizes: Sizes) -> dict[str, NDArray[np.bool_]]:
    """At which sizes the end is not derived, by reason. `setup` gives all other options."""
    batches, adam = sizes.batch_size > 0, setup.optimizer == "adam"
    gradient = sizes.projection_std * sizes.square_sum
    few = sizes.chance * steps_to_end(sizes) < LEAST_VISITS * (1 - 1e-9)
    found = {
        "it is derived for `targets` gaussian with several `outputs`": (sizes.outputs > 1)
        & (setup.targets != "gaussian"),
        "it is derived for `tokens` uniform in mini-batches": batches & ~sizes.uniform,
        "it is derived for `tokens` uniform under a smoothed sign": ~sizes.uniform
        & (setup.optimizer == "smoothed-sign"),
        "`epsilon` is not small against the gradients under adam": adam
        & (setup.epsilon > NEGLIGIBLE * gradient),
        FEW_VISITS: adam & batches & few,
    }
    return {reason: np.asarray(where) for reason, where in found.items()}


def check_derived(setup: Setup) -> None:
    """Raises `Unavailable` where the ageing of the embedding is not derived."""
    check_options(setup)
    check_small_epsilon(setup)
    for reason, where in outside(setup, sizes_of(setup)).items():
        if np.any(where):
            raise Unavailable(reason)


def _few_directions(count: int) -> float:
    """K of this many isotropic directions over that of infinitely many."""
    many = float(derivations.restoration_constant("many").expression)
    return isotropic_restoration(count) / many


def derived_ends(setup: Setup, sizes: Sizes) -> Floats:
    """The derived eta_E t_c, 0 where the first update is in the muP regime.

    `setup` gives every option but the sizes. What it presumes is said by `outside`.
    """
    several = (sizes.outputs > 1) & (setup.target_rank != 1)
    one = _ends(setup, sizes, "one") if not several.all() else 0.0
    many = _ends(setup, sizes, "many") if several.any() else 0.0
    return np.where(several, many, one) / speed(setup, sizes)


def _ends(setup: Setup, sizes: Sizes, directions: derivations.Directions) -> Floats:
    """`derived_ends` under sign, as if all residuals had one or many directions."""
    values: dict[Any, Any] = {
        s.width: sizes.width,
        s.frequency_square_sum: sizes.square_sum,
        s.frequency_cube_sum: sizes.cube_sum,
        s.effective_outputs: np.maximum(sizes.spread, 1.0) if directions == "many" else 1.0,
    }
    batches = sizes.batch_size > 0
    found = np.zeros(sizes.shape)
    if not batches.all():
        age = derivations.full_batch_age(
            gaussian=directions == "one" and setup.targets == "gaussian"
        )
        found = restoration_displacements_at(values, age, directions)
    if batches.any():
        values |= {s.vocab_size: sizes.vocab_size, s.batch_size: np.maximum(sizes.batch_size, 1)}
        found = np.where(batches, _ends_in_batches(sizes, values, directions), found)
    if directions == "one":
        return found
    counts = np.broadcast_to(sizes.outputs, sizes.shape) if not setup.target_rank else None
    if counts is None:
        return found * _few_directions(setup.target_rank)
    known, places = np.unique(counts, return_inverse=True)
    factors = np.array([_few_directions(int(count)) if count > 1 else 1.0 for count in known])
    return found * factors[places].reshape(counts.shape)


def _ends_in_batches(
    sizes: Sizes, values: Mapping[Any, Any], directions: derivations.Directions
) -> Floats:
    """eta_E t_c of sign in mini-batches of uniform tokens, at the step size that is used.

    A token's visits are binomial; where they are few their spread matters, and with it the step.
    """
    chance = sizes.chance
    of_visits = derivations.visited_age(mini_batch=True)
    given = {**values, s.presence: chance}
    moved = restoration_displacements_at(given, of_visits, directions)
    count, size = derivations.age_steps, derivations.age_step
    of_steps = derivations.mini_batch_age()
    age = {name: value.subs(count, s.displacement / size) for name, value in of_steps.items()}
    given[size] = np.where(moved > 0, moved, 1.0) / chance / steps_to_end(sizes)
    return np.where(moved == 0, 0.0, restoration_displacements_at(given, age, directions))


def derived_end(setup: Setup) -> float:
    """The derived eta_E t_c of one setup, 0 where the first update is in the muP regime."""
    return float(derived_ends(setup, sizes_of(setup)))


def expected_steps(setup: Setup) -> float:
    """The step at which the regime of a setup is to end."""
    return min(STEPS_TO_END / _chance(setup), MOST_STEPS_TO_END)


def _chance(setup: Setup) -> float:
    """The chance that a batch holds a token, averaged by frequency; 1 in full batch."""
    return visit_chance(setup.law(), setup.batch_size) if setup.batch_size else 1.0


def held(setup: Setup, fewer: float = 1.0) -> Setup:
    """The setup with a projection that stands still and small steps of the embedding.

    The size of a step is a first guess from theory. `fewer`: the factor by which its steps in full
    batch are larger.
    """
    try:
        check_derived(setup)
        end = derived_end(setup)
    except Unavailable:
        end = 0.0
    if not end > 0:
        end = math.sqrt(setup.output_count / setup.width / _chance(setup))
    steps = expected_steps(setup) / (1 if setup.batch_size else fewer)
    return replace(
        setup,
        embedding_lr=end / steps,
        projection_lr=STILL,
        steps=math.ceil(MARGIN * steps) + 1,
        schedule="constant",
        warmup_steps=0,
    )


def visits(setup: Setup) -> Floats:
    """The chance that a batch holds a token, shape (m,); ones in full batch."""
    frequencies = setup.law().frequencies
    if not setup.batch_size:
        return np.ones_like(frequencies)
    return -np.expm1(setup.batch_size * np.log1p(-np.minimum(frequencies, 1 - 1e-16)))


def growth(setup: Setup, steps: int) -> Floats:
    """Mean square displacement of the tokens at every step by theory, from binomial visits."""
    chance, law = visits(setup), setup.law()
    first, second = law.frequencies @ chance, law.frequencies @ chance**2
    step = np.arange(steps)
    move = setup.embedding_lr * float(speed(setup, sizes_of(setup)))
    return move**2 * ((first - second) * step + second * step**2)


def solved_parts(setup: Setup, mean_square: Floats) -> Floats:
    """Mean squares (T, ...) of updates at projection LR 1 and, by theory, their incoherent parts.

    The mean-field solver gives the whole update, of which the incoherent part is d (1 + <theta^2>).
    """
    grown = growth(setup, len(mean_square)).reshape(-1, *[1] * (mean_square.ndim - 1))
    return np.stack([mean_square, np.broadcast_to(setup.width * (1 + grown), mean_square.shape)])


def coherence(parts: Floats) -> Floats:
    """Coherent power of updates (T, ...) in units of the first one's incoherent power.

    `parts`: mean squares of whole updates and of their incoherent parts, shape (2, T, ..., S), of
    which the mean over seeds is taken.
    """
    whole, incoherent = parts.mean(axis=-1)
    return (whole - incoherent) / incoherent[:1]


def log_end(embedding_lr: float) -> Callable[[Floats], Floats]:
    """ln of eta_E t_c from both parts (2, T, ..., S); NaN where they do not pass the end."""

    def log_value(samples: Floats) -> Floats:
        return np.log(embedding_lr * first_passage(coherence(samples), 1.0))

    return log_value


class Restoration(Quantity):
    """eta_E t_c at the end of the LV regime."""

    name = "restoration"
    symbol = r"\eta_Et_c"
    meaning = (
        "the embedding's displacement eta_E t (learning rate times steps) at which the coherent "
        "part of a projection update (coherent_rms) reaches the incoherent part of the first "
        "(incoherent_rms), in steps of which about 16, or several visits of a token, lead there: "
        "the end of the LV regime"
    )

    networks = ("linear",)
    no_value = NEVER

    def __init__(self) -> None:
        self.measurement = Measurement("restoration", _trained)

    def check(self, setup: AnySetup) -> None:
        super().check(setup)
        linear = linear_setup(setup)
        if linear.optimizer not in SIGNS:
            allowed = f"must be {', '.join(SIGNS[:-1])} or {SIGNS[-1]} for {self.name}"
            raise InputError("optimizer", linear.optimizer, allowed)
        if linear.width < 2:
            raise InputError("width", linear.width, f"must be at least 2 for {self.name}")

    def moving_layers(self, setup: Setup) -> tuple[str, ...]:
        return ("embedding", "projection")

    def asymptotic(self, family: Family) -> Asymptotic:
        if family.along == "steps":
            raise Unavailable("the displacement does not depend on a number of steps")
        first, last = (linear_setup(family.setup(family.sizes[end])) for end in (0, -1))
        for setup in (first, last):
            check_derived(setup)
            if setup.law_name != "uniform":
                raise Unavailable("its power is derived for `tokens` uniform")
            if setup.optimizer == "smoothed-sign" and speed(setup, sizes_of(setup)) < 0.99:
                raise Unavailable("under a smoothed sign `epsilon` sets the speed at every size")
        orders = family_orders(family)
        width, vocabulary, batch = (orders.of[one] for one in (s.width, s.vocab_size, s.batch_size))
        if 0 < vocabulary < width or not derived_end(last) > 0:
            raise Unavailable(MUP_START)
        spread = family.order("target_rank" if last.target_rank else "outputs")
        if 0 < width <= spread:
            raise Unavailable("it is derived for `outputs` far below `width`")
        early = batch < width or (batch == width and last.batch_size < last.width)
        found = derivations.restoration_power(
            "one" if 1 in (last.output_count, last.target_rank) else "many",
            orders.with_orders({s.effective_outputs: spread}),
            early=last.batch_size > 0 and early,
        )
        assumptions = found.assumptions
        visited = derivations.visited_power(orders)
        if last.batch_size and visited and last.optimizer == "adam":
            raise Unavailable(FEWER_AND_FEWER)
        if vocabulary < width:
            assumptions += (f"m >> d, which at fixed vocabulary ends at d ~ {last.vocab_size}",)
        if last.batch_size:
            chance = "1 over the chance that a batch holds a token"
            found = found.times("1/q", -visited, chance, "eta_E t_c in batches")
            assumptions += ("a token moves only when the batch holds it",)
        return Asymptotic(found.power, found.derivation, assumptions, found.lines)

    def derived(self, setup: AnySetup) -> float:
        setup = linear_setup(setup)
        check_derived(setup)
        end = derived_end(setup)
        if not end > 0:
            raise Unavailable(MUP_START)
        return end

    def check_mean_field(self, setup: AnySetup) -> None:
        known = linear_setup(setup)
        if np.any(outside(known, sizes_of(known))[FEW_VISITS]):
            raise Unavailable(FEW_VISITS)
        _least_particles(held(known, FEWER_STEPS))

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        values = []
        for setup in map(linear_setup, setups):
            self.check_mean_field(setup)
            values.append(_solved(held(setup, FEWER_STEPS)))
            progress(1 / len(setups))
        return values

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        parts = np.stack([arrays["mean_square"], arrays["incoherent"]])
        return Sampled(parts, log_end(float(arrays["embedding_lr"][0])))


def _trained(
    setup: Setup, seeds: NDArray[np.int64], progress: Progress
) -> Mapping[str, NDArray[Any]]:
    """Mean squares of the projection's updates at LR 1 and their incoherent parts, (steps, seeds).

    The embedding's learning rate is such that these networks end the regime at about the step at
    which it is wanted (`steps_to_end`): a rate at which they end elsewhere is changed.
    """
    one, reported, wanted = held(setup), 0.0, expected_steps(setup)
    arrays: dict[str, NDArray[Any]] = {}
    for number in range(RUNS):
        left = (1 - reported) * (1.0 if number == RUNS - 1 else 0.9)

        def report(part: float, left: float = left) -> None:
            progress(part * left)

        run = train_linear(one, seeds, record_parts=True, progress=report)
        reported += left
        assert run.step_parts is not None
        whole, incoherent = run.projection_step_rms, run.step_parts.incoherent_rms
        arrays = {
            "mean_square": (whole[0] / one.projection_lr).T ** 2,
            "incoherent": (incoherent[0] / one.projection_lr).T ** 2,
            "embedding_lr": np.array([one.embedding_lr]),
        }
        ratio = coherence(np.stack([arrays["mean_square"], arrays["incoherent"]]))
        if not np.all(np.isfinite(ratio)) or ratio[0] >= 1:
            break
        end = float(first_passage(ratio, 1.0))
        factor = end / wanted if math.isfinite(end) else 2.0
        if 1 / STEP_ERROR <= factor <= STEP_ERROR:
            break
        if number < RUNS - 1:
            one = replace(one, embedding_lr=one.embedding_lr * factor)
    progress(1 - reported)
    return arrays


def _least_particles(setup: Setup) -> int:
    """What the solver needs for the setup's outputs and steps. Raises `Unavailable`."""
    least = 4 * setup.steps * setup.output_count
    if least > MAX_PARTICLES:
        raise Unavailable(
            f"{setup.output_count} `outputs` and {setup.steps} steps are beyond what the "
            "mean-field solver covers"
        )
    return least


def _solved(setup: Setup) -> Value:
    """eta_E t_c of the mean-field solution; NaN where it does not pass the end.

    The error is that of a few tasks' mean, since replicas of one task share their tokens.
    """
    found = Value(math.nan, math.nan)
    for _ in range(DOUBLINGS + 1):
        least = _least_particles(setup)
        particles = max(PARTICLES, 2 ** math.ceil(math.log2(least)))
        rates = setup.embedding_lr, setup.projection_lr
        several = tasks(setup, np.arange(MEAN_FIELD_TASKS))
        solved = [
            quick_means(task, *rates, particles=particles, replicas=REPLICAS)[0, :, STEP]
            for task in several
        ]
        samples = np.stack(solved, axis=-1) / setup.projection_lr**2
        parts = solved_parts(setup, samples)
        found = value_and_error(Sampled(parts, log_end(setup.embedding_lr)))
        if math.isfinite(found.value) or coherence(parts)[0] >= 1:
            break
        setup = replace(setup, steps=2 * setup.steps)
    return found


RESTORATION = Restoration()
