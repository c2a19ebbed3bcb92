"""What theory says of a quantity along a family: its columns, with the reason for missing ones."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynsim._compiled import SYMPY
from dynsim._errors import InputError
from dynsim._summary import summary
from dynsim.statistics._exponents import log_slope
from dynsim.theory.mean_field._limit import OutOfTime, time_limit

from ._epsilon import check_small
from ._family import Family
from ._quantity import AnySetup, Asymptotic, Floats, Progress, Quantity, Unavailable, Value

WIDE_FACTOR, WIDEST = 4, 10**6  # of sizes that no one trains
WIDE_VOCABULARY = 2**24  # a token law keeps a number for every type
WIDE_ALONG = ("width", "vocab_size", "batch_size")
MEAN_FIELD_SECONDS = 120.0  # for all mean-field solutions of a family
NO_SIZES = "the sizes are not chosen yet"


@dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """A quantity by theory at growing sizes, shape (K,) each; NaN where theory does not give it.

    - `sizes`: values of the growing size.
    - `derived`: the derived formula.
    - `mean_field`, `mean_field_error`: the mean-field solution and its standard error.
    """

    sizes: NDArray[np.int64]
    derived: Floats
    mean_field: Floats
    mean_field_error: Floats

    def __repr__(self) -> str:
        return summary(
            "Curve of theory",
            sizes=self.sizes,
            derived=self.derived,
            mean_field=self.mean_field,
            mean_field_error=self.mean_field_error,
        )


class Local(NamedTuple):
    """Slopes between neighbouring sizes, shape (K - 1,); they stand at `sizes`, the geometric
    means."""

    sizes: Floats
    derived: Floats
    mean_field: Floats
    mean_field_error: Floats


class Theory(NamedTuple):
    """The columns of theory.

    - `asymptotic`: the derived power, or None.
    - `curve`: at the sizes of the family; `wide`: from the largest of them to a million.
    - `why`: the reason for each column that is missing, by its name, and for a `wide` that ends
      early.
    """

    asymptotic: Asymptotic | None
    curve: Curve
    wide: Curve
    why: dict[str, str]


def slope(sizes: NDArray[np.int64], values: Floats) -> float | None:
    """Least squares of logarithms; None where the value is no positive number at every size.

    A slope through some of the sizes would be another quantity than that of trained networks.
    """
    if len(sizes) < 2 or not _positive(values).all():
        return None
    return float(log_slope(np.log(sizes.astype(float)), np.log(values)))


def slope_with_error(sizes: NDArray[np.int64], values: Floats, errors: Floats) -> Value | None:
    """`slope` and its standard error, from independent errors of the values."""
    found = slope(sizes, values)
    if found is None:
        return None
    centred = np.log(sizes.astype(float))
    centred -= centred.mean()
    weights = centred / (centred @ centred)
    return Value(found, float(np.linalg.norm(weights * errors / values)))


def _positive(values: Floats) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values > 0)


def local_slopes(curve: Curve) -> Local:
    """The slopes between neighbouring sizes of a curve."""
    logs = np.log(curve.sizes.astype(float))
    with np.errstate(all="ignore"):
        relative = curve.mean_field_error / curve.mean_field
        return Local(
            np.exp((logs[1:] + logs[:-1]) / 2),
            np.diff(np.log(curve.derived)) / np.diff(logs),
            np.diff(np.log(curve.mean_field)) / np.diff(logs),
            np.hypot(relative[1:], relative[:-1]) / np.diff(logs),
        )


def joined(curve: Curve, wide: Curve) -> Curve:
    """One curve from the measured sizes to the wide ones, which begin with the largest measured."""
    return Curve(
        np.append(curve.sizes, wide.sizes[1:]),
        np.append(curve.derived, wide.derived[1:]),
        np.append(curve.mean_field, wide.mean_field[1:]),
        np.append(curve.mean_field_error, wide.mean_field_error[1:]),
    )


def asymptotic_column(quantity: Quantity, family: Family) -> Theory:
    """The derived power alone, while the sizes are not chosen yet."""
    power, why = _asymptotic(quantity, family)
    nothing = _nothing(())
    return Theory(power, nothing, nothing, why | dict.fromkeys(("derived", "mean_field"), NO_SIZES))


def closed_columns(quantity: Quantity, family: Family) -> Theory:
    """The derived power and the formula at the sizes of the family: within a second or two."""
    power, why = _asymptotic(quantity, family)
    curve, reason = _derived(quantity, family, family.sizes)
    if reason:
        why["derived"] = reason
    return Theory(power, curve, _nothing(()), why)


def _asymptotic(quantity: Quantity, family: Family) -> tuple[Asymptotic | None, dict[str, str]]:
    with SYMPY:
        try:
            for size in (family.sizes[0], family.sizes[-1]):
                check_small(quantity, family.setup(size))
            return quantity.asymptotic(family), {}
        except Unavailable as reason:
            return None, {"asymptotic": str(reason)}


def with_wide_sizes(theory: Theory, quantity: Quantity, family: Family) -> Theory:
    """The columns with the derived formula at sizes that no one trains."""
    (sizes, _), end = wide_family(family)
    wide, reason = _derived(quantity, family, sizes)
    why = {"wide": end, "wide_derived": None if "derived" in theory.why else reason}
    return theory._replace(wide=wide, why=theory.why | {k: text for k, text in why.items() if text})


class TimeLeft:
    """Of `seconds` for all mean-field solutions, by default `MEAN_FIELD_SECONDS`, from now on."""

    def __init__(self, seconds: float = MEAN_FIELD_SECONDS):
        self.seconds, self._start = seconds, time.perf_counter()

    def __call__(self) -> float:
        return self.seconds - (time.perf_counter() - self._start)


class Solutions(NamedTuple):
    """Mean-field solutions at some sizes, with standard errors; NaN from the first size on that
    has none, and the reason for it."""

    values: Floats
    errors: Floats
    reason: str | None


def begin_mean_field(quantity: Quantity, family: Family) -> None:
    """Begins to compile what `mean_field_solutions` need, while formulas are derived."""
    with suppress(Unavailable, InputError):  # its column says so
        quantity.begin_mean_field(family.setup(family.sizes[0]))


def mean_field_solutions(
    quantity: Quantity,
    family: Family,
    sizes: Sequence[int],
    time_left: TimeLeft,
    progress: Progress = lambda part: None,
    side_by_side: int = 1,
) -> Solutions:
    """The mean-field solution at each size, as far as they come in time.

    The first size traces and compiles what most others use; two programs that are traced at once
    take Python's time from each other. After it, `side_by_side` are solved at once.
    """
    values, errors = np.full((2, len(sizes)), np.nan)
    lock = threading.Lock()

    def report(part: float) -> None:
        with lock:
            progress(part / len(sizes))

    def solved(size: int) -> Value:
        if time_left.seconds <= 0:
            raise Unavailable("the budget leaves no time for it")
        problem = f"its solutions take more than {time_left.seconds:.0f} s"
        with time_limit(time_left(), problem):
            (value,) = quantity.mean_field([family.setup(size)], report)
        return value

    reason, others = None, list[Future[Value]]()
    pool = ThreadPoolExecutor(side_by_side)
    try:
        for place, size in enumerate(sizes):
            if place == 1:
                others = [pool.submit(copy_context().run, solved, one) for one in sizes[1:]]
            try:
                value = others[place - 1].result() if place else solved(size)
                values[place], errors[place] = value
            except (Unavailable, OutOfTime) as missing:
                reason = _placed(str(missing), family.along, size, place)
            except InputError as error:
                reason = _placed(refusal(error), family.along, size, place)
            if reason:
                break
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return Solutions(values, errors, reason)


def with_mean_field(theory: Theory, solved: Solutions, along: str) -> Theory:
    """The columns with the mean-field solutions at the sizes of the family."""
    curve, reason = _with_solutions(theory.curve, solved, along)
    why = {"mean_field": reason} if reason else {}
    return theory._replace(curve=curve, why=theory.why | why)


def with_wide_mean_field(
    theory: Theory,
    quantity: Quantity,
    family: Family,
    time_left: TimeLeft,
    progress: Progress = lambda part: None,
    side_by_side: int = 1,
) -> Theory:
    """The columns with the mean-field solutions at the wide sizes, the first of which is the
    largest measured one. Without a mean field at the sizes of the family there is none."""
    wide = theory.wide
    if not len(wide.sizes) or "mean_field" in theory.why:
        return theory
    beyond = wide.sizes[1:].tolist()
    solved = mean_field_solutions(quantity, family, beyond, time_left, progress, side_by_side)
    known = theory.curve
    values, errors = (
        np.append(first[-1:], rest)
        for first, rest in (
            (known.mean_field, solved.values),
            (known.mean_field_error, solved.errors),
        )
    )
    wide, reason = _with_solutions(wide, Solutions(values, errors, solved.reason), family.along)
    why = {"wide_mean_field": reason} if reason else {}
    return theory._replace(wide=wide, why=theory.why | why)


def _with_solutions(curve: Curve, solved: Solutions, along: str) -> tuple[Curve, str | None]:
    """The curve with the solutions, and why it has no slope where it has none."""
    reason = solved.reason or _not_positive("solution", along, curve.sizes, solved.values)
    return replace(curve, mean_field=solved.values, mean_field_error=solved.errors), reason


def _placed(reason: str, along: str, size: int, place: int) -> str:
    """A reason with the size from which on it is one, unless that is the first."""
    return f"{reason} (from `{along}` {size} on)" if place else reason


def _not_positive(what: str, along: str, sizes: NDArray[np.int64], values: Floats) -> str | None:
    """Why a column has no slope although it has values everywhere; None where it has one."""
    lost = sizes[~_positive(values)].tolist()
    if not lost:
        return None
    return f"the {what} gives no positive number at `{along}` {', '.join(map(str, lost))}"


def refusal(error: InputError) -> str:
    """An error as a reason; the field stands between backticks."""
    return error.written(lambda field: f"`{field}`")


def wide_family(family: Family) -> tuple[tuple[tuple[int, ...], list[AnySetup]], str | None]:
    """Sizes from the largest of the family to a million, their setups, and why they end early."""
    largest = family.sizes[-1]
    if family.along not in WIDE_ALONG:
        return ((), []), f"`{family.along}` makes theory slow: no sizes beyond {largest}"
    sizes, setups = [], []
    for size in _wide_sizes(largest):
        try:
            setup = family.setup(size)
        except InputError as error:
            return (tuple(sizes), setups), refusal(error)
        end = _beyond(family, setup)
        if end:
            return (tuple(sizes), setups), end
        sizes.append(size)
        setups.append(setup)
    return (tuple(sizes), setups), None


def _wide_sizes(largest: int) -> Sequence[int]:
    if largest >= WIDEST:
        return []
    growing = (largest * WIDE_FACTOR**power for power in itertools.count())
    return [*itertools.takewhile(lambda size: size * WIDE_FACTOR**0.5 < WIDEST, growing), WIDEST]


def _beyond(family: Family, setup: AnySetup) -> str | None:
    """Why theory is not asked for this setup."""
    if setup.vocab_size > WIDE_VOCABULARY:
        return f"`vocab_size` {setup.vocab_size} is beyond {WIDE_VOCABULARY}, a law of that many"
    measured = family.setup(family.sizes[-1]).vocab_size
    law = setup.law_name.partition(":")[0]
    if law not in ("uniform", "zipf") and setup.vocab_size > measured:
        return f"`tokens` {law} has no larger vocabulary than was asked for"
    return None


def _nothing(sizes: Sequence[int]) -> Curve:
    missing = np.full(len(sizes), np.nan)
    return Curve(np.array(sizes, dtype=np.int64), missing, missing, missing)


def _derived(quantity: Quantity, family: Family, sizes: Sequence[int]) -> tuple[Curve, str | None]:
    """The derived formula at each size, NaN where there is none, and the first reason for one."""
    curve, values = _nothing(sizes), np.full(len(sizes), np.nan)
    reasons: dict[int, str] = {}
    with SYMPY:
        for place, size in enumerate(sizes):
            try:
                setup = family.setup(size)
                check_small(quantity, setup)
                values[place] = quantity.derived(setup)
            except Unavailable as missing:
                reasons[size] = str(missing)
            except InputError as error:
                reasons[size] = refusal(error)
    if not reasons:
        reason = _not_positive("formula", family.along, curve.sizes, values)
    else:
        reason = next(iter(reasons.values()))
        if len(reasons) < len(sizes):
            reason += f" (at `{family.along}` {', '.join(map(str, reasons))})"
    return replace(curve, derived=values), reason
