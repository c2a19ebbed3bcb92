"""The power of a growing size in a quantity: derived, by mean-field theory, and measured."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dynsim._errors import InputError
from dynsim._precision import require_x64
from dynsim._runs import seed_labels

from ._budget import budget_seconds, choices, planned
from ._columns import (
    MEAN_FIELD_SECONDS,
    Theory,
    TimeLeft,
    asymptotic_column,
    begin_mean_field,
    closed_columns,
    mean_field_solutions,
    with_mean_field,
    with_wide_mean_field,
    with_wide_sizes,
)
from ._family import DEFAULT_SEEDS, Along, Family, family, growing_size
from ._fitted import Fitted, fitted, no_interval
from ._measured import Measure, started
from ._quantity import Progress, Quantity, Unavailable
from ._result import DEFAULT_TOLERANCE, Band, ScalingExponent

DEFAULT_WIDTHS = (128, 256, 512, 1024)
SIDE_BY_SIDE = 2  # mean-field solutions while no networks train
HEAD_START = 3.0  # seconds for which mean-field theory has the processors before networks train
HEAD_START_SHARE = 0.05  # of a budget
ASYMPTOTIC = "asymptotic"
NOT_TRAINED, TRAINING = "no network was trained", "networks are being trained"
PLANNING = "the budget is being planned"
_FRACTION = re.compile(r"[+-]?\d{1,6}(/\d{1,6}|\.\d{1,12})?")


def exponent(
    quantity: str | Quantity = "projection_step_rms",
    *,
    widths: Sequence[int] | None = None,
    vocab_sizes: Sequence[int] | None = None,
    batch_sizes: Sequence[int] | None = None,
    output_counts: Sequence[int] | None = None,
    step_counts: Sequence[int] | None = None,
    seeds: int | ArrayLike | None = None,
    predict: float | str | None = None,
    tolerance: float | None = None,
    budget: float | str | None = None,
    measure: Measure | None = None,
    train: bool = True,
    progress: Progress = lambda part: None,
    report: Callable[[ScalingExponent], object] = lambda result: None,
    **options: Any,
) -> ScalingExponent:
    """The power x of a size s in a quantity y ~ s^x along a path, by every route there is.

    **Arguments:**

    - `quantity`: its name, a key of `dynsim.scaling.QUANTITIES`.
    - `widths`, `vocab_sizes`, `batch_sizes`, `output_counts`, `step_counts`: one of them, the
      values of the size that grows; default widths 128, 256, 512 and 1024.
    - `seeds`: independent networks at each size (a count, or their labels), 8 if left out.
    - `predict`: a predicted power, such as 0.85 or "17/20", or "asymptotic": the derived one. With
      it the result has a verdict, by the rule of the claims and `tolerance` (default 0.05).
    - `budget`: seconds, or a text such as "60s" or "10m". Two cells are timed, and the sizes (where
      none are given) and seeds chosen that take as long on this machine; `plan` of the result says
      which interval that should give.
    - `measure`: what gives the arrays of a cell in place of training it
      (`dynsim.scaling.measured_cells`).
    - `train`: False leaves out the networks, and gives the columns of theory alone.
    - `progress`: called with the fraction of training finished since the last call.
    - `report`: called with what there is so far: with the derived columns before anything is
      trained or timed, with the plan of a budget, and with the mean-field column too, while
      networks train.
    - `options`: every other size and rate, as a number or a path in d, m, n and B such as
      "d^0.7" (docs/guides/exponents.md#paths), and the rest of `dynsim.Setup`, or with `network`
      mlp or transformer of `dynsim.NetworkSetup`. `steps` is the number of updates after which
      the quantity is read, 1 if left out.

    A column that does not exist is None, and `why` says the reason. The mean-field column ends
    where its solutions take more than two minutes, or more than the budget. Diverged networks are
    counted; the sizes where they make the quantity infinite are left out of the fit.

    Raises `InputError` for what does not parse, leaves the allowed range at a size, or has no such
    quantity, and `RuntimeError` if JAX's 64-bit types are off.

    **Example:**

    >>> from dynsim import exponent
    >>> setup = {"vocab_size": "d^0.5", "optimizer": "sign"}
    >>> found = exponent("projection_step_rms", widths=[64, 128], train=False, **setup)
    >>> found.asymptotic.exponent, round(found.derived, 2)
    (Fraction(3, 4), 0.74)
    """
    require_x64()
    chosen = named_quantity(quantity)
    chosen.check_network(str(options.get("network") or "linear"))
    lists: dict[Along, Sequence[int] | None] = {
        "width": widths,
        "vocab_size": vocab_sizes,
        "batch_size": batch_sizes,
        "outputs": output_counts,
        "steps": step_counts,
    }
    along, sizes = growing_size(lists)

    def family_at(sizes: Sequence[int]) -> Family:
        found = family(along, sizes, **options)
        for setup in found.setups():
            chosen.check(setup)
        return found

    start = time.perf_counter()
    seconds = _checked_budget(budget, chosen, seeds, train)
    _check_trained(train, seeds, measure)
    timed = None if seconds is None else choices(family_at, sizes)
    one = timed or family_at(DEFAULT_WIDTHS if sizes is None else sizes)
    plan, labels = None, seed_labels(DEFAULT_SEEDS if seeds is None else seeds)
    chooses = timed is not None and sizes is None
    band = None if predict == ASYMPTOTIC else _band(predict, tolerance)
    untrained = None if train else NOT_TRAINED
    if chosen.measurement is None:
        untrained = "it is not measured"

    def result(found: Fitted | None, reason: str = "") -> ScalingExponent:
        why = theory.why | _missing(found, reason, band, len(labels))
        columns = (theory.asymptotic, theory.curve, theory.wide)
        return ScalingExponent(chosen, one, labels, *columns, found, why, band, plan)

    def halves(part: float) -> None:
        progress(part / 2)  # the other half are sizes that no one trains

    beside = ThreadPoolExecutor(1)
    try:
        begin_mean_field(chosen, one)
        # Not while the mean field is solved: Python would do both in turn, and neither soon.
        theory = (asymptotic_column if chooses else closed_columns)(chosen, one)
        if predict == ASYMPTOTIC:
            band = _band(predict, tolerance, theory)
        if timed is not None and seconds is not None:
            report(result(None, PLANNING))
            plan = planned(chosen, timed, seconds, fixed=sizes is not None, start=start)
            labels = seed_labels(plan.seeds)
            if chooses:
                one = family_at(plan.sizes)
                theory = closed_columns(chosen, one)
        most = MEAN_FIELD_SECONDS
        if seconds is not None:
            most = min(most, max(seconds - (time.perf_counter() - start), 0.0))
        left = TimeLeft(most)
        arguments = (chosen, one, one.sizes, left, halves if untrained else _unseen, SIDE_BY_SIDE)
        solved = beside.submit(copy_context().run, mean_field_solutions, *arguments)
        report(result(None, untrained or TRAINING))
        if untrained:
            theory = with_wide_sizes(theory, chosen, one)
            theory = with_mean_field(theory, solved.result(), along)
            theory = with_wide_mean_field(theory, chosen, one, left, halves, SIDE_BY_SIDE)
            return result(None, untrained)
        wait([solved], timeout=HEAD_START if seconds is None else HEAD_START_SHARE * seconds)
        try:
            with started(chosen, one.setups(), labels, measure=measure, progress=progress) as cells:
                theory = with_mean_field(theory, solved.result(), along)
                report(result(None, TRAINING))
                theory = with_wide_sizes(theory, chosen, one)
                theory = with_wide_mean_field(theory, chosen, one, left)
                samples = [cell.result() for cell in cells]
        except Unavailable as reason:
            return result(None, str(reason))
        return result(fitted(one.sizes, samples))
    finally:
        beside.shutdown(wait=False, cancel_futures=True)


def _unseen(part: float) -> None:
    """Progress that no one asks for."""


def _missing(found: Fitted | None, reason: str, band: Band | None, seeds: int) -> dict[str, str]:
    """Why there is no measured power (`reason` while there is none), and no verdict."""
    why = {"measured": reason} if reason else {}
    if found is not None and found.fit is None:
        why["measured"] = "it is finite at fewer than two sizes"
    if band is None:
        why["verdict"] = "nothing was predicted"
    elif "measured" in why:
        why["verdict"] = "nothing was measured"
    elif found and found.fit and (lost := no_interval(found.fit, seeds)):
        why["verdict"] = lost
    return why


def _checked_budget(
    budget: float | str | None, quantity: Quantity, seeds: int | ArrayLike | None, train: bool
) -> float | None:
    """Seconds of the budget; None without one. Raises `InputError` for what does not go with it."""
    if budget is None:
        return None
    seconds = budget_seconds(budget)
    if seeds is not None:
        raise InputError("seeds", _short(seeds), "must be left out: `budget` chooses it")
    if not train or quantity.measurement is None:
        raise InputError("budget", budget, "must be left out where no network is trained")
    return seconds


def _check_trained(train: bool, seeds: int | ArrayLike | None, measure: Measure | None) -> None:
    """Raises `InputError` for what concerns networks alone where none are trained."""
    given = {"seeds": seeds, "measure": measure}
    for name, value in given.items():
        if not train and value is not None:
            raise InputError(name, _short(value), "must be left out where no network is trained")


def _short(value: Any) -> Any:
    return value if isinstance(value, int | np.integer) else str(value)


def _band(
    predict: float | str | None, tolerance: float | None, theory: Theory | None = None
) -> Band | None:
    """The predicted power, which `theory` may have, and its tolerance. Raises `InputError`."""
    if predict is None:
        if tolerance is not None:
            raise InputError("tolerance", tolerance, "must be left out without `predict`")
        return None
    width = DEFAULT_TOLERANCE if tolerance is None else tolerance
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < math.inf:
        raise InputError("tolerance", tolerance, "must be a finite number above 0")
    return Band(_prediction(predict, theory), float(width))


def _prediction(predict: float | str, theory: Theory | None) -> float:
    if theory is not None and predict == ASYMPTOTIC:
        if theory.asymptotic is None:
            raise InputError("predict", predict, f"does not exist: {theory.why['asymptotic']}")
        return float(theory.asymptotic.exponent)
    allowed = "must be a finite number such as 0.85 or 17/20, or asymptotic"
    if isinstance(predict, str):
        if not _FRACTION.fullmatch(predict.strip()):
            raise InputError("predict", predict, allowed)
        try:
            return float(Fraction(predict.strip()))
        except ZeroDivisionError:
            raise InputError("predict", predict, allowed) from None
    if isinstance(predict, bool) or not isinstance(predict, int | float):
        raise InputError("predict", predict, allowed)
    if not math.isfinite(predict):
        raise InputError("predict", predict, allowed)
    return float(predict)


def named_quantity(quantity: str | Quantity) -> Quantity:
    """The quantity of this name. Raises `InputError` with all names and the nearest."""
    if isinstance(quantity, Quantity):
        return quantity
    from .quantities._registry import QUANTITIES

    if quantity in QUANTITIES:
        return QUANTITIES[quantity]
    near = get_close_matches(str(quantity), QUANTITIES, n=1, cutoff=0.7)
    hint = f"; the nearest is {near[0]}" if near else ""
    raise InputError("quantity", quantity, f"must be one of {', '.join(QUANTITIES)}{hint}")
