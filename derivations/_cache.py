"""Derivations are made once and by one thread at a time: sympy is not made for several.

It fills tables of its own at first use, those of its Meijer G integrals for example, and a second
thread that finds one half filled gets no integral, or another form of it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ._kept import kept

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

SYMPY = threading.RLock()
"""held by whoever derives, or makes an expression a function"""


def cache(derive: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """As `functools.cache`, and no two derivations at a time; what takes long may be read."""
    known = functools.cache(kept(derive))

    @functools.wraps(derive)
    def derived(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
        with SYMPY:
            return known(*args, **kwargs)  # pyright: ignore[reportArgumentType]

    return derived
