"""Claims under fresh seeds: what is measured, and what is kept of it.

All seeds of a study are measured one after the other in one process, so that its programs are
compiled once.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim.claims import Evidence
from experiments.cells.complete import complete_file
from experiments.cells.store import Arrays, Store
from experiments.commands._verdicts import seed_folder
from experiments.commands.verify import finished_study
from experiments.results import provenance
from experiments.topics._claim import Claim
from experiments.topics._registry import CLAIMS, STUDIES
from experiments.topics._study import Study

if TYPE_CHECKING:
    from tqdm import tqdm

NUMBERS = (
    *("predicted", "simulated", "measured", "low", "high", "drift"),
    *("last", "last_low", "last_high"),
)
VERDICTS = ("fails", "undecided", "holds")  # stored as their place here
NOT_MEASURED = -1
LABORATORY = "laboratory"
FULL = {"quick": False, "full": True, LABORATORY: False}
"""The versions, and whether each is a full one. That of the laboratory is its CPU size."""


@dataclass(frozen=True)
class Plan:
    """What is replicated: claims, and the number of seeds of each version (`FULL`).

    The seeds are 1, 2, ... or, of these, the `first` and those after it; 0 is that of the stored
    studies.
    """

    claims: tuple[str, ...]
    seeds: dict[str, int]
    first: int = 1

    def numbers(self, version: str) -> range:
        """The seeds of a version."""
        return range(self.first, self.seeds[version] + 1)

    def studies(self, version: str) -> list[Study]:
        """The studies of the claims that this version measures."""
        needed = dict.fromkeys(CLAIMS[name].study for name in self.claims)
        studies = [STUDIES[name] for name in needed]
        return [one for one in studies if measures(version, one)]

    def unmeasured(self) -> list[str]:
        """The claims that no version of the plan measures."""
        studies = {study.name for version in self.seeds for study in self.studies(version)}
        return [name for name in self.claims if CLAIMS[name].study not in studies]

    def claims_of(self, study: Study) -> list[Claim]:
        return [CLAIMS[name] for name in self.claims if CLAIMS[name].study == study.name]

    def cells(self) -> int:
        """How many cells all seeds of all studies have."""
        return sum(
            len(self.numbers(version)) * len(study.cells(FULL[version]))
            for version in self.seeds
            for study in self.studies(version)
        )


def measures(version: str, study: Study) -> bool:
    """Whether a version has cells of the study; the laboratory has a version of its own."""
    return study.laboratory == (version == LABORATORY) and bool(study.cells(FULL[version]))


def replicate(plan: Plan, folder: Path, bar: tqdm) -> xr.Dataset:
    """Measures the plan; `replication.nc` of the folder holds the result.

    Studies of every seed are kept in the folder, and so is what their claims come to, so that an
    interrupted run goes on where it stopped.
    """
    return complete_file(
        folder / "replication.nc", lambda store: _measured(plan, folder, bar, store)
    )


def _measured(plan: Plan, folder: Path, bar: tqdm, store: Store) -> xr.Dataset:
    rows: dict[tuple[str, str, int], NDArray[np.float64]] = {}
    for version in plan.seeds:
        for study in plan.studies(version):
            bar.set_description(f"replication: {version}, {study.name}", refresh=False)
            for seed in plan.numbers(version):
                found = _of_seed(plan, study, version, seed, folder, bar, store)
                rows |= {(version, claim, seed): row for claim, row in found.items()}
    return _dataset(plan, rows)


def _of_seed(
    plan: Plan, study: Study, version: str, seed: int, folder: Path, bar: tqdm, store: Store
) -> Arrays:
    """Numbers and verdict of every claim on a study under one seed."""
    full, claims = FULL[version], plan.claims_of(study)
    made = [study.fingerprint(full, seed), _evidence_code(), *(claim.name for claim in claims)]
    identity = " ".join(made)
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    kept = store.read(name, identity)
    if kept is not None:
        bar.update(len(study.cells(full)))
    else:
        data = finished_study(study, full, seed_folder(folder / version, seed), bar, seed)
        kept = {claim.name: _row(claim, claim.evidence(data)) for claim in claims}
        store.write(name, identity, kept)
    return {claim.name: kept[claim.name] for claim in claims}


def _row(claim: Claim, evidence: Evidence) -> NDArray[np.float64]:
    """`NUMBERS`, NaN where there is none, and the verdict's place in `VERDICTS`."""
    measured, last = evidence.measured, evidence.last
    ends = (math.nan,) * 3 if last is None else (last.value, last.low, last.high)
    simulated = math.nan if evidence.simulated is None else evidence.simulated
    numbers = (evidence.predicted, simulated, measured.value, measured.low, measured.high)
    verdict = VERDICTS.index(claim.verdict(evidence))
    return np.array([*numbers, evidence.drift, *ends, verdict], dtype=np.float64)


def _evidence_code() -> str:
    """Digest of the files that say what a study means for a claim."""
    topics = Path(__file__).parent.parent / "topics"
    digest = hashlib.sha256()
    for file in sorted([*topics.glob("*/claims.py"), *topics.glob("*/estimators.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _dataset(plan: Plan, rows: dict[tuple[str, str, int], Any]) -> xr.Dataset:
    """Numbers and verdicts by version, claim and seed; what was not measured is NaN or -1."""
    seeds = range(1, max(plan.seeds.values(), default=0) + 1)
    versions = list(plan.seeds)
    table = np.full((len(versions), len(plan.claims), len(seeds), len(NUMBERS) + 1), np.nan)
    for (version, claim, seed), row in rows.items():
        table[versions.index(version), plan.claims.index(claim), seed - 1] = row
    dims = ("version", "claim", "seed")
    codes = np.nan_to_num(table[..., -1], nan=NOT_MEASURED).astype(np.int8)
    claims = [CLAIMS[name] for name in plan.claims]
    since = {"from_seed": plan.first} if plan.first > 1 else {}
    return xr.Dataset(
        {
            **{name: (dims, table[..., place]) for place, name in enumerate(NUMBERS)},
            "verdict": (dims, codes, {"meanings": " ".join(VERDICTS)}),
        },
        coords={
            "version": versions,
            "claim": list(plan.claims),
            "seed": list(seeds),
            "study": ("claim", [claim.study for claim in claims]),
            "expected": ("claim", [claim.expected for claim in claims]),
            "tolerance": ("claim", [claim.tolerance for claim in claims]),
            "quantity": ("claim", [claim.quantity for claim in claims]),
        },
        attrs={
            **provenance({"claims": list(plan.claims), "seeds": plan.seeds, **since}),
            "study": "replication",
        },
    )


def joined(before: xr.Dataset, added: xr.Dataset) -> xr.Dataset:
    """An earlier replication with what was measured since.

    Runs that both have are those of `added`. The attribute `measured` says which code measured
    which claims.
    """
    axes = {
        axis: list(dict.fromkeys([*before[axis].values.tolist(), *added[axis].values.tolist()]))
        for axis in ("version", "claim", "seed")
    }
    axes["claim"].sort(key=list(CLAIMS).index)
    parts = []
    for one in (before, added):
        fill = dict.fromkeys(NUMBERS, np.nan) | {"verdict": NOT_MEASURED}
        whole = one.drop_vars(DESCRIPTIONS).reindex(axes, fill_value=fill)
        parts.append(whole)
    old, new = parts
    known = new.verdict != NOT_MEASURED
    found = {name: xr.where(known, new[name], old[name]) for name in old.data_vars}
    verdict = found["verdict"].astype(np.int8).assign_attrs(before.verdict.attrs)
    described = {
        name: ("claim", [_description(one, name, before, added) for one in axes["claim"]])
        for name in DESCRIPTIONS
    }
    return xr.Dataset(
        {**found, "verdict": verdict},
        coords={**axes, **described},
        attrs={
            **added.attrs,
            "measured": json.dumps([*_measured_by(before), *_measured_by(added)]),
        },
    )


DESCRIPTIONS = ("study", "expected", "tolerance", "quantity")


def _description(claim: str, name: str, before: xr.Dataset, added: xr.Dataset) -> Any:
    last = added if claim in added.claim else before
    return last[name].sel(claim=claim).item()


def _measured_by(data: xr.Dataset) -> list[dict[str, Any]]:
    """Code and claims of every part, and its first seed if that is not 1."""
    if "measured" in data.attrs:
        return json.loads(data.attrs["measured"])
    kept = ("code_version", "libraries", "device", "processor")
    first = json.loads(data.attrs.get("config", "{}")).get("from_seed")
    since = {} if first is None else {"from_seed": first}
    return [
        {name: data.attrs[name] for name in kept if name in data.attrs}
        | {"claims": data.claim.values.tolist(), **since}
    ]


def every_claim() -> tuple[str, ...]:
    """The claims that some version measures."""
    return tuple(
        name
        for name, claim in CLAIMS.items()
        if any(measures(version, STUDIES[claim.study]) for version in FULL)
    )


def plan_of(
    claims: Sequence[str], quick: int, full: int, laboratory: int = 0, *, first: int = 1
) -> Plan:
    """The plan for these claims; versions without seeds from the `first` on are left out.

    Without claims: all that the versions with seeds measure.
    """
    seeds = {"quick": quick, "full": full, LABORATORY: laboratory}
    chosen = {name: count for name, count in seeds.items() if count >= first}
    if claims:
        return Plan(tuple(claims), chosen, first)
    measured = [
        name
        for name in every_claim()
        if any(measures(version, STUDIES[CLAIMS[name].study]) for version in chosen)
    ]
    return Plan(tuple(measured), chosen, first)
