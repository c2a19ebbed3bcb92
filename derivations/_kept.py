"""Derivations that are kept as files between processes, where the environment names a folder.

A file holds what Python's pickle makes of a result. Its name is a digest of the function, its
arguments, the sources of this package and the version of sympy, so that a change of any of them is
derived anew. Only results that come back equal are kept.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import sympy as sp

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

VARIABLE = "DYNSIM_DERIVATION_CACHE"  # a folder, or "off"
ENDING = ".derivation"
WORTH = 0.01  # seconds that a derivation takes; another is made sooner than read
SEAL_LENGTH = 32  # bytes of a SHA-256 before the content


class _Found(NamedTuple):
    value: Any


def kept(derive: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """`derive`, which reads its result where a process before has written it."""

    @functools.wraps(derive)
    def read_or_derived(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
        path = _path(derive, args, kwargs)
        if path is None:
            return derive(*args, **kwargs)
        found = _read(path)
        if found is not None:
            return found.value
        start = time.perf_counter()
        value = derive(*args, **kwargs)
        if time.perf_counter() - start >= WORTH:
            _write(path, value)
        return value

    return read_or_derived


def _path(derive: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Path | None:
    """Where the result belongs; None where none is kept."""
    folder = os.environ.get(VARIABLE, "")
    if not folder or folder.lower() == "off" or (sources := _sources()) is None:
        return None
    asked = derive.__module__, derive.__qualname__, args, sorted(kwargs.items())
    content = _pickled(asked)
    if content is None:
        return None
    return Path(folder) / (hashlib.sha256(sources + content).hexdigest()[:40] + ENDING)


@functools.cache
def _sources() -> bytes | None:
    """A digest of all that a result depends on but its arguments; None where it cannot be read."""
    digest = hashlib.sha256(f"{sp.__version__} {sys.version_info[:2]}".encode())
    try:
        files = sorted(Path(__file__).parent.glob("*.py"))
        for file in files:
            digest.update(file.read_bytes())
    except OSError:
        return None
    return digest.digest() if files else None  # there is none in an archive


def _pickled(value: Any) -> bytes | None:
    """None for what pickle does not take: a function, for example, or what lies too deep."""
    try:
        return pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError):
        return None


def _read(path: Path) -> _Found | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    seal, content = content[:SEAL_LENGTH], content[SEAL_LENGTH:]
    if hashlib.sha256(content).digest() != seal:  # damaged, or half written
        return None
    return _unpickled(content)


def _unpickled(content: bytes) -> _Found | None:
    try:
        return _Found(pickle.loads(content))
    except Exception:  # sympy may have been changed without another version
        return None


def _write(path: Path, value: Any) -> None:
    """Nothing is written where the disk does not let us, or what comes back would be another."""
    content = _pickled(value)
    if content is None or _unpickled(content) != (value,):
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
