"""Sizes and rates where some are given: paths give the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynsim._errors import InputError, check_integer
from dynsim._network_setup import NetworkSetup
from dynsim._setup import MAX_SIZE, Setup

from ._paths import ScalingPath

LETTERS: Mapping[str, str] = {
    "width": "d",
    "vocab_size": "m",
    "outputs": "n",
    "batch_size": "B",
}
COUNTS = (*LETTERS, "target_rank", "steps", "warmup_steps")


@dataclass(frozen=True, eq=False)
class Resolution:
    """The sizes and rates of one setup, or, with arrays in `given`, of a whole grid of them.

    - `given`: sizes and rates that are known, by field.
    - `paths`: the others as functions of d, m, n and B; a path of a field that is given is not
      read.
    - `options`: all other fields of the setup.
    - `whole`: sizes that paths give are rounded to integers.
    """

    given: Mapping[str, Any]
    paths: Mapping[str, ScalingPath]
    options: Mapping[str, Any]
    whole: bool = True

    def sizes(self) -> dict[str, Any]:
        """d, m, n and B; integers as in the setup. B = 0 stands for all tokens."""
        known: dict[str, Any] = {}
        for field, letter in LETTERS.items():
            self._resolve(field, letter, known, ())
        return known

    def exact(self, field: str) -> Any:
        """A size or rate before it is rounded. Raises `InputError` if it is not finite."""
        if field in self.given:
            return self.given[field]
        return self._evaluated(field, {}, ())

    def setup(self) -> Setup | NetworkSetup:
        """The setup. It makes T = `steps` updates: `Setup.steps` is T + 1, so that the state after
        the last one is part of a run.

        Raises `InputError` for a value that leaves the allowed range.
        """
        fields = dict(self.options)
        for field in (*self.paths, *self.given):
            value = self.exact(field)
            fields[field] = int(_rounded(field, value)) if field in COUNTS else float(value)
        check_integer("steps", fields["steps"], 1, MAX_SIZE - 1)
        fields["steps"] += 1
        kind = Setup if self.options.get("network", "linear") == "linear" else NetworkSetup
        return kind(**fields)

    def _resolve(
        self, field: str, letter: str, known: dict[str, Any], within: tuple[str, ...]
    ) -> Any:
        """A size, put into `known` with all that it depends on. `within` are the fields whose paths
        led to it."""
        if letter in known:
            return known[letter]
        if field in self.given:
            value = self.given[field] * 1.0
        elif field in self.paths:
            value = self._evaluated(field, known, within)
            value = _rounded(field, value) if self.whole else value
        else:
            value = self._followed(field, known)
        known[letter] = value
        return value

    def _evaluated(self, field: str, known: dict[str, Any], within: tuple[str, ...]) -> Any:
        """A path at the sizes that it depends on, before it is rounded."""
        path = self.paths[field]
        if field in within:
            first, *others = within
            through = ", ".join(f"`{name}`" for name in others)
            allowed = f"must not depend on itself{' through ' * bool(others)}{through}"
            raise InputError(first, str(self.paths[first]), allowed)
        for name, letter in LETTERS.items():
            if letter in path.variables:
                size = self._resolve(name, letter, known, (*within, field))
                if not np.all(size):
                    raise InputError(
                        field, str(path), f"needs a positive `{name}` for its {letter}"
                    )
        return _finite(field, path, path(**known))

    def _followed(self, field: str, known: dict[str, Any]) -> Any:
        """What a size without a path is: all tokens (B = 0), one output or one for each token."""
        if field == "outputs" and outputs_are_tokens(self.options):
            return self._resolve("vocab_size", "m", known, ())
        return 0.0 if field == "batch_size" else 1.0


def outputs_are_tokens(options: Mapping[str, Any]) -> bool:
    """Whether there is one output for each token type where `outputs` is left out."""
    return options.get("targets") == "next-token" or bool(options.get("tied"))


@dataclass(frozen=True)
class PathValue:
    """What a path comes to, for an error."""

    path: ScalingPath
    value: float

    def __str__(self) -> str:
        return f"{self.path} = {self.value:.6g}"


def _rounded(field: str, value: Any) -> Any:
    """The nearest integers. A positive number that comes to 0 would change the meaning of an option
    (0 is the full batch, say): of one setup it raises `InputError`."""
    if isinstance(value, np.ndarray):
        return np.rint(value)
    if value and not round(value):
        raise InputError(field, value, "must be at least 1 when it is rounded")
    return float(round(value))


def _finite(field: str, path: ScalingPath, value: Any) -> Any:
    most = float(np.max(np.abs(value)))
    if not math.isfinite(most) or most > 1e300:
        raise InputError(field, PathValue(path, most), "must be finite")
    return value
