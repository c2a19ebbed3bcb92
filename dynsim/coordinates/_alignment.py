"""Measured alignment exponents: how coherently a matrix adds up its inputs.

A is the power of the width in (dW z0)/(entries of dW)(z0), U that of (dW dz)/(entries of dW)(dz),
Omega that of (W0 dz)/(entries of W0)(dz): 1/2 for a sum of independent terms, 1 for a coherent one.
Source: docs/theory/parametrizations.md#stability-program.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dynsim._errors import InputError
from dynsim.statistics._intervals import Estimate

from ._slopes import Line, fitted_line, pooled_intervals

if TYPE_CHECKING:
    import pandas as pd

    import derivations

LETTERS: dict[str, tuple[str, str, str]] = {
    "A": ("update_on_initial", "weight_update", "input"),
    "U": ("update_on_learned", "weight_update", "learned_input"),
    "Omega": ("initial_on_learned", "weight", "learned_input"),
}
GROUPS = ("hidden that reads the embedding", "hidden", "readout")


@dataclass(frozen=True)
class MeasuredAlignment:
    """A, U and Omega of the matrices of one kind after one number of steps (None: not measured)."""

    layer: str
    step: int
    modules: int
    A: Estimate | None
    U: Estimate | None
    Omega: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        values: dict[str, Any] = {
            "layer": self.layer,
            "step": self.step,
            "modules": self.modules,
        }
        for letter in LETTERS:
            one: Estimate | None = getattr(self, letter)
            values[letter] = (
                None if one is None else {"value": one.value, "low": one.low, "high": one.high}
            )
        return values


def measured_alignment(table: pd.DataFrame, steps: Sequence[int]) -> tuple[MeasuredAlignment, ...]:
    """Alignment exponents after the first and the last recorded step, by kind of matrix.

    Each is one fit to the mean of the logarithms over the matrices of that kind.
    """
    rows = table[(table.trained == 1) & table.label.isin(["hidden", "readout"])]
    kinds = np.where(
        rows.label == "readout", GROUPS[2], np.where(rows.reads_embedding == 1, *GROUPS[:2])
    )
    rows = rows.assign(kind=kinds)
    wide: Any = rows.pivot_table(
        index=["kind", "module", "width", "vocab_size", "seed", "step"],
        columns="term",
        values="rms",
    )
    start = wide.xs(0, level="step")
    found = []
    for step in dict.fromkeys((steps[0], steps[-1])):
        now = wide.xs(step, level="step")
        lines: dict[Hashable, Line] = {}
        for letter, (term, weight, read) in LETTERS.items():
            inputs = start["input"] if read == "input" else now.get(read)
            entries = start.get(weight) if weight == "weight" else now.get(weight)
            if inputs is None or entries is None or term not in now:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.log(now[term] / (entries * inputs))
            logs = logs[np.isfinite(logs)]
            for kind in GROUPS:
                if kind not in logs.index.get_level_values("kind"):
                    continue
                means = logs.xs(kind, level="kind").groupby(["width", "vocab_size", "seed"]).mean()
                widths = means.index.get_level_values("width").to_numpy(float)
                if len(set(widths)) > 1:
                    lines[(kind, letter)] = fitted_line(np.log(widths), means.to_numpy(float))
        intervals = pooled_intervals(lines, dict.fromkeys(lines, step))
        for kind in GROUPS:
            values = {letter: intervals.get((kind, letter)) for letter in LETTERS}
            if any(value is not None for value in values.values()):
                count = rows[rows.kind == kind].module.nunique()
                found.append(MeasuredAlignment(kind, step, count, **values))
    return tuple(found)


def stability_alignment(
    measured: Sequence[MeasuredAlignment], end: Literal["value", "low", "high"] = "value"
) -> derivations.NetworkAlignment:
    """The measured exponents as the stability program takes them, to hundredths.

    Of hidden matrices and of steps the largest counts, since the largest limits a learning rate.
    `end` takes an end of the intervals in place of the values. What lies outside 1/2 to 1 by its
    scatter is brought to that range. An exponent that was not measured is 1 (Omega of hidden
    matrices 1/2).

    Raises `InputError` without a readout or a hidden matrix.

    **Example:**

    >>> from dynsim import Estimate
    >>> from dynsim.coordinates import MeasuredAlignment, stability_alignment
    >>> half, one = Estimate(0.5, 0.45, 0.55), Estimate(1.0, 0.95, 1.05)
    >>> hidden = MeasuredAlignment("hidden", 1, 1, A=half, U=half, Omega=half)
    >>> readout = MeasuredAlignment("readout", 1, 1, A=one, U=one, Omega=half)
    >>> stability_alignment([hidden, readout]).hidden.update_on_initial
    Fraction(1, 2)
    """
    import derivations

    layers = {}
    for layer in ("hidden", "readout"):
        rows = [one for one in measured if one.layer.startswith(layer)]
        if not rows:
            raise InputError("alignment", None, f"needs records of {layer} matrices that learn")
        values = []
        for letter in LETTERS:
            known: list[Estimate] = [
                one for row in rows if (one := getattr(row, letter)) is not None
            ]
            largest = max(known, key=lambda one: one.value, default=None)
            value = 0.5 if letter == "Omega" and layer == "hidden" else 1.0
            if largest is not None:
                value = getattr(largest, end)
                value = largest.value if math.isnan(value) else value
            values.append(Fraction(round(100 * min(max(value, 0.5), 1.0)), 100))
        layers[layer] = derivations.LayerAlignment(*values)
    return derivations.NetworkAlignment(layers["hidden"], layers["readout"])
