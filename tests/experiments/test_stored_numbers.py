"""Stored results are what they were: every array, every claim's evidence, every verdict.

`stored_numbers.json` was written before the code of 0.2.0 was moved into its present rooms. It is
pinned anew only when a study is measured again or gets a claim:
`python -m tests.experiments.test_stored_numbers STUDY`.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from experiments.results import STORED
from experiments.topics._registry import CLAIMS
from experiments.topics._stored import stored_evidence, stored_study

# Claims on measured and on stored data need the same theory at the same sizes. With several workers
# this file shares the worker of `topics/test_claims.py`, which holds the compiled programs.
pytestmark = pytest.mark.xdist_group("studies")

PINNED = Path(__file__).parent / "stored_numbers.json"
NAMES = sorted(file.stem for file in STORED.glob("*.nc"))
RELATIVE = 2e-6  # between versions of numpy and scipy: the end of one fit moves by 4e-7


def digest(data: xr.Dataset) -> str:
    """SHA-256 of every variable's name, dimensions and values, attributes left out."""
    found = hashlib.sha256()
    for name in sorted(map(str, data.variables)):
        variable = data.variables[name]
        values = variable.to_numpy()
        found.update(f"{name} {variable.dims} {variable.shape}".encode())
        if values.dtype.kind in "OUS":
            found.update(json.dumps(values.astype(str).tolist()).encode())
        else:
            kind = values.dtype.newbyteorder("<")
            found.update(kind.str.encode() + np.ascontiguousarray(values, kind).tobytes())
    return found.hexdigest()


def findings(study: str) -> dict[str, Any]:
    """Every claim on a stored study: its evidence as numbers (None: not finite) and its verdict."""
    found = {}
    for name, claim in sorted(CLAIMS.items()):
        if claim.study != study:
            continue
        evidence = stored_evidence(name)
        measured = evidence.measured
        numbers = {
            "predicted": evidence.predicted,
            "tolerance": claim.tolerance,
            "simulated": evidence.simulated,
            "measured": measured.value,
            "low": measured.low,
            "high": measured.high,
            "drift": evidence.drift,
            "last": evidence.last and evidence.last.value,
            "last_low": evidence.last and evidence.last.low,
            "last_high": evidence.last and evidence.last.high,
        }
        found[name] = {
            **{
                key: float(value) if value is not None and math.isfinite(value) else None
                for key, value in numbers.items()
            },
            "expected": claim.expected,
            "verdict": claim.verdict(evidence),
        }
    return found


def pinned() -> dict[str, Any]:
    return json.loads(PINNED.read_text(encoding="utf-8"))


def test_every_stored_study_and_claim_is_pinned():
    assert sorted(pinned()) == NAMES
    assert sorted(name for study in pinned().values() for name in study["claims"]) == sorted(CLAIMS)


@pytest.mark.slow
@pytest.mark.parametrize("study", NAMES)
def test_stored_numbers_and_verdicts_are_unchanged(study):
    before = pinned()[study]
    assert digest(stored_study(study)) == before["sha256"]
    now = findings(study)
    assert sorted(now) == sorted(before["claims"])
    for name, found in now.items():
        then = before["claims"][name]
        assert found["verdict"] == then["verdict"], name
        assert found["expected"] == then["expected"], name
        for key, value in then.items():
            if isinstance(value, float):
                assert found[key] == pytest.approx(value, rel=RELATIVE, abs=1e-11), (name, key)
            else:
                assert found[key] == value, (name, key)


def test_a_changed_number_changes_the_digest():
    data = stored_study("kernel")
    changed = data.copy(deep=True)
    changed["moment"].values.flat[0] *= 1 + 1e-9
    assert digest(changed) != digest(data)


def write(studies: list[str]) -> None:
    """Pins what the stored files and the claims on these studies (without a name: all) say now."""
    kept = {name: found for name, found in pinned().items() if studies and name in NAMES}
    for study in studies or NAMES:
        kept[study] = {"sha256": digest(stored_study(study)), "claims": findings(study)}
    text = json.dumps(dict(sorted(kept.items())), indent=1, ensure_ascii=False)
    PINNED.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    import jax

    jax.config.update("jax_enable_x64", True)
    write(sys.argv[1:])
