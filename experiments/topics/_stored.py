"""The studies that come with dynsim, and what they say of claims; each worked out once."""

from __future__ import annotations

from functools import cache

import xarray as xr

from dynsim.claims import Evidence
from experiments.results import STORED, load

from ._registry import CLAIMS


@cache
def stored_study(name: str) -> xr.Dataset:
    """The stored dataset of a study. Read only: all callers share it."""
    return load(STORED / f"{name}.nc")


@cache
def stored_evidence(claim: str) -> Evidence:
    """What the stored data say of a claim."""
    one = CLAIMS[claim]
    return one.evidence(stored_study(one.study))
