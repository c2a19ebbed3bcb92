"""Outputs that are rotated until few of them have targets.

Under squared error and an update that is linear in gradients (SGD, momentum) a rotation of the
outputs is a symmetry of training, and a Gaussian initial projection has no direction of its own.
So n outputs whose targets have rank k train as k outputs with targets and n - k without.
Source: docs/theory/many_outputs.md#many-outputs-rotated.
"""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import numpy as np

import derivations
from derivations import symbols
from dynsim._compiled import evaluate
from dynsim._errors import InputError
from dynsim._setup import Setup
from dynsim._targets import SetupWithTargets, factors_of_targets, targets

from ._similar import LINEAR

MOST_EFFECT = 0.25  # of outputs without targets on those that have them


class Rotated(NamedTuple):
    """The outputs with targets, one of those without, the number of these, and their effect on the
    others, which is left out."""

    with_targets: SetupWithTargets
    without: SetupWithTargets
    others: int
    effect: float


def rank_of_targets(setup: Setup) -> int:
    """Largest number of directions that the targets of this kind have."""
    return min(setup.target_rank or setup.output_count, setup.vocab_size)


def can_rotate(setup: Setup) -> bool:
    """Whether a rotation leaves outputs without targets."""
    return (
        setup.loss_name == "mse"
        and setup.optimizer in LINEAR
        and rank_of_targets(setup) < setup.output_count
    )


def rotated(setup: Setup) -> Rotated:
    """Raises `InputError` where outputs without targets are too many to be left out."""
    kept, n = rank_of_targets(setup), setup.output_count
    values = {symbols.outputs: n, symbols.gradient_rank: kept, symbols.width: setup.width}
    effect = float(evaluate(derivations.neglected_rest(), values))
    if effect > MOST_EFFECT:
        raise InputError(
            "outputs",
            n,
            f"must be at most {int(MOST_EFFECT * setup.width) + kept}, a quarter of `width` and "
            f"the {kept} directions of the targets: beyond that the outputs without targets, which "
            "a rotation leaves, act on the others",
        )
    if setup.target_rank == kept:
        of_tokens, of_outputs = factors_of_targets(setup)
        rows = of_tokens @ np.linalg.qr(of_outputs.T, mode="r").T / np.sqrt(kept)
    else:
        rows = np.linalg.qr(targets(setup).T, mode="r").T
    return Rotated(
        _with(setup, rows, setup.targets),
        _with(setup, np.zeros((setup.vocab_size, 1)), "sign"),
        n - kept,
        effect,
    )


def _with(setup: Setup, rows: np.ndarray, kind: str) -> SetupWithTargets:
    """The setup with these targets, treated as those of the kind where tokens are merged."""
    given = {field.name: getattr(setup, field.name) for field in fields(setup)}
    given |= {"outputs": rows.shape[1], "target_rank": 0, "targets": kind, "loss": "mse"}
    return SetupWithTargets(**given, rows=rows)
