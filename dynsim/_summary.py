"""How results print themselves: a title, then one line for each thing that they hold."""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter
from typing import Any

import numpy as np

INDENT, LINE_WIDTH = "  ", 100
MOST_SHOWN = 6  # entries of a list or an array that are written out
NINETY_FIVE = 1.96  # standard errors of a normal error to either side of a 95 % interval


def summary(title: str, **lines: object) -> str:
    """A title and below it, indented, `name: value` for each of `lines`; None is left out.

    Arrays show their shape and range, and their values where they are few; frozen dataclasses,
    such as a setup, the fields that are not at their defaults; lists their length if they are long.
    A long text is wrapped.

    ```python
    def __repr__(self) -> str:
        return summary("FirstStep", layer=self.layer, rms=self.rms)
    ```
    """
    return "\n".join(
        [title, *(_line(name, value) for name, value in lines.items() if value is not None)]
    )


def _line(name: str, value: object) -> str:
    """`name: value`, indented; a text is wrapped."""
    line = f"{INDENT}{name}: {_shown(value)}"
    if not isinstance(value, str):
        return line
    return textwrap.fill(
        line,
        LINE_WIDTH,
        subsequent_indent=2 * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shown(value: Any) -> str:
    if isinstance(value, (bool, np.bool_, str)):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.6g}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _nested(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        if len(value) <= MOST_SHOWN:
            return ", ".join(map(_shown, value)) or "none"
        return f"{len(value)} entries, {_shown(value[0])} ... {_shown(value[-1])}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(np.asarray(value))
    return str(value)


def _nested(value: Any) -> str:
    """A dataclass within another: in its own words, indented, or else by its fields."""
    if type(value).__str__ is not object.__str__:
        return str(value)
    made_by_dataclass = hasattr(type(value).__repr__, "__wrapped__")
    return described(value) if made_by_dataclass else repr(value).replace("\n", "\n  ")


def described(value: Any) -> str:
    """A dataclass in one line: `Setup(width=64)`, the fields that are not at their defaults."""
    changed = [
        f"{field.name}={_shown(getattr(value, field.name))}"
        for field in dataclasses.fields(value)
        if field.repr and _changed(field, getattr(value, field.name))
    ]
    return f"{type(value).__name__}({', '.join(changed)})"


def _changed(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        return True
    return not (value is default or (type(value) is type(default) and _equal(value, default)))


def _equal(left: Any, right: Any) -> bool:
    return bool(np.array_equal(left, right)) if isinstance(left, np.ndarray) else left == right


def _array(values: np.ndarray[Any, Any]) -> str:
    """Few numbers as they are; of many the shape, the range and how many are not finite."""
    if values.ndim == 0:
        return _shown(values.item())
    if values.dtype.kind not in "fiub":
        counts = Counter(map(str, values.ravel()))
        return ", ".join(
            f"{count} x {text}" if values.size > 1 else text
            for text, count in counts.most_common(MOST_SHOWN)
        )
    if values.size <= MOST_SHOWN and values.ndim == 1:
        return "[" + ", ".join(map(_shown, values)) + "]"
    shape = "x".join(map(str, values.shape))
    if values.dtype.kind == "b":
        return f"shape {shape}, {int(values.sum())} of {values.size} true"
    finite = values[np.isfinite(values)]
    if not finite.size:
        return f"shape {shape}, none finite"
    missing = f", {values.size - finite.size} not finite" if finite.size < values.size else ""
    return f"shape {shape}, from {_shown(finite.min())} to {_shown(finite.max())}{missing}"
