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
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim._errors import InputError
from dynsim._setup import Setup
from dynsim._targets import targets
from dynsim.laboratory._linear_training import train_linear
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
)
from dynsim.statistics import first_passage
from dynsim.theory._first_step import law_values, visit_chance
from dynsim.theory._lv_lifetime import (
    late_effective_outputs,
    restoration_displacements_at,
    smoothed_speed,
)
from dynsim.theory.mean_field._predict import MAX_PARTICLES, predict

from ._optimal_rates import check_small_epsilon, linear_setup, value_and_error
from ._orders import family_orders
from ._rate_search import tasks

STILL = 1e-8  # a projection LR that leaves the projection where it was
STEPS_TO_END, MOST_STEPS_TO_END = 16, 128
MARGIN, DOUBLINGS = 1.5, 2  # of the steps that are run
PARTICLES, REPLICAS, MEAN_FIELD_TASKS = 1024, 2, 4
FEWER_STEPS = 2.0  # by theory: many small steps use up directions in the particles' space
SIGNS = ("sign", "smoothed-sign", "adam")
MUP_START = "the first update is in the muP regime already: there is no LV regime to end"


def visits(setup: Setup) -> Floats:
    """The chance that a batch holds a token, shape (m,); ones in full batch."""
    frequencies = setup.law().frequencies
    if not setup.batch_size:
        return np.ones_like(frequencies)
    return -np.expm1(setup.batch_size * np.log1p(-np.minimum(frequencies, 1 - 1e-16)))


def speed(setup: Setup) -> float:
    """How far a visit moves a token, in embedding learning rates.

    1 under sign, less under a smoothed one, q^(-1/2) under Adam where batches hold the token with
    the chance q. Source: docs/theory/lv_lifetime.md#lifetime-of-other-optimizers.
    """
    if setup.optimizer == "adam" and setup.batch_size:
        return visit_chance(setup.law(), setup.batch_size) ** -0.5
    if setup.optimizer == "smoothed-sign":
        share = 1 / setup.batch_size if setup.batch_size else setup.law().power_sum(2)
        gradient = share * math.sqrt(setup.output_count) * setup.projection_std
        return float(smoothed_speed(setup.epsilon, gradient))
    return 1.0


def check_derived(setup: Setup) -> None:
    """Raises `Unavailable` where the ageing of the embedding is not derived."""
    uniform = setup.law_name == "uniform"
    needed = {
        "`loss` mse": setup.loss_name == "mse",
        "a small initial output (`init` mup)": setup.init == "mup",
        "`targets` sign or gaussian": setup.targets in ("sign", "gaussian"),
        "`targets` gaussian with several `outputs`": setup.output_count == 1
        or setup.targets == "gaussian",
        "`tokens` uniform in mini-batches": uniform or not setup.batch_size,
        "`tokens` uniform under a smoothed sign": uniform or setup.optimizer != "smoothed-sign",
        "constant rates (`schedule`, `warmup_steps`)": setup.schedule == "constant"
        and not setup.warmup_steps,
        "no `weight_decay`": setup.decay_rate == 0,
    }
    missing = [condition for condition, given in needed.items() if not given]
    if missing:
        raise Unavailable(f"it is derived for {missing[0]}")


def _directions(setup: Setup) -> derivations.Directions:
    return "one" if 1 in (setup.output_count, setup.target_rank) else "many"


@lru_cache(maxsize=64)
def _few_directions(count: int) -> float:
    """K of this many isotropic directions over that of infinitely many."""
    few = derivations.isotropic_restoration_constant().expression.subs(s.outputs, count)
    return float((few / derivations.restoration_constant("many").expression).evalf())


def derived_end(setup: Setup) -> float:
    """The derived eta_E t_c, 0 where the first update is in the muP regime."""
    directions, law = _directions(setup), setup.law()
    spread = 1.0
    if directions == "many":
        spread = float(setup.output_count)
        if setup.target_rank:
            spread = late_effective_outputs(targets(setup), law.frequencies)
    values: dict[Any, Any] = {s.width: float(setup.width), s.effective_outputs: spread}
    values |= law_values(law)
    if setup.batch_size:
        values[s.vocab_size] = float(setup.vocab_size)
        values[s.batch_size] = float(setup.batch_size)
        end = _end_in_batches(setup, values, directions)
    else:
        age = derivations.full_batch_age(
            gaussian=directions == "one" and setup.targets == "gaussian"
        )
        end = float(restoration_displacements_at(values, age, directions))
    if directions == "many":
        end *= _few_directions(setup.target_rank or setup.output_count)
    return end / speed(setup)


def _end_in_batches(
    setup: Setup, values: Mapping[Any, Any], directions: derivations.Directions
) -> float:
    """eta_E t_c of sign in mini-batches of uniform tokens, at the step size that is used.

    A token's visits are binomial; where they are few their spread matters, and with it the step.
    """
    chance = visit_chance(setup.law(), setup.batch_size)
    of_visits = derivations.visited_age(mini_batch=True)
    given = {**values, s.presence: chance}
    moved = float(restoration_displacements_at(given, of_visits, directions))
    if moved == 0:
        return 0.0
    count, size = derivations.age_steps, derivations.age_step
    of_steps = derivations.mini_batch_age()
    age = {name: value.subs(count, s.displacement / size) for name, value in of_steps.items()}
    given[size] = moved / chance / steps_to_end(setup)
    return float(restoration_displacements_at(given, age, directions))


def steps_to_end(setup: Setup) -> float:
    """The step at which the regime ends, by theory: in mini-batches more, for several visits."""
    if not setup.batch_size:
        return STEPS_TO_END
    chance = visit_chance(setup.law(), setup.batch_size)
    return min(STEPS_TO_END / chance, MOST_STEPS_TO_END)


def held(setup: Setup, fewer: float = 1.0) -> Setup:
    """The setup with a projection that stands still and small steps of the embedding.

    `fewer`: the factor by which its steps in full batch are larger.
    """
    try:
        check_derived(setup)
        end = derived_end(setup)
    except Unavailable:
        end = 0.0
    if not end > 0:
        end = math.sqrt(setup.output_count / setup.width) / speed(setup)
    steps = steps_to_end(setup) / (1 if setup.batch_size else fewer)
    return replace(
        setup,
        embedding_lr=end / steps,
        projection_lr=STILL,
        steps=math.ceil(MARGIN * steps) + 1,
        schedule="constant",
        warmup_steps=0,
    )


def growth(setup: Setup, steps: int) -> Floats:
    """Mean square displacement of the tokens at every step, by their binomial visits."""
    chance, law = visits(setup), setup.law()
    first, second = law.frequencies @ chance, law.frequencies @ chance**2
    step = np.arange(steps)
    move = setup.embedding_lr * speed(setup)
    return move**2 * ((first - second) * step + second * step**2)


def coherence(setup: Setup, mean_square: Floats) -> Floats:
    """Coherent power of an update in units of the first one's incoherent power, step by step.

    From mean squares (T, ...) at projection LR 1: RMS^2/d = 1 + <theta^2> + coherence.
    """
    grown = growth(setup, len(mean_square)).reshape(-1, *[1] * (mean_square.ndim - 1))
    return mean_square / setup.width - 1 - grown


def log_end(setup: Setup) -> Callable[[Floats], Floats]:
    """ln of eta_E t_c from mean squares (T, ..., S); NaN where the run does not pass the end."""

    def log_value(samples: Floats) -> Floats:
        ratio = coherence(setup, samples.mean(axis=-1))
        return np.log(setup.embedding_lr * first_passage(ratio, 1.0))

    return log_value


class Restoration(Quantity):
    """eta_E t_c at the end of the LV regime."""

    name = "restoration"
    symbol = r"\eta_Et_c"
    meaning = (
        "the embedding's displacement eta_E t (learning rate times steps) at which the coherent "
        "part of a projection update reaches the incoherent part of the first, "
        "RMS^2/(eta_W^2 d) = 2 + <theta^2>: the end of the LV regime"
    )

    def __init__(self) -> None:
        self.measurement = Measurement("restoration", _trained)

    def check(self, setup: AnySetup) -> None:
        linear = linear_setup(setup)
        if linear.optimizer not in SIGNS:
            allowed = f"must be {', '.join(SIGNS[:-1])} or {SIGNS[-1]} for {self.name}"
            raise InputError("optimizer", linear.optimizer, allowed)
        if linear.width < 2:
            raise InputError("width", linear.width, f"must be at least 2 for {self.name}")

    def asymptotic(self, family: Family) -> Asymptotic:
        if family.along == "steps":
            raise Unavailable("the displacement does not depend on a number of steps")
        first, last = (linear_setup(family.setup(family.sizes[end])) for end in (0, -1))
        for setup in (first, last):
            check_derived(setup)
            if setup.law_name != "uniform":
                raise Unavailable("its power is derived for `tokens` uniform")
            if setup.optimizer == "smoothed-sign" and speed(setup) < 0.99:
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
            _directions(last),
            orders.with_orders({s.effective_outputs: spread}),
            early=last.batch_size > 0 and early,
        )
        power, assumptions = found.power, found.assumptions
        if vocabulary < width:
            assumptions += (f"m >> d, which at fixed vocabulary ends at d ~ {last.vocab_size}",)
        if last.batch_size:
            visited = derivations.visited_power(orders)
            power -= visited / 2 if last.optimizer == "adam" else visited
            assumptions += ("a token moves only when the batch holds it",)
        return Asymptotic(power, found.derivation, assumptions)

    def derived(self, setup: AnySetup) -> float:
        setup = linear_setup(setup)
        check_derived(setup)
        check_small_epsilon(setup)
        end = derived_end(setup)
        if not end > 0:
            raise Unavailable(MUP_START)
        return end

    def mean_field(
        self, setups: Sequence[AnySetup], progress: Progress = lambda part: None
    ) -> list[Value]:
        values = []
        for setup in setups:
            values.append(_solved(held(linear_setup(setup), FEWER_STEPS)))
            progress(1 / len(setups))
        return values

    def sampled(self, setup: AnySetup, arrays: Mapping[str, NDArray[Any]]) -> Sampled:
        return Sampled(arrays["mean_square"], log_end(held(linear_setup(setup))))


def _trained(
    setup: Setup, seeds: NDArray[np.int64], progress: Progress
) -> Mapping[str, NDArray[Any]]:
    """Mean squares of the projection's updates at LR 1, shape (steps, seeds)."""
    one, reported = held(setup), 0.0
    mean_square: Floats = np.empty((0, len(seeds)))
    for doubling in range(DOUBLINGS + 1):
        left = (1 - reported) * (1.0 if doubling == DOUBLINGS else 0.9)

        def report(part: float, left: float = left) -> None:
            progress(part * left)

        run = train_linear(one, seeds, progress=report)
        reported += left
        mean_square = (run.projection_step_rms[0] / one.projection_lr).T ** 2
        if np.any(coherence(one, mean_square.mean(axis=1)) >= 1):
            break
        one = replace(one, steps=2 * one.steps)
    progress(1 - reported)
    return {"mean_square": mean_square}


def _solved(setup: Setup) -> Value:
    """eta_E t_c of the mean-field solution; NaN where it does not pass the end.

    The error is that of a few tasks' mean, since replicas of one task share their tokens.
    """
    found = Value(math.nan, math.nan)
    for _ in range(DOUBLINGS + 1):
        least = 4 * setup.steps * setup.output_count
        if least > MAX_PARTICLES:
            raise Unavailable(
                f"{setup.output_count} `outputs` and {setup.steps} steps are beyond what the "
                "mean-field solver covers"
            )
        options: Any = {
            "particles": max(PARTICLES, 2 ** math.ceil(math.log2(least))),
            "replicas": REPLICAS,
            "error_estimate": False,
            "finite_width": False,
        }
        several = tasks(setup, np.arange(MEAN_FIELD_TASKS))
        solved = [predict(task, **options).projection_step_rms[0] for task in several]
        samples = (np.stack(solved, axis=-1) / setup.projection_lr) ** 2
        found = value_and_error(Sampled(samples, log_end(setup)))
        if math.isfinite(found.value) or np.mean(coherence(setup, samples)[0]) >= 1:
            break
        setup = replace(setup, steps=2 * setup.steps)
    return found


RESTORATION = Restoration()
