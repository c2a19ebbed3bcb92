"""The replication study: what is kept of a run, and what the shares say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from experiments.output import progress_bar
from experiments.replication import __main__ as command
from experiments.replication.runs import NOT_MEASURED, NUMBERS, VERDICTS, joined, plan_of, replicate
from experiments.replication.shares import (
    Share,
    claim_rows,
    coverage,
    fresh_runs,
    not_replicated,
    stored_replication,
)
from experiments.topics._registry import CLAIMS, STUDIES

pytestmark = pytest.mark.usefixtures("quick_compilation")


def toy(low, simulated, verdict, expected=("holds", "fails"), quantity="exponent of d"):
    """Two claims, the second a control, under four seeds: intervals [low, low + 1]."""
    dims = ("version", "claim", "seed")
    low = np.broadcast_to(np.asarray(low, dtype=float), (1, 2, 4))
    return xr.Dataset(
        {
            "predicted": (dims, np.ones((1, 2, 4))),
            "simulated": (dims, np.broadcast_to(np.asarray(simulated, float), (1, 2, 4))),
            "low": (dims, low),
            "high": (dims, low + 1),
            "verdict": (dims, np.broadcast_to(np.asarray(verdict, np.int8), (1, 2, 4))),
        },
        coords={
            "version": ["quick"],
            "claim": ["claim", "control"],
            "seed": [1, 2, 3, 4],
            "study": ("claim", ["updates", "updates"]),
            "expected": ("claim", list(expected)),
            "quantity": ("claim", [quantity, "exponent of d"]),
        },
    )


def test_the_interval_of_a_share_is_clopper_and_pearsons():
    """Of no hits and of all hits it is known in closed form."""
    for runs in (3, 20):
        end = 1 - 0.025 ** (1 / runs)
        assert Share(0, runs).interval == pytest.approx((0, end))
        assert Share(runs, runs).interval == pytest.approx((1 - end, 1))
    assert np.isnan(Share(0, 0).interval).all()
    assert str(Share(3, 4)) == "3 of 4 [0.19, 0.99]"


def test_shares_count_verdicts_and_intervals():
    holds, undecided, fails = (VERDICTS.index(one) for one in ("holds", "undecided", "fails"))
    verdict = [[[holds, holds, undecided, -1], [fails, fails, fails, holds]]]
    data = toy([[[0.5, 0.5, 0.5, 2], [0.5] * 4]], [1.2, 1.4, 1.6, 1.2], verdict)
    claim, control = claim_rows(data)
    assert (claim.as_expected.hits, claim.as_expected.runs) == (2, 3)  # one was not measured
    assert claim.verdicts == {"holds": 2, "undecided": 1, "fails": 0}
    assert (control.as_expected.hits, control.as_expected.runs) == (3, 4)
    # intervals of the claim alone: [0.5, 1.5] three times and [2, 3]
    assert coverage(data, "simulated") == Share(2, 4)
    assert coverage(data, "predicted") == Share(3, 4)
    assert coverage(toy(0.5, np.nan, verdict), "simulated") == Share(0, 0)
    assert coverage(toy(0.5, 1, verdict, quantity="ratio"), "simulated") == Share(0, 0)
    full = data.isel(seed=[0]).assign_coords(version=["full"])
    both = xr.concat([data, full], "version", join="outer", fill_value=NOT_MEASURED)
    both["verdict"] = both.verdict.astype(np.int8)
    assert fresh_runs(both) == {"claim": "1/1, 2/3", "control": "1/1, 3/4"}
    assert fresh_runs(None) == {}


def test_a_replication_keeps_numbers_by_seed_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    cells = STUDIES["kernel"].cells(False)
    measured, broken = [], [True]

    def measure(**cell):
        if cell["seed"] == 2 and broken:
            raise RuntimeError("the machine stops")
        measured.append(cell["seed"])
        return STUDIES["kernel"].measure(**cell)

    settings = {"seeds": 3, "samples": 100, "neurons": 8}
    small = replace(STUDIES["kernel"], measure=measure, config=lambda _: settings)
    claims = ("sign-kernel", "arcsine-law")
    with monkeypatch.context() as patch:
        patch.setattr("experiments.replication.runs.STUDIES", {"kernel": small})
        plan = plan_of(claims, quick=2, full=0)
        with progress_bar(plan.cells(), "test") as bar:
            with pytest.raises(RuntimeError, match="stops"):
                replicate(plan, tmp_path, bar)
            first = measured.count(1)
            broken.clear()
            data = replicate(plan, tmp_path, bar)
    assert first == measured.count(1) == len(cells)  # the finished seed is not measured again
    assert set(measured) == {1, 2}  # the stored runs' seed is none of them
    assert data.sizes == {"version": 1, "claim": 2, "seed": 2}
    one = data.sel(claim="arcsine-law", version="quick")
    assert np.all((one.low < one.measured) & (one.measured < one.high))
    assert one.measured[0] != one.measured[1]
    assert np.isnan(data["last"]).all()
    assert [row.as_expected.runs for row in claim_rows(data)] == [2, 2]
    measured.clear()
    with monkeypatch.context() as patch:
        patch.setattr("experiments.replication.runs.STUDIES", {"kernel": small})
        later = plan_of(claims, quick=2, full=1, first=2)
        assert later.cells() == len(cells)
        with progress_bar(later.cells(), "test") as bar:
            added = replicate(later, tmp_path / "later", bar)
    assert set(measured) == {2}
    assert (added.verdict.sel(seed=1) == NOT_MEASURED).all()
    alone = one.sel(seed=1)
    both = joined(data.sel(seed=[1]), added).sel(claim="arcsine-law", version="quick")
    assert both.measured.sel(seed=1) == alone.measured
    assert both.measured.sel(seed=2) == one.measured.sel(seed=2)


def test_what_is_measured_later_joins_what_was_measured_before():
    """Of a run that both have, the later one; what neither has stays not measured."""
    whole = stored_replication()
    assert whole is not None
    three = whole.verdict.sel(version="full", seed=[1, 2, 3]) != NOT_MEASURED
    whole = whole.isel(claim=np.flatnonzero(three.all("seed")))
    full = whole.isel(claim=[0, 1, 2]).sel(version=["full"], seed=[1, 2, 3])
    quick = whole.isel(claim=[2, 3]).sel(version=["quick"]).copy(deep=True)
    later = whole.isel(claim=[2]).sel(version=["full"], seed=[2]).copy(deep=True)
    later.measured[:] = 7.0
    found = joined(joined(full, quick), later)
    claims = whole.claim.values[[0, 1, 2, 3]]
    assert set(found.claim.values) == set(claims)
    for part in (full, quick):
        places = {name: part[name] for name in ("version", "claim", "seed")}
        for name in (*NUMBERS, "verdict"):
            kept = found[name].sel(places).where(found.measured.sel(places) != 7.0)
            other = part[name].where(found.measured.sel(places) != 7.0)
            xr.testing.assert_equal(kept.drop_vars(kept.coords), other.drop_vars(other.coords))
    assert found.measured.sel(version="full", claim=claims[2], seed=2) == 7.0
    assert (found.verdict.sel(version="quick", claim=claims[0]) == NOT_MEASURED).all()
    assert found.study.sel(claim=claims[3]) == whole.study.sel(claim=claims[3])


def test_a_claim_is_replicated_or_listed_as_not():
    whole = stored_replication()
    assert whole is not None
    known = CLAIMS.keys() - {"sign-kernel"}
    part = whole.sel(claim=[name for name in whole.claim.values if name in known])
    missing = list(not_replicated(part))
    assert ("kernel", "quick") in {(one.study, one.version) for one in missing}
    listed = {name for one in missing for name in one.claims}
    assert listed | {row.claim for row in claim_rows(part)} == set(CLAIMS)
    assert all(one.cells > 0 for one in missing)


def test_the_laboratory_has_a_version_of_its_own():
    plan = plan_of((), quick=0, full=0, laboratory=1)
    assert {study.name for study in plan.studies("laboratory")} == {
        study.name for study in STUDIES.values() if study.laboratory and study.name in OF_CLAIMS
    }
    assert plan.studies("quick") == plan.studies("full") == plan.unmeasured() == []
    assert plan.cells() == sum(len(study.cells(False)) for study in plan.studies("laboratory"))
    assert plan_of(("race-interpolated",), quick=1, full=1).unmeasured() == ["race-interpolated"]


OF_CLAIMS = {claim.study for claim in CLAIMS.values()}


def test_bad_options_are_one_line(tmp_path, capsys):
    for options, named in (
        (["--claim", "bogus"], "--claim"),
        (["--claim", "race-interpolated"], "--laboratory-seeds"),
        (["--quick-seeds", "-1"], "--quick-seeds"),
        (["--quick-seeds", "0", "--full-seeds", "0"], "--full-seeds"),
    ):
        assert command.main([*options, "--out", str(tmp_path)]) == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        assert named in shown


def test_the_stored_replication_is_of_the_claims_as_they_stand():
    data = stored_replication()
    if data is None:
        pytest.skip("no replication is stored")
    for name in data.claim.values:
        one = data.sel(claim=name)
        assert CLAIMS[str(name)].expected == one.expected.item()
        assert CLAIMS[str(name)].tolerance == one.tolerance.item()
