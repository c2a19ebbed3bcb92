"""The two axes of a map: what varies, over which range, at which values.

An axis is written NAME=LOW:HIGH:N, such as `width=16:65536:200`, with `:lin` or `:log` for the
spacing. It is logarithmic if nothing is said, except that of the Zipf exponent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._setup import MAX_SIZE
from dynsim.tokens._laws import MAX_VOCAB_SIZE, MAX_ZIPF_EXPONENT

Floats = NDArray[np.float64]
Spacing = Literal["log", "lin"]
MOST_VALUES = 2000
GRAMMAR = "must be NAME=LOW:HIGH:N, such as width=16:65536:200, with :lin or :log for its spacing"


@dataclass(frozen=True)
class AxisName:
    """What an axis can be: its label as mathematics, whether it is an integer, and its range."""

    label: str
    integer: bool
    low: float
    high: float
    spacing: Spacing = "log"


AXES: dict[str, AxisName] = {
    "width": AxisName("width $d$", True, 1, MAX_SIZE),
    "vocab_size": AxisName("vocabulary size $m$", True, 1, MAX_VOCAB_SIZE),
    "batch_size": AxisName("batch size $B$", True, 1, MAX_SIZE),
    "zipf": AxisName(r"Zipf exponent $\alpha$", False, 0, MAX_ZIPF_EXPONENT, "lin"),
    "outputs": AxisName("outputs $n$", True, 1, MAX_SIZE),
    "age": AxisName(r"displacement of the embedding $\eta_E t$", False, 0, 1e6),
    "steps": AxisName("updates $T$", True, 1, MAX_SIZE),
    "embedding_lr": AxisName(r"embedding learning rate $\eta_E$", False, 0, 1e6),
    "projection_lr": AxisName(r"projection learning rate $\eta_W$", False, 0, 1e6),
}


@dataclass(frozen=True, eq=False)
class Axis:
    """Values of one size, rate or exponent, increasing.

    - `name`: one of `AXES`; `spacing`: log or lin.
    - `rounded`: one sentence where values were rounded to distinct integers, else empty.
    """

    name: str
    values: Floats
    spacing: Spacing
    rounded: str = ""

    @property
    def label(self) -> str:
        return AXES[self.name].label

    @property
    def integer(self) -> bool:
        return AXES[self.name].integer

    @property
    def positions(self) -> Floats:
        """The values where they are drawn: logarithms on a logarithmic axis."""
        return np.log(self.values) if self.spacing == "log" else self.values

    def at(self, positions: Floats) -> Floats:
        """Values at positions between those of the axis."""
        return np.exp(positions) if self.spacing == "log" else positions

    def spread(self, count: int) -> list[int]:
        """Places of `count` values, evenly spread: in the middle of as many equal parts."""
        places = (np.arange(count) + 0.5) / count * (len(self.values) - 1)
        return np.unique(np.rint(places).astype(int)).tolist()

    def described(self) -> str:
        """The axis as it is written."""
        low, high = f"{self.values[0]:.10g}", f"{self.values[-1]:.10g}"
        return f"{self.name}={low}:{high}:{len(self.values)}:{self.spacing}"


def axis(field: str, given: str | Axis) -> Axis:
    """An axis from its text. `field` is what an error names: x or y.

    Raises `InputError` for a text that is none, an unknown name, and an empty range.

    **Example:**

    >>> from dynsim.maps import axis
    >>> axis("x", "width=16:256:3").values
    array([ 16.,  64., 256.])
    """
    if isinstance(given, Axis):
        return given
    if not isinstance(given, str):
        raise InputError(field, given, GRAMMAR)
    name, equals, text = given.partition("=")
    parts = text.split(":")
    if not equals or len(parts) not in (3, 4):
        raise InputError(field, given, GRAMMAR)
    kind = _named(field, name.strip())
    spacing = parts[3] if len(parts) == 4 else kind.spacing
    if spacing not in get_args(Spacing):
        raise InputError(field, given, f"must end in :lin or :log, not :{spacing}")
    try:
        low, high = float(parts[0]), float(parts[1])
        count = int(parts[2])
    except ValueError:
        raise InputError(field, given, GRAMMAR) from None
    if not 2 <= count <= MOST_VALUES:
        raise InputError(field, given, f"must have N from 2 to {MOST_VALUES} values")
    if not low < high:
        raise InputError(field, given, "must have LOW below HIGH")
    if not kind.low <= low <= high <= kind.high:
        raise InputError(field, given, f"must lie between {kind.low:.10g} and {kind.high:.10g}")
    if spacing == "log" and low <= 0:
        raise InputError(field, given, "must have a positive LOW, or end in :lin")
    values = np.geomspace(low, high, count) if spacing == "log" else np.linspace(low, high, count)
    return _axis(field, name.strip(), values, "log" if spacing == "log" else "lin")


def axis_of(name: str, values: Sequence[float], spacing: Spacing | None = None) -> Axis:
    """An axis at any increasing values of a size, a rate or an exponent.

    Raises `InputError` for an unknown name, fewer than two values, values that do not increase or
    leave the allowed range.

    **Example:**

    >>> from dynsim.maps import axis_of
    >>> axis_of("width", [16, 64, 256]).name
    'width'
    """
    kind = _named("axis", name)
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not 2 <= len(numbers) <= MOST_VALUES:
        raise InputError("axis", name, f"must have from 2 to {MOST_VALUES} values")
    if not np.all(np.isfinite(numbers)) or not np.all(np.diff(numbers) > 0):
        raise InputError("axis", name, "must have finite values that increase")
    if not kind.low <= numbers[0] <= numbers[-1] <= kind.high:
        raise InputError("axis", name, f"must lie between {kind.low:.10g} and {kind.high:.10g}")
    chosen = spacing or ("lin" if numbers[0] <= 0 else kind.spacing)
    if chosen == "log" and numbers[0] <= 0:
        raise InputError("axis", name, "must have positive values on a logarithmic scale")
    return _axis("axis", name, numbers, chosen)


def _named(field: str, name: str) -> AxisName:
    if name not in AXES:
        near = get_close_matches(name, AXES, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(field, name, f"must name one of {', '.join(AXES)}{hint}")
    return AXES[name]


def _axis(field: str, name: str, values: Floats, spacing: Spacing) -> Axis:
    if not AXES[name].integer:
        return Axis(name, values, spacing)
    whole = np.unique(np.rint(values))
    if len(whole) < 2:
        raise InputError(field, name, "must hold two integers or more")
    note = ""
    if len(whole) < len(values):
        note = f"{len(values)} values of `{name}` are rounded to {len(whole)} distinct integers"
    elif not np.array_equal(whole, values) and not math.isclose(
        float(np.max(np.abs(whole - values))), 0.0, abs_tol=1e-9
    ):
        note = f"values of `{name}` are rounded to integers"
    return Axis(name, whole, spacing, note)
