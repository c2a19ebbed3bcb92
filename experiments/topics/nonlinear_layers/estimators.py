"""Evidence about nonlinear layers: how far finite networks are from the predictions."""

from __future__ import annotations

import xarray as xr

from dynsim.claims import Evidence
from experiments.topics.mean_field.estimators import loss_distance

from .study import FROZEN

ALLOWED = 0.015  # RMS distance over the first loss


def distance(data: xr.Dataset) -> Evidence:
    """Mean square over cases and steps of the loss's distance over the first loss."""
    return loss_distance(data, allowed=ALLOWED)


def distance_without_noise(data: xr.Dataset) -> Evidence:
    """The same of the control, over the cases that have one."""
    frozen = [case for case in data.case.values if FROZEN in str(case)]
    return loss_distance(data.sel(case=frozen), "without_noise", ALLOWED)
