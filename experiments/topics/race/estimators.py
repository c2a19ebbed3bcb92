"""Evidence about rules tuned at a small width and compared at a large one."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import Estimate, bootstrap
from dynsim.claims import Evidence

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

    return bootstrap(share, [np.stack([initial, these, others])], vectorized=True)


def regret_evidence(data: xr.Dataset, task: str, rule: str, against: str) -> Evidence:
    """`regret` against the prediction 0; NaN where the tuned rates lie at their grid's edge."""
    inside = bool(data.tuned_inside.sel(task=task))
    nothing = Estimate(np.nan, np.nan, np.nan)
    return Evidence(
        predicted=0.0,
        simulated=None,
        measured=regret(data, task, rule, against) if inside else nothing,
    )
