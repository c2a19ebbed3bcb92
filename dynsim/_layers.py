"""Kinds of parameters, and one number for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Label = Literal["embedding", "hidden", "readout", "vector"]
LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True)
class LayerValues:
    """One number for each kind of parameter.

    `embedding`: token embedding; `hidden`: matrices with two width-like sides; `readout`: the
    unembedding; `vector`: biases and norm gains.
    """

    embedding: float
    hidden: float
    readout: float
    vector: float

    def of(self, label: str) -> float:
        """The value of one label."""
        return getattr(self, label)
