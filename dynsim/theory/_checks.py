"""Checks of what the closed formulas are evaluated at."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError
from dynsim.tokens._laws import TokenLaw


def check_law(law: object) -> None:
    """Raises `InputError` unless `law` is a token law."""
    if not isinstance(law, TokenLaw):
        raise InputError("law", law, "must be a dynsim.TokenLaw, such as token_law('zipf:1', 1000)")


def check_numbers(field: str, values: ArrayLike, low: float) -> NDArray[np.float64]:
    """`values` as float64. Raises `InputError` unless all are finite numbers of at least `low`."""
    allowed = f"must be finite and at least {low:g}"
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(field, values, allowed) from None
    wrong = numbers[~(np.isfinite(numbers) & (numbers >= low))]
    if wrong.size:
        raise InputError(field, float(wrong[0]), allowed)
    return numbers
