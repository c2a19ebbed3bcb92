"""The runs of a training: what they differ in, at full length, and when losses are evaluated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError, check_integer
from dynsim._network_setup import NetworkSetup
from dynsim._runs import seed_labels


class Columns(NamedTuple):
    """What runs differ in, shape (R,) each, learning rates at the base width."""

    embedding_lr: NDArray[np.float64]
    hidden_lr: NDArray[np.float64]
    weight_decay: NDArray[np.float64]
    seed: NDArray[np.int64]


def run_columns(
    setup: NetworkSetup,
    embedding_lrs: ArrayLike | None = None,
    hidden_lrs: ArrayLike | None = None,
    weight_decays: ArrayLike | None = None,
    seeds: int | ArrayLike = 1,
) -> Columns:
    """The runs of `train_networks`, every column at full length. Raises `InputError`."""
    rates = {
        "embedding_lrs": setup.embedding_lr if embedding_lrs is None else embedding_lrs,
        "hidden_lrs": setup.hidden_lr if hidden_lrs is None else hidden_lrs,
        "weight_decay": setup.decay_rate if weight_decays is None else weight_decays,
    }
    columns = {option: _column(option, values, "float64") for option, values in rates.items()}
    for option, column in columns.items():
        wrong = column[~(np.isfinite(column) & (column >= 0) & (column <= 1e30))]
        if len(wrong):
            raise InputError(option, float(wrong[0]), "must be a finite number from 0 to 1e30")
    columns["seeds"] = seed_labels(seeds)
    runs = max(map(len, columns.values()))
    for option, column in columns.items():
        if len(column) not in (1, runs):
            allowed = f"must be one number or {runs}, as many as the longest list of runs"
            raise InputError(option, f"of length {len(column)}", allowed)
    return Columns(*np.broadcast_arrays(*columns.values()))


def _column(
    option: str, values: ArrayLike, dtype: str | None = None, *, least_axes: int = 0
) -> NDArray[Any]:
    allowed = "must be a list of numbers" if least_axes else "must be a number or a list of numbers"
    try:
        column = np.asarray(values, dtype)
    except (TypeError, ValueError):
        raise InputError(option, values, allowed) from None
    if not least_axes <= column.ndim <= 1 or not column.size:
        raise InputError(option, f"of shape {column.shape}", allowed)
    return np.atleast_1d(column)


def check_horizons(setup: NetworkSetup, horizons: Sequence[int] | None) -> list[int]:
    """The increasing numbers of steps after which to evaluate. Raises `InputError`."""
    if horizons is None:
        return [setup.steps]
    ends = _column("horizons", horizons, least_axes=1).tolist()
    for end in ends:
        check_integer("horizons", end, 1, setup.steps)
    if any(b <= a for a, b in itertools.pairwise(ends)):
        raise InputError("horizons", str(ends), "must be increasing numbers of steps")
    return ends
