"""What theory says of a quantity along a family: its columns, with the reason for missing ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynsim._compiled import SYMPY
from dynsim._errors import InputError
from dynsim._summary import summary
from dynsim.statistics._exponents import log_slope

from ._family import Family
from ._quantity import AnySetup, Asymptotic, Floats, Progress, Quantity, Unavailable, Value

WIDE_FACTOR, WIDEST = 4, 10**6  # of sizes that no one trains
WIDE_VOCABULARY = 2**24  # a token law keeps a number for every type
WIDE_ALONG = ("width", "vocab_size", "batch_size")


@dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """A quantity by theory at growing sizes, shape (K,) each; NaN where theory does not give it.

    - `sizes`: values of the growing size.
    - `derived`: the derived formula.
    - `mean_field`, `mean_field_error`: the mean-field solution and its numerical error.
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
    """Least squares of logarithms over the sizes.

    None unless the value is a positive number at every size, and below two sizes: a slope through
    some of them is another number than the measured slope through all.
    """
    if len(sizes) < 2 or not np.all(np.isfinite(values) & (values > 0)):
        return None
    return float(log_slope(np.log(sizes.astype(float)), np.log(values)))


def slope_with_error(sizes: NDArray[np.int64], values: Floats, errors: Floats) -> Value | None:
    """`slope` and its error, from independent errors of the values."""
    found = slope(sizes, values)
    if found is None:
        return None
    centred = np.log(sizes.astype(float))
    centred -= centred.mean()
    weights = centred / (centred @ centred)
    return Value(found, float(np.linalg.norm(weights * errors / values)))


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


def closed_columns(quantity: Quantity, family: Family) -> Theory:
    """The derived power and the formula at the sizes of the family: within a second or two."""
    why: dict[str, str] = {}
    asymptotic = None
    with SYMPY:
        try:
            asymptotic = quantity.asymptotic(family)
        except Unavailable as reason:
            why["asymptotic"] = str(reason)
        curve, reason = _derived(quantity, family.sizes, family.setups())
    if reason:
        why["derived"] = reason
    elif slope(curve.sizes, curve.derived) is None:
        why["derived"] = "the formula does not give a positive number at every size"
    return Theory(asymptotic, curve, _derived(quantity, (), [])[0], why)


def with_wide_sizes(theory: Theory, quantity: Quantity, family: Family) -> Theory:
    """The columns with the derived formula at sizes that no one trains."""
    (sizes, setups), end = wide_family(family)
    with SYMPY:
        wide, _ = _derived(quantity, sizes, setups)
    return theory._replace(wide=wide, why=theory.why | ({"wide": end} if end else {}))


def with_mean_field(
    theory: Theory, quantity: Quantity, family: Family, progress: Progress = lambda part: None
) -> Theory:
    """The columns with the mean-field solution added."""
    why = dict(theory.why)
    curves = []
    count = len(theory.curve.sizes) + len(theory.wide.sizes)
    for curve in (theory.curve, theory.wide):
        share = len(curve.sizes) / count

        def report(part: float, share: float = share) -> None:
            progress(part * share)

        setups = [family.setup(int(size)) for size in curve.sizes]
        try:
            found = quantity.mean_field(setups, report) if setups else []
        except (Unavailable, InputError) as error:
            reason = refusal(error) if isinstance(error, InputError) else str(error)
            why["mean_field" if not curves else "wide"] = reason
            break
        values = np.array([tuple(value) for value in found]).reshape(-1, 2)
        curves.append(replace(curve, mean_field=values[:, 0], mean_field_error=values[:, 1]))
    if curves and slope(curves[0].sizes, curves[0].mean_field) is None:
        why["mean_field"] = "the solution does not give a positive number at every size"
    curve, wide = (*curves, *(theory.curve, theory.wide)[len(curves) :])
    return Theory(theory.asymptotic, curve, wide, why)


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


def _derived(
    quantity: Quantity, sizes: Sequence[int], setups: Sequence[AnySetup]
) -> tuple[Curve, str | None]:
    """The derived formula at each setup, NaN from the first that has none, and its reason."""
    values, nothing = np.full((2, len(setups)), np.nan)
    reason = None
    try:
        for number, setup in enumerate(setups):
            values[number] = quantity.derived(setup)
    except Unavailable as missing:
        reason = str(missing)
    except InputError as error:
        reason = refusal(error)
    return Curve(np.array(sizes, dtype=np.int64), values, nothing, nothing), reason
