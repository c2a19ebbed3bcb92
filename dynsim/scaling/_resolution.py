"""Sizes and rates where some are given: paths give the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynsim._errors import InputError
from dynsim._setup import Setup
from dynsim.laboratory._setup import NetworkSetup

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
    """

    given: Mapping[str, Any]
    paths: Mapping[str, ScalingPath]
    options: Mapping[str, Any]

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
        path = self.paths[field]
        known: dict[str, Any] = {}
        for name, letter in LETTERS.items():
            if letter in path.variables:
                value = self._resolve(name, letter, known, (field,))
                if letter == "B" and not np.all(value):
                    raise InputError(field, str(path), "needs a positive `batch_size` for its B")
        return _finite(field, path, path(**known))

    def setup(self) -> Setup | NetworkSetup:
        """The setup. It makes T = `steps` updates: `Setup.steps` is T + 1, so that the state after
        the last one is part of a run.

        Raises `InputError` for a value that leaves the allowed range.
        """
        fields = dict(self.options)
        for field in (*self.paths, *self.given):
            value = self.exact(field)
            fields[field] = round(value) if field in COUNTS else float(value)
        fields["steps"] += 1
        kind = Setup if self.options.get("network", "linear") == "linear" else NetworkSetup
        return kind(**fields)

    def _resolve(
        self, field: str, letter: str, known: dict[str, Any], within: tuple[str, ...]
    ) -> Any:
        if letter in known:
            return known[letter]
        if field in within:
            raise InputError(
                field, str(self.paths[field]), "must not depend on itself through other sizes"
            )
        path = self.paths.get(field)
        if field in self.given:
            value = self.given[field] * 1.0
        elif path is None:
            value = self._followed(field, known)
        else:
            for name, other in LETTERS.items():
                if other in path.variables:
                    self._resolve(name, other, known, (*within, field))
            value = _rounded(_finite(field, path, path(**known)))
        known[letter] = value
        return value

    def _followed(self, field: str, known: dict[str, Any]) -> Any:
        """What a size without a path is: all tokens (B = 0), all outputs of next-token, or one."""
        if field == "outputs" and self.options.get("targets") == "next-token":
            return self._resolve("vocab_size", "m", known, ())
        return 0.0 if field == "batch_size" else 1.0


def _rounded(value: Any) -> Any:
    return np.rint(value) if isinstance(value, np.ndarray) else float(round(value))


def _finite(field: str, path: ScalingPath, value: Any) -> Any:
    most = float(np.max(np.abs(value)))
    if not math.isfinite(most) or most > 1e300:
        raise InputError(field, str(path), "must be finite at every size")
    return value
