"""Sweeps: a grid's runs find their places, and a killed sweep ends in the same file."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sweep_stand_in as stand_in
from helpers import assert_refused
from sweep_stand_in import PROVENANCE, WORK, small_grid

from dynsim import InputError
from dynsim.laboratory import NetworkSetup, grid_factors, train_networks
from experiments.cells import executors
from experiments.cells.executors import LocalExecutor, executor
from experiments.cells.store import LOCK, Store, folder_of
from experiments.cli import main
from experiments.results import load
from experiments.sweeps import store, work
from experiments.sweeps.complete import Work, complete_sweep
from experiments.sweeps.dataset import best_rates, contradiction
from experiments.sweeps.plan import Task, differences, even_size, learning_rate_axis
from experiments.sweeps.work import (
    largest_task,
    memory_of_as_many,
    operations,
    tokens_digest,
    train,
)
from experiments.tables._netcdf import netcdf_table

pytestmark = pytest.mark.usefixtures("quick_compilation")


def sweep(path, grid=None, where=None, resume=False, work=WORK):
    return complete_sweep(
        grid or small_grid(), path, where or LocalExecutor(), resume=resume, work=work
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "whole.nc"
    assert sweep(path) is False
    return path


class Stop(Exception):
    """Ends a sweep from inside a task."""


def stopping_after(tasks: int, failure: BaseException | None = None) -> Work:
    """Work that fails once it has finished so many tasks."""
    left = tasks

    def train(job, progress=None):
        nonlocal left
        if not left:
            raise failure or Stop
        left -= 1
        return WORK.train(job, progress)

    return Work(WORK.examine, train)


# The plan


def test_learning_rates_are_log_spaced():
    rates = learning_rate_axis("embedding_lrs", "0.001:10:5")
    np.testing.assert_allclose(rates, [1e-3, 1e-2, 1e-1, 1, 10])
    assert rates[0] == 0.001
    assert rates[-1] == 10
    assert learning_rate_axis("embedding_lrs", "0.25:4:1") == (0.25,)
    assert learning_rate_axis("embedding_lrs", "0") == (0.0,)
    assert learning_rate_axis("embedding_lrs", "0,0.25:4:2") == (0.0, 0.25, 4.0)
    assert len(learning_rate_axis("embedding_lrs", "1:2:10000")) == 10_000


@pytest.mark.parametrize(
    "text",
    ["", "x", "nan", "-1", "inf", "1:2", "1:2:0", "1:2:x", "0:1:3", "2:1:3", "1:1:2", "1:2:3:4",
     "1:inf:3", "1:2:1e9", "0,", "0,1", "0,0", "0,0:1:2", "0,0,1:2:2", "1,1:2:2"],
)  # fmt: skip
def test_bad_learning_rates_are_refused(text):
    assert_refused("hidden_lrs", lambda: learning_rate_axis("hidden_lrs", text))


@pytest.mark.parametrize("text", ["1:2:10001", "1:2:9999999999", "0,1:2:10001"])
def test_too_many_learning_rates_are_refused(text):
    said = "must have at most 10,000 rates"
    assert_refused("hidden_lrs", lambda: learning_rate_axis("hidden_lrs", text), said)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (8, 8)}, "widths"),
        ({"widths": (8, 0)}, "widths"),
        ({"vocab_sizes": (4, 0)}, "vocab_sizes"),
        ({"vocab_sizes": (4, 4)}, "vocab_sizes"),
        ({"widths": tuple(range(1, 502)), "vocab_sizes": tuple(range(2, 402))}, "widths"),
        ({"embedding_lrs": ()}, "embedding_lrs"),
        ({"hidden_lrs": (1.0, 1.0)}, "hidden_lrs"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": 10**8}, "seeds"),
        ({"horizons": (4,)}, "horizons"),
        ({"horizons": (0,)}, "horizons"),
        ({"horizons": (2, 2)}, "horizons"),
        ({"memory_gb": 0.0}, "memory_gb"),
        ({"memory_gb": float("nan")}, "memory_gb"),
    ],
)
def test_a_grid_that_means_nothing_is_refused(changes, option):
    assert_refused(option, lambda: small_grid(**changes))


def test_tasks_hold_every_run_once():
    grid = small_grid(seeds=3)
    tasks = grid.tasks([4, 5, 18, 1])
    assert [task.number for task in tasks] == list(range(len(tasks)))
    for cell, count in enumerate([5, 4, 1, 18]):
        runs = [run for task in tasks if task.cell == cell for run in range(task.start, task.stop)]
        assert runs == list(range(18))
        assert sum(task.cell == cell for task in tasks) == count


def test_runs_are_seed_major():
    embedding, hidden, seeds = small_grid().run_list(Task(0, 0, 4, 9))
    assert embedding.tolist() == [0.4, 0.4, 0.1, 0.1, 0.2]
    assert hidden.tolist() == [0.3, 0.5, 0.3, 0.5, 0.3]
    assert seeds.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("runs", "largest", "size"),
    [(12, 5, 4), (12, 100, 12), (12, 1, 1), (12, 0, 1), (13, 5, 5), (13, 7, 7), (1, 1, 1),
     (22, 10, 8)],
)  # fmt: skip
def test_tasks_of_a_cell_are_even(runs, largest, size):
    """A divisor if one is at least half as large; else the fewest tasks: 22 = 8 + 8 + 6."""
    assert even_size(runs, largest) == size


def test_tasks_are_bounded_by_operations_and_filled_with_what_trains_together(monkeypatch):
    from dynsim import laboratory

    setup = NetworkSetup(network="mlp", width=32, vocab_size=50, depth=3, steps=7, outputs=5)
    weights = 50 * 32 + 3 * 32**2 + 5 * 32 + 4 * 32  # embedding, hidden, readout, gains
    expected = 7 * (6 * (weights - 50 * 32) * 50 + work.UPDATE_OPERATIONS * weights)
    assert operations(setup) == expected
    batch = NetworkSetup(network="mlp", width=32, vocab_size=50, steps=7, batch_size=10)
    assert operations(batch) < operations(setup) / 3
    monkeypatch.setattr(laboratory, "runs_side_by_side", lambda setup, memory_gb: 16)
    for most, runs in ((10, 10), (16, 16), (45, 32), (0.1, 1), (10**9, work.MAX_TASK_RUNS)):
        monkeypatch.setattr(work, "ACCELERATOR_OPERATIONS", most * expected)
        monkeypatch.setattr(work, "TASK_OPERATIONS", {"cpu": most * expected})
        assert largest_task(setup, None) == runs


def test_differences_are_named_on_one_line():
    assert differences({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 2]}) == ""
    line = differences({"a": 1, "b": [1.0, 0.5]}, {"a": 2, "b": [1, 3], "c": None})
    assert line == "a is 1 there, 2 here; b is 1 0.5 there, 1 3 here; c is None there, None here"
    many = differences(dict.fromkeys("abcdef", 0), dict.fromkeys("abcdef", 1))
    assert many.endswith("and 3 more")
    assert len(differences({"a": "x" * 500}, {"a": "y" * 500})) < 200


# The file


def test_every_run_finds_its_place(uninterrupted):
    dataset = load(uninterrupted)
    assert dataset.loss.dims == (
        "width", "vocab_size", "embedding_lr", "hidden_lr", "seed", "horizon",
    )  # fmt: skip
    assert dataset.train_loss.dims == (*dataset.loss.dims[:-1], "step")
    assert dataset.diverged.dims == dataset.loss.dims[:-1]
    assert dataset.initial_loss.dims == ("width", "vocab_size", "seed")
    start = dataset.width + dataset.vocab_size / 100 + dataset.seed
    expected = start * np.exp(-dataset.embedding_lr * dataset.hidden_lr * dataset.horizon)
    expected = expected.transpose(*dataset.loss.dims)
    expected = expected.where(~dataset.diverged, np.inf)
    np.testing.assert_allclose(dataset.loss, expected, rtol=1e-14)
    np.testing.assert_array_equal(dataset.initial_loss, start)
    assert (dataset.diverged == (dataset.embedding_lr == 0.4)).all()
    curve = start * np.exp(-dataset.embedding_lr * dataset.hidden_lr * dataset.step)
    np.testing.assert_allclose(dataset.train_loss, curve.transpose(*dataset.train_loss.dims), 1e-6)
    assert dataset.train_loss.dtype == "float32"
    for place, name in enumerate(("embedding_lr_factor", "hidden_lr_factor")):
        factors = [grid_factors(NetworkSetup(width=width))[place] for width in (8, 16)]
        assert dataset[name].values.tolist() == factors
    assert json.loads(dataset.attrs["config"]) == small_grid().config
    assert dataset.attrs["device"] == PROVENANCE["device"]
    assert json.loads(dataset.attrs["runs_per_task"]) == [4] * 4


def test_the_best_pair_is_that_of_the_lowest_mean(uninterrupted):
    dataset = load(uninterrupted)
    rows = best_rates(dataset)
    assert [(row["width"], row["vocab_size"]) for row in rows] == [(8, 4), (8, 6), (16, 4), (16, 6)]
    for row in rows:
        assert (row["embedding_lr"], row["hidden_lr"], row["diverged"]) == (0.2, 0.5, 4)
    assert rows[2]["loss"] == pytest.approx((16.04 + 17.04) / 2 * np.exp(-0.2 * 0.5 * 3))
    none = best_rates(dataset.assign(diverged=dataset.diverged | True))
    assert none[0]["loss"] is none[0]["embedding_lr"] is None
    one_seed = dataset.diverged | ((dataset.seed == 1) & (dataset.embedding_lr == 0.2))
    assert best_rates(dataset.assign(diverged=one_seed))[0]["embedding_lr"] == 0.1


# Interruptions


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_ends_in_the_same_file(tmp_path):
    """Killed before every single touch of the folder, and twenty times at random moments."""
    script = Path(stand_in.__file__)
    driver = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert driver.returncode == 0, driver.stderr
    touches, _ = map(int, driver.stdout.split())
    assert touches > 30
    whole = (tmp_path / "uninterrupted.nc").read_bytes()
    resumed = [*tmp_path.glob("touch/*/sweep.nc"), *tmp_path.glob("random/*.nc")]
    assert len(resumed) > touches
    for file in resumed:
        assert file.read_bytes() == whole
    left = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert {name for name in left if not name.endswith(".nc")} == {"diary"}
    assert not list(tmp_path.rglob("*.cells"))


def test_a_failure_keeps_what_is_finished(uninterrupted, tmp_path):
    path = tmp_path / "whole.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(5))
    assert len(list(folder_of(path).glob("*.npz"))) == 5
    assert sweep(path, resume=True, work=stopping_after(7)) is False  # 12 in all
    assert path.read_bytes() == uninterrupted.read_bytes()
    assert os.listdir(tmp_path) == ["whole.nc"]


def test_sizes_of_tasks_are_those_of_the_beginning(uninterrupted, tmp_path):
    """Last bits depend on them; the stand-in's do."""
    path = tmp_path / "whole.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(1))

    def examine(*arguments):
        return {**WORK.examine(*arguments), "largest_tasks": [12] * 4}

    sweep(path, resume=True, work=Work(examine, WORK.train))
    assert path.read_bytes() == uninterrupted.read_bytes()
    other = tmp_path / "other.nc"
    sweep(other, work=Work(examine, WORK.train))
    assert not load(other).loss.identical(load(path).loss)


def test_networks_side_by_side_are_those_of_the_beginning(tmp_path):
    """Their number follows from the memory of each cell, which jobs bring along."""
    path, memory = tmp_path / "sweep.nc", [1.0, 2.0, 3.0, 4.0]
    seen = []

    def train(job, progress=None):
        if len(seen) == 5:
            raise Stop
        seen.append(job["memory_gb"])
        return WORK.train(job, progress)

    def examine(*arguments):
        return {**WORK.examine(*arguments), "memory_gb": memory}

    with pytest.raises(Stop):
        sweep(path, work=Work(examine, train))
    first, seen = seen, []
    memory = [9.0] * 4
    with pytest.raises(Stop):
        sweep(path, resume=True, work=Work(examine, train))
    assert first + seen == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4]


def test_memory_stands_for_a_number_of_networks():
    from dynsim.laboratory import runs_side_by_side

    counts = []
    for width in (4, 16, 8192):
        setup = NetworkSetup(width=width, vocab_size=512)
        counts.append(runs_side_by_side(setup))
        assert runs_side_by_side(setup, memory_of_as_many(setup, None)) == counts[-1]
        assert memory_of_as_many(setup, 0.25) == 0.25
    assert len(set(counts)) == 3


def test_what_killed_processes_left_half_written_is_removed(uninterrupted, tmp_path):
    """And nothing of sweeps with longer names, whose processes may be alive."""
    path = tmp_path / "sweep"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(1))
    ours = [tmp_path / ".sweep.123.tmp", folder_of(path) / ".000001.npz.123.tmp"]
    others = [tmp_path / name for name in (".sweep.nc.123.tmp", ".sweep.tmp", ".sweep.new.tmp")]
    for file in ours + others:
        file.write_text("half")
    with pytest.raises(Stop):
        sweep(path, resume=True, work=stopping_after(0))
    assert [file.exists() for file in ours] == [False, False]
    assert all(file.exists() for file in others)
    sweep(path, resume=True)
    assert path.read_bytes() == uninterrupted.read_bytes()


def test_the_content_of_tokens_has_a_digest(tmp_path):
    def digest(tokens, targets="gaussian", vocab_size=256):
        outputs = 4 if targets == "bigram" else None
        batch = 8 if targets == "next-token" else 0
        return tokens_digest(
            NetworkSetup(tokens=tokens, targets=targets, outputs=outputs, vocab_size=vocab_size,
                         batch_size=batch)
        )  # fmt: skip

    assert digest("uniform") is digest("zipf:1") is None
    counts = tmp_path / "counts"
    counts.write_text("3\n2\n1\n")
    before = digest(f"counts:{counts}", vocab_size=3)
    assert before != digest(f"counts:{counts}", vocab_size=2)
    counts.write_text("# the same law\n3\n2\n1\n")
    assert digest(f"counts:{counts}", vocab_size=3) == before
    counts.write_text("4\n2\n1\n")
    assert digest(f"counts:{counts}", vocab_size=3) != before
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("ab" * 500)
    other.write_text("aabb" * 250)  # letters as often, in another order
    assert digest(f"corpus:{one}") == digest(f"corpus:{other}")
    for targets in ("bigram", "next-token"):
        assert digest(f"corpus:{one}", targets) != digest(f"corpus:{other}", targets)


def test_tokens_that_changed_are_refused(tmp_path):
    counts, path = tmp_path / "counts", tmp_path / "sweep.nc"
    text = "5\n4\n3\n2\n1\n1\n"
    counts.write_text(text)
    grid = small_grid(setup=NetworkSetup(steps=3, tokens=f"counts:{counts}"))
    jobs = []

    def examine(*arguments):
        return {**WORK.examine(*arguments), "tokens": work.examine(*arguments)["tokens"]}

    def train_two(job, progress=None):
        if len(jobs) == 2:
            raise Stop
        jobs.append(job)
        return WORK.train(job, progress)

    with pytest.raises(Stop):
        sweep(path, grid, work=Work(examine, train_two))
    counts.write_text(text.replace("3", "4"))
    said = ("/counts'", "than when the sweep began", "finished tasks are kept")
    resumed = Work(examine, WORK.train)
    assert_refused("tokens", lambda: sweep(path, grid, resume=True, work=resumed), *said)
    said = ("/counts'", "holds other tokens for a worker", "--resume goes on")
    assert_refused("tokens", lambda: train(jobs[0]), *said)
    assert len(list(folder_of(path).glob("*.npz"))) == 2
    counts.write_text(text)
    assert len(train(jobs[0])["arrays"]["loss"]) == 4
    sweep(path, grid, resume=True, work=resumed)
    digests = json.loads(load(path).attrs["tokens"])
    assert digests == {str(m): tokens_digest(grid.setup.at(8, m)) for m in (4, 6)}


def test_nothing_is_left_of_a_sweep_that_finished_nothing(tmp_path):
    with pytest.raises(Stop):
        sweep(tmp_path / "sweep.nc", work=stopping_after(0))
    assert_refused("widths", lambda: sweep(tmp_path / "b.nc", small_grid(widths=(1001,))))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", None])
def test_a_damaged_task_is_trained_again(uninterrupted, tmp_path, content):
    path = tmp_path / "whole.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(5))
    victim = folder_of(path) / "000002.npz"
    if content is None:  # a flipped bit in the middle
        flipped = bytearray(victim.read_bytes())
        flipped[len(flipped) // 2] ^= 1
        content = bytes(flipped)
    victim.write_bytes(content)
    sweep(path, resume=True)
    assert path.read_bytes() == uninterrupted.read_bytes()


def test_a_task_that_is_damaged_while_the_sweep_runs_is_trained_again(uninterrupted, tmp_path):
    path, trained = tmp_path / "whole.nc", []

    def damaging(times):
        def train(job, progress=None):
            trained.append(job)
            if len(trained) % 2 == 0 and len(trained) <= times:
                (folder_of(path) / "000000.npz").write_bytes(b"torn")
            return WORK.train(job, progress)

        return Work(WORK.examine, train)

    sweep(path, work=damaging(10))
    assert len(trained) == 13
    assert path.read_bytes() == uninterrupted.read_bytes()

    def always(job, progress=None):
        trained = WORK.train(job, progress)
        for file in folder_of(path).glob("*.npz"):
            file.write_bytes(b"torn")
        return trained

    path.unlink()
    said = ("is changed by another program", "finished tasks are kept")
    assert_refused("out", lambda: sweep(path, work=Work(WORK.examine, always)), *said)


def test_a_file_without_a_digest_is_held_against_itself(uninterrupted, tmp_path):
    """As older versions wrote it, or as another program has written it again."""
    dataset = load(uninterrupted)
    assert contradiction(dataset) is None
    assert contradiction(dataset.isel(width=[1], horizon=[0])) is None
    assert contradiction(dataset.drop_attrs()) is None
    other = dataset.assign_coords(horizon=[2, 137438953477])
    assert contradiction(other) == "its horizon is not that of its config"
    flagged = dataset.copy(deep=True)
    flagged.diverged[0, 0, 0, 0, 0] = True  # of losses that fall
    assert "is said to have diverged" in str(contradiction(flagged))
    flagged.to_netcdf(tmp_path / "flagged.nc", engine="h5netcdf")
    assert main(["optima", str(tmp_path / "flagged.nc")]) == 2
    with pytest.raises(InputError, match="is damaged"):
        netcdf_table(tmp_path / "flagged.nc", None, [])


def test_tasks_without_a_plan_do_not_count(uninterrupted, tmp_path):
    """What a killed removal of a finished sweep's folder leaves, once the file is gone too."""
    path = tmp_path / "whole.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(5))
    (folder_of(path) / store.PLAN).unlink()
    with pytest.raises(Stop):
        sweep(path, resume=True, work=stopping_after(11))
    sweep(path, resume=True, work=stopping_after(1))
    assert path.read_bytes() == uninterrupted.read_bytes()


def test_a_damaged_plan_is_refused(tmp_path):
    path = tmp_path / "sweep.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(1))
    plan = folder_of(path) / store.PLAN
    edited = plan.read_bytes().replace(b'"runs_per_task": [\n  4', b'"runs_per_task": [\n  3')
    assert edited != plan.read_bytes()
    for content in (b"{", b"{}", b"[]", edited):
        plan.write_bytes(content)
        assert_refused("out", lambda: sweep(path, resume=True), "damaged plan.json")


def test_tasks_that_change_places_are_trained_again(uninterrupted, tmp_path):
    """A task's file says which one it is, and an edited one is noticed."""
    path = tmp_path / "whole.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(5))
    first, second, third = (folder_of(path) / f"00000{number}.npz" for number in range(3))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    edited = dict(np.load(third))
    edited["loss"] = edited["loss"] * 2
    np.savez(third, **edited)
    sweep(path, resume=True)
    assert path.read_bytes() == uninterrupted.read_bytes()


def test_files_of_others_are_neither_removed_nor_overwritten(tmp_path):
    path = tmp_path / "sweep.nc"
    folder = folder_of(path)
    folder.mkdir()
    for name in ("thesis.txt", "data.npz", "1.npz"):
        other = folder / name
        other.write_text("mine")
        assert_refused("out", lambda: sweep(path, resume=True), name, "did not write")
        assert os.listdir(folder) == [name]
        assert other.read_text() == "mine"
        other.unlink()

    def train(job, progress=None):
        (folder / "thesis.txt").write_text("mine")  # appears while the sweep runs
        return WORK.train(job, progress)

    sweep(path, resume=True, work=Work(WORK.examine, train))
    assert [file.name for file in folder.iterdir()] == ["thesis.txt"]


def test_a_file_that_appears_while_the_sweep_runs_is_kept(uninterrupted, tmp_path):
    path = tmp_path / "whole.nc"

    def train(job, progress=None):
        path.write_text("mine")
        return WORK.train(job, progress)

    def appeared():
        sweep(path, work=Work(WORK.examine, train))

    assert_refused("out", appeared, "File exists", "finished tasks are kept")
    assert path.read_text() == "mine"
    path.unlink()
    sweep(path, resume=True, work=stopping_after(0))
    assert path.read_bytes() == uninterrupted.read_bytes()


def test_an_existing_file_or_store_needs_resume(uninterrupted, tmp_path):
    assert_refused("out", lambda: sweep(uninterrupted), "exists; --resume goes on with it")
    path = tmp_path / "sweep.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(2))
    assert_refused("out", lambda: sweep(path), "exists; --resume goes on with it")
    assert len(list(folder_of(path).glob("*.npz"))) == 2


def test_a_finished_file_is_left_alone(uninterrupted):
    before = uninterrupted.stat()
    assert sweep(uninterrupted, resume=True, work=stopping_after(0)) is True
    after = uninterrupted.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_another_sweep_is_refused_and_kept(uninterrupted, tmp_path):
    longer = small_grid(setup=NetworkSetup(steps=4), hidden_lrs=(0.3, 0.6))
    said = ("hidden_lrs is 0.3 0.5 there, 0.3 0.6 here", "steps is 3 there, 4 here")
    assert_refused("out", lambda: sweep(uninterrupted, longer, resume=True), *said)
    path = tmp_path / "sweep.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(2))
    assert_refused("out", lambda: sweep(path, longer, resume=True), *said)
    assert len(list(folder_of(path).glob("*.npz"))) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code_version": "9"}, "code_version is 1 there, 9 here"),
        ({"libraries": json.dumps({"jax": "9", "numpy": "2"})}, "jax is 1 there, 9 here"),
        ({"device": "gpu: H100"}, "device is cpu: cpu there, gpu: H100 here"),
        ({"device": "cpu: cpu (2)"}, "device is cpu: cpu there, cpu: cpu (2) here"),
        ({"processor": "other avx"}, "processor is"),
        ({"xla_flags": "--a=1"}, "--a=1 here"),
    ],
)
def test_another_version_or_device_is_refused_and_finished_cells_kept(tmp_path, changes, said):
    path = tmp_path / "sweep.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(2))

    def examine(*arguments):
        site = WORK.examine(*arguments)
        return {**site, "provenance": site["provenance"] | changes, "fingerprint": "other"}

    def resumed():
        sweep(path, resume=True, work=Work(examine, WORK.train))

    assert_refused("out", resumed, "another version or device", said, "not be comparable")
    assert len(list(folder_of(path).glob("*.npz"))) == 2
    assert sweep(path, resume=True) is False


def test_a_worker_that_differs_is_refused(tmp_path):
    def train(job, progress=None):
        trained = WORK.train(job, progress)
        other = {**trained["provenance"], "device": "gpu: H100"}
        return {**trained, "provenance": other} if job["setup"]["width"] == 16 else trained

    def other():
        sweep(tmp_path / "sweep.nc", work=Work(WORK.examine, train))

    assert_refused("executor", other, "device is cpu: cpu there, gpu: H100 here")
    assert len(list(folder_of(tmp_path / "sweep.nc").glob("*.npz"))) == 6


def test_the_longest_tasks_go_first_where_several_are_done_at_a_time(uninterrupted, tmp_path):
    class Several(LocalExecutor):
        longest_first = True

    widths = []

    def train(job, progress=None):
        widths.append(job["setup"]["width"])
        return WORK.train(job, progress)

    path = tmp_path / "whole.nc"
    sweep(path, where=Several(), work=Work(WORK.examine, train))
    assert widths == [16] * 6 + [8] * 6
    assert path.read_bytes() == uninterrupted.read_bytes()


def test_a_folder_has_one_owner(tmp_path):
    path = tmp_path / "sweep.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(2))
    with open(folder_of(path) / LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert_refused("out", lambda: sweep(path, resume=True), "is in use")
    assert sweep(path, resume=True) is False


def test_a_folder_removed_while_waiting_for_it_is_made_again(tmp_path, monkeypatch):
    """The owner finishes between this process's opening of the lock and its locking."""
    path = tmp_path / "sweep.nc"
    lock = fcntl.flock
    removals = []

    def flock(handle, how):
        if not removals:
            removals.append(folder_of(path))
            Store(path).remove()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    sweep(path)
    assert removals
    assert os.listdir(tmp_path) == ["sweep.nc"]


def test_a_file_that_is_no_sweep_is_refused(tmp_path):
    (tmp_path / "text.nc").write_text("text")
    assert_refused("out", lambda: sweep(tmp_path / "text.nc", resume=True), "not the file of")
    assert_refused("out", lambda: sweep(tmp_path), "must be a file")
    assert_refused("out", lambda: sweep(tmp_path / "text.nc" / "a.nc"), "cannot be written")
    assert_refused("out", lambda: sweep(tmp_path / ("n" * 300)), "cannot be written")
    assert_refused("out", lambda: sweep(tmp_path / "\0"), "must be a file")
    assert (tmp_path / "text.nc").read_text() == "text"


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_line_and_keeps_finished_tasks(uninterrupted, tmp_path, monkeypatch):
    path = tmp_path / "whole.nc"
    replace, count = os.replace, 0

    def fills_up(source, target):
        nonlocal count
        count += 1
        no_space() if count > 4 else replace(source, target)

    said = ("whole.nc", "No space left on device", "--resume goes on")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fills_up)  # the plan and three tasks fit
        assert_refused("out", lambda: sweep(path), *said)
    names = sorted(file.name for file in folder_of(path).iterdir())
    assert names == ["000000.npz", "000001.npz", "000002.npz", "lock", "plan.json"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        assert_refused("out", lambda: sweep(path, resume=True), *said)
    with monkeypatch.context() as patch:
        patch.setattr("xarray.Dataset.to_netcdf", no_space)
        assert_refused("out", lambda: sweep(path, resume=True), *said)
    assert os.listdir(tmp_path) == ["whole.nc.cells"]
    assert len(list(folder_of(path).glob("*.npz"))) == 12
    sweep(path, resume=True, work=stopping_after(0))
    assert path.read_bytes() == uninterrupted.read_bytes()


def test_a_disk_full_from_the_start_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_space)
    assert_refused("out", lambda: sweep(tmp_path / "sweep.nc"), "No space left on device")
    assert os.listdir(tmp_path) in ([], ["sweep.nc.cells"])


def test_a_disk_full_under_a_task_is_one_line(uninterrupted, tmp_path):
    """Such as that of the token cache."""
    path = tmp_path / "whole.nc"
    failure = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/tokens")
    said = ("No space left on device: '/cache/tokens'", "--resume goes on")
    assert_refused("executor", lambda: sweep(path, work=stopping_after(5, failure)), *said)
    sweep(path, resume=True, work=stopping_after(7))
    assert path.read_bytes() == uninterrupted.read_bytes()


def test_progress_counts_runs_and_starts_where_it_stopped(tmp_path, monkeypatch):
    from experiments.sweeps import complete

    bars = []

    class Bar:
        n = initial = 0

        def __init__(self, total, label):
            self.total, self.seen, self.label = total, [], label
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            self.n += count
            self.seen.append(self.n)

    monkeypatch.setattr(complete, "progress_bar", Bar)
    path = tmp_path / "sweep.nc"
    with pytest.raises(Stop):
        sweep(path, work=stopping_after(5))
    sweep(path, resume=True)
    first, second = (bar for bar in bars if "planning" not in bar.label)
    assert first.total == second.total == 1  # of the time that is expected
    assert first.seen == sorted(first.seen)
    assert 0 < second.initial < 1
    assert first.seen[-1] == pytest.approx(second.initial)
    assert second.seen[-1] == pytest.approx(1)


@pytest.mark.parametrize("name", ["", "Local", "dask:", "slurm", "local:1"])
def test_unknown_executors_are_refused(name):
    assert_refused("executor", lambda: executor(name))


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(executors.InputError, match=r"pip install 'dynsim\[cluster\]'"):
        executor("dask").__enter__()


# The command

ARGUMENTS = (
    "sweep --network linear --widths 6 4 --vocab-sizes 5 --embedding-lrs 0.01:1e4:2 --hidden-lrs "
    "0.1:1:2 --seeds 2 --horizons 2 4 --steps 4 --optimizer sgd --seed 3 --out"
)
COMMAND = ARGUMENTS.split()


@pytest.fixture(scope="module")
def command_file(tmp_path_factory) -> Path:
    """The file of the real command."""
    path = tmp_path_factory.mktemp("command") / "sweep.nc"
    assert main([*COMMAND, str(path)]) == 0
    return path


def test_the_command_trains_what_the_library_trains(command_file):
    dataset = load(command_file)
    setup = NetworkSetup(width=4, vocab_size=5, steps=4, optimizer="sgd", seed=3)
    runs = list(itertools.product((0, 1), (0.01, 1e4), (0.1, 1)))
    seeds, embedding_lrs, hidden_lrs = zip(*runs, strict=True)
    result = train_networks(setup, embedding_lrs, hidden_lrs, seeds, horizons=[2, 4])
    for place, (seed, embedding, hidden) in enumerate(runs):
        run = dataset.sel(
            width=4, vocab_size=5, embedding_lr=embedding, hidden_lr=hidden, seed=seed
        )
        assert run.loss.values.tolist() == pytest.approx(result.loss[place], nan_ok=True)
        assert run.initial_loss == result.initial_loss[place]
        assert bool(run.diverged) == bool(result.diverged[place])
    assert dataset.diverged.any()
    assert not dataset.diverged.all()
    assert dataset.width.values.tolist() == [4, 6]
    assert "train_loss" not in dataset


def test_the_command_prints_one_document(command_file, capsys):
    capsys.readouterr()
    assert main([*COMMAND, str(command_file), "--resume", "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert printed.err == ""
    assert document["already_finished"] is True
    assert (document["cells"], document["runs"]) == (2, 16)
    assert document["diverged"] == int(load(command_file).diverged.sum()) > 0
    assert document["path"] == str(command_file)
    assert document["config"]["seed"] == 3
    assert document["best"] == best_rates(load(command_file))
    assert document["provenance"]["device"]
    assert main([*COMMAND, str(command_file), "--resume"]) == 0
    text = capsys.readouterr().out
    assert "was finished already" in text
    assert f"dynsim optima {command_file}" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--steps 5 --resume", "steps is 4 there, 5 here"),
        ("", "exists; --resume goes on with it"),
        ("--width 3", "--width"),
        ("--widths 2147483647 --out elsewhere.nc", "--widths 2147483647: one linear"),
        ("--vocab-sizes 4 0", "--vocab-sizes 0: must be"),
        (
            "--tokens counts:{counts} --vocab-sizes 9 --out b.nc",
            "--vocab-sizes 9: must be at most 2",
        ),
        ("--tokens counts:missing --out elsewhere.nc", "--tokens"),
        (
            "--network transformer --batch-size 32",
            "--head-width 16: must divide --widths",
        ),
    ],
)
def test_bad_sweeps_are_one_line(command_file, tmp_path, monkeypatch, capsys, arguments, said):
    counts = command_file.with_name("counts")
    counts.write_text("2\n1\n")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main([*COMMAND, str(command_file), *arguments.format(counts=counts).split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dynsim: error: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (0, ""),
        (5, "; finished tasks (5) are kept and --resume goes on with them"),
        (12, "; sweep.nc is whole"),
    ],
)
def test_an_interrupted_command_says_what_is_kept(tmp_path, monkeypatch, capsys, tasks, said):
    from experiments.sweeps import complete

    def interrupted(grid, path, where, *, resume):
        complete_sweep(small_grid(), path, where, work=stopping_after(tasks, KeyboardInterrupt()))
        raise KeyboardInterrupt  # between the file and what is printed

    monkeypatch.setattr(complete, "complete_sweep", interrupted)
    capsys.readouterr()
    assert main([*COMMAND, str(tmp_path / "sweep.nc")]) == 130
    printed = capsys.readouterr()
    assert printed.err.strip().split("\n")[-1].endswith(f"dynsim: error: interrupted{said}")
    assert bool(os.listdir(tmp_path)) == bool(tasks)


def test_training_losses_are_kept_in_the_precision_of_training():
    job = {
        "setup": {"width": 4, "vocab_size": 5, "steps": 4, "optimizer": "sgd"},
        "embedding_lrs": [0.1, 0.1],
        "hidden_lrs": [0.1, 0.2],
        "seeds": [0, 1],
        "horizons": [2],
        "memory_gb": 0.01,
        "tokens": None,
        "train_loss": True,
    }
    arrays = train(job)["arrays"]
    assert arrays["train_loss"].dtype == "float32"
    assert arrays["train_loss"].shape == (2, 4)
    np.testing.assert_allclose(arrays["train_loss"][:, 0], arrays["initial_loss"], rtol=1e-5)
    job["setup"] = job["setup"] | {"precision": "float64"}
    assert train(job)["arrays"]["train_loss"].dtype == "float64"
