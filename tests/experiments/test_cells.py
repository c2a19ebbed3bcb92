"""Cells: what is finished survives an interruption, and only what is missing is computed."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
import xarray as xr
from helpers import assert_refused

from dynsim import _programs
from experiments.cells.complete import CellJob, complete_cells, complete_file
from experiments.cells.executors import LocalExecutor, ThreadExecutor
from experiments.cells.store import LOCK, Store, folder_of, open_store
from experiments.results import load
from experiments.topics._study import Study

ARRAYS = {"loss": np.array([1.0, np.nan, np.inf]), "names": np.array(["a", "longer"])}


class Stop(Exception):
    """Ends the work from inside a cell."""


class Counted:
    """Squares of its jobs; every call is noted, and from the `most`-th on it stops."""

    def __init__(self, most: int = 100):
        self.most, self.calls = most, []

    def __call__(self, job, progress=None):
        if len(self.calls) == self.most:
            raise Stop
        self.calls.append(job)
        return {"square": np.array([job**2])}


def jobs(count: int, made: str = "code 1") -> list[CellJob]:
    return [CellJob(f"{number}", f"{made} {number}", number) for number in range(count)]


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(
        np.array_equal(left[name], right[name], equal_nan=left[name].dtype.kind == "f")
        and left[name].dtype == right[name].dtype
        for name in left
    )


# The store


def test_a_cell_comes_back_if_it_is_the_same(tmp_path):
    with open_store(tmp_path / "file.nc", resume=True) as store:
        store.write("0", "code 1", ARRAYS)
        assert same(store.read("0", "code 1"), ARRAYS)
        assert store.read("0", "code 2") is None
        assert store.read("1", "code 1") is None


def test_a_cell_damaged_at_any_byte_is_not_read(tmp_path):
    """Or comes back whole, where the byte says nothing about the content."""
    store = Store(tmp_path / "file.nc")
    store.folder.mkdir()
    store.write("0", "code 1", {"loss": ARRAYS["loss"]})
    (file,) = store.folder.iterdir()
    whole = file.read_bytes()
    rejected = 0
    for place in range(len(whole)):
        for bit in (1, 128):
            damaged = bytearray(whole)
            damaged[place] ^= bit
            file.write_bytes(damaged)
            found = store.read("0", "code 1")
            rejected += found is None
            assert found is None or same(found, {"loss": ARRAYS["loss"]}), place
    assert rejected > len(whole)
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        assert store.read("0", "code 1") is None


# Executors


@pytest.mark.parametrize("where", [LocalExecutor(), ThreadExecutor(1), ThreadExecutor(3)])
def test_every_executor_gives_the_same_cells(where):
    found = complete_cells(jobs(7), Counted(), where)
    assert [cell["square"].tolist() for cell in found] == [[n**2] for n in range(7)]
    with pytest.raises(Stop):
        complete_cells(jobs(7), Counted(3), where)
    assert where.call(max, 2, 5) == 5


# Interruptions


def test_only_what_is_missing_is_computed(tmp_path):
    path = tmp_path / "file.nc"
    with open_store(path, resume=True) as store, pytest.raises(Stop):
        complete_cells(jobs(5), Counted(3), LocalExecutor(), store)
    finished, rest = [], Counted()
    with open_store(path, resume=True) as store:
        found = complete_cells(jobs(5), rest, LocalExecutor(), store, lambda: finished.append(1))
        assert rest.calls == [3, 4]
        assert len(finished) == 5
        assert [cell["square"].tolist() for cell in found] == [[n**2] for n in range(5)]
        other = Counted()
        complete_cells(jobs(5, "code 2"), other, LocalExecutor(), store)
        assert other.calls == [0, 1, 2, 3, 4]


def test_a_file_is_made_of_its_cells_and_leaves_no_folder(tmp_path):
    path = tmp_path / "file.nc"

    def measure(function):
        def measured(store):
            found = complete_cells(jobs(4), function, LocalExecutor(), store)
            return xr.Dataset({"square": ("cell", [cell["square"][0] for cell in found])})

        return lambda: complete_file(path, measured)

    with pytest.raises(Stop):
        measure(Counted(0))()
    assert os.listdir(tmp_path) == []
    with pytest.raises(Stop):
        measure(Counted(3))()
    assert os.listdir(tmp_path) == ["file.nc.cells"]
    with open(folder_of(path) / LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert_refused("out", measure(Counted()), "is in use")
    rest = Counted()
    assert measure(rest)().square.values.tolist() == [0, 1, 4, 9]
    assert rest.calls == [3]
    assert os.listdir(tmp_path) == ["file.nc"]
    assert load(path).square.values.tolist() == [0, 1, 4, 9]


def test_an_interrupted_study_goes_on_and_ends_in_the_same_dataset(tmp_path):
    random = np.random.default_rng(0)
    values = {width: random.normal(size=3) for width in (2, 3, 4)}
    measured, most = [], 2

    def measure(width, seeds):
        if len(measured) == most:
            raise Stop
        measured.append(width)
        return {
            "loss": (("seed",), values[width][:seeds]),
            "rule": ((), f"rule {width}"),
            "exact": ((), width > 2),
        }

    study = Study(
        "toy",
        lambda full: [{"width": width} for width in values],
        measure,
        lambda full: {"seeds": 3 if full else 2},
        coordinates=["rule"],
    )
    path = tmp_path / "toy.nc"
    with open_store(path, resume=True) as store, pytest.raises(Stop):
        study.run(True, store=store, where=LocalExecutor())
    assert measured == [2, 3]
    most = 100
    with open_store(path, resume=True) as store:
        resumed = study.run(True, store=store)
        assert measured == [2, 3, 4]
        study.run(False, store=store)  # another config is another measurement
        assert sorted(measured[3:]) == [2, 3, 4]
        renamed = replace(study, name="other")
        renamed.run(True, store=store)
        assert sorted(measured[6:]) == [2, 3, 4]
    whole = study.run(True)
    assert resumed.identical(whole)
    assert {name: resumed[name].dtype for name in resumed} == {
        name: whole[name].dtype for name in whole
    }


def double(value, *progress):
    return float(doubled(np.full(value, 2.0))[0])


doubled = jax.jit(lambda values: 2 * values)


@pytest.mark.parametrize("where", [LocalExecutor(), ThreadExecutor(2)])
@pytest.mark.parametrize(("most", "kept"), [(0, 0), (10**9, 5)])
def test_programs_of_many_cells_are_let_go(where, most, kept, monkeypatch):
    """Where the process has many mappings of memory; the numbers are the same."""
    monkeypatch.setattr(_programs, "many_mappings", partial(_programs.many_mappings, most))
    doubled.clear_cache()
    jobs = list(enumerate(range(1, 6)))
    found = dict(where.results(double, jobs, lambda index, part: None))
    assert found == dict.fromkeys(range(5), 4.0)
    assert doubled._cache_size() == kept
