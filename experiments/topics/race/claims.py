"""Claims about rules tuned at a small width and raced at a large one."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import Estimate, bootstrap
from experiments.topics._claim import Claim, Evidence

Floats = NDArray[np.float64]


def regret(data: xr.Dataset, task: str, rule: str, against: str) -> Estimate:
    """(Loss by a rule - loss by another) / what training removes by the other, with its interval.

    Seeds are paired: both rules train the same networks on the same batches.
    """
    cell = data.sel(task=task)
    initial, these, others = (
        values.to_numpy().astype(np.float64)
        for values in (cell.initial_loss, cell.loss.sel(rule=rule), cell.loss.sel(rule=against))
    )
    these = np.minimum(np.nan_to_num(these, nan=np.inf), initial)  # diverged: removed nothing

    def share(paired: Floats, axis: int = -1) -> Floats:
        start, this, other = paired.mean(axis=axis)
        return np.asarray((this - other) / (start - other))

    return bootstrap(share, [np.stack([initial, these, others])])


def _regret(data: xr.Dataset, task: str, rule: str, against: str) -> Evidence:
    """Nothing is measured where the tuned rates lie at their grid's edge."""
    inside = bool(data.tuned_inside.sel(task=task))
    nothing = Estimate(np.nan, np.nan, np.nan)
    return Evidence(0.0, None, regret(data, task, rule, against) if inside else nothing)


def _claim(name: str, statement: str, rule: str, task: str, tolerance: float) -> Claim:
    control = name.startswith("control-")
    return Claim(
        name,
        statement,
        "loss above muP's, as a share of what training by muP removes",
        "0",
        "race",
        partial(_regret, task=task, rule=rule, against="mup"),
        tolerance,
        "control" if control else "dynsim, first-step moments of a token law",
        "fails" if control else "holds",
    )


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "race-interpolated",
        "Transformer on real text: the interpolated rule costs next to nothing",
        "interpolated",
        "corpus-transformer",
        0.01,
    ),
    _claim(
        "race-root-synthetic",
        "Gaussian targets: sqrt(d) by faster hidden layers costs next to nothing",
        "lv-hidden",
        "unstructured",
        0.01,
    ),
    _claim(
        "control-race-root",
        "Wrong on purpose: a transformer on real text loses nothing by sqrt(d), which is u-muP",
        "lv",
        "corpus-transformer",
        0.01,
    ),
    _claim(
        "control-race-global",
        "Wrong on purpose: learning rates need no rule from the small width to the large",
        "global",
        "structured",
        0.02,
    ),
)
