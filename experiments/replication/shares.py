"""What the replication study comes to: shares of runs, each with its own interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from experiments.results import STORED, load
from experiments.topics._registry import CLAIMS, STUDIES

from .runs import FULL, NOT_MEASURED, VERDICTS, measures

EXPONENT = "exponent"  # how the quantity of an exponent claim begins


@dataclass(frozen=True)
class Share:
    """`hits` of `runs`; [`low`, `high`] is the exact 95 % interval of a binomial share."""

    hits: int
    runs: int

    @property
    def value(self) -> float:
        return self.hits / self.runs if self.runs else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's; (NaN, NaN) without runs."""
        from scipy.stats import binomtest

        if not self.runs:
            return float("nan"), float("nan")
        found = binomtest(self.hits, self.runs).proportion_ci(0.95)
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        if not self.runs:
            return "-"
        low, high = self.interval
        return f"{self.hits} of {self.runs} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class ClaimRow:
    """A claim's verdicts in one version: how many are as expected, and how many of each kind."""

    claim: str
    study: str
    version: str
    expected: str
    as_expected: Share
    verdicts: dict[str, int]


def stored_replication() -> xr.Dataset | None:
    """The replication that comes with dynsim; None if there is none."""
    path = STORED / "replication.nc"
    return load(path) if path.exists() else None


def claim_rows(data: xr.Dataset) -> Iterator[ClaimRow]:
    """Every claim in every version that measured it."""
    for claim in data.claim.values:
        for version in data.version.values:
            codes = data.verdict.sel(claim=claim, version=version).to_numpy()
            found = [VERDICTS[code] for code in codes if code != NOT_MEASURED]
            if not found:
                continue
            one = data.sel(claim=claim)
            expected = str(one.expected.item())
            yield ClaimRow(
                claim=str(claim),
                study=str(one.study.item()),
                version=str(version),
                expected=expected,
                as_expected=Share(found.count(expected), len(found)),
                verdicts={verdict: found.count(verdict) for verdict in VERDICTS},
            )


def fresh_runs(data: xr.Dataset | None) -> dict[str, str]:
    """By claim how many runs have the expected verdict, as in "3/3, 20/20".

    The larger version comes first: full or the laboratory's, then quick. A claim without runs is
    left out.
    """
    found: dict[str, list[str]] = {}
    for row in () if data is None else claim_rows(data):
        share = f"{row.as_expected.hits}/{row.as_expected.runs}"
        known = found.setdefault(row.claim, [])
        known.insert(len(known) if row.version == "quick" else 0, share)
    return {claim: ", ".join(shares) for claim, shares in found.items()}


@dataclass(frozen=True)
class Missing:
    """Claims of a study that fresh seeds have not tested in one version.

    - `cells`: how many cells one seed of it has.
    - `minutes`: CPU minutes that one seed takes, as far as it is known.
    """

    study: str
    version: str
    cells: int
    minutes: float | None
    claims: tuple[str, ...]


# As measured for one seed on a busy core. Those of hidden_layers and transfer_networks are what the
# pages of these studies say, that of head_fixed_rates is what two of its 24 cells took.
CPU_MINUTES: Mapping[str, float] = {
    "bigram_steps": 1,
    "depth_ratio_seeds": 2,
    "head_fixed_rates": 10,
    "head_fixed_updates": 8,
    "head_updates": 3,
    "heads": 6,
    "hidden_layers": 50,
    "nonlinear_few_tokens": 11,
    "transfer_networks": 86,
}


def not_replicated(data: xr.Dataset) -> Iterator[Missing]:
    """What the replication lacks, by study and version."""
    done = {(row.claim, row.version) for row in claim_rows(data)}
    for study in STUDIES.values():
        claims = [one.name for one in CLAIMS.values() if one.study == study.name]
        for version, full in FULL.items():
            left = tuple(name for name in claims if (name, version) not in done)
            if left and measures(version, study):
                cost = CPU_MINUTES.get(study.name)
                yield Missing(study.name, version, len(study.cells(full)), cost, left)


def coverage(
    data: xr.Dataset, theory: Literal["simulated", "predicted"], version: str | None = None
) -> Share:
    """Share of the 95 % intervals that hold the theory's value, over all exponent claims.

    `theory`: its value at the measured sizes (`simulated`) or in the limit of large ones. Controls
    and other claims that are expected to fail are left out, and so are runs without an interval.
    """
    chosen = data.quantity.str.startswith(EXPONENT) & (data.expected != "fails")
    one = data.isel(claim=np.flatnonzero(chosen.to_numpy()))
    if version is not None:
        one = one.sel(version=[version])
    value, low, high = one[theory], one.low, one.high
    known = np.isfinite(value) & np.isfinite(low) & (low < high)
    held = known & (low <= value) & (value <= high)
    return Share(int(held.sum()), int(known.sum()))
