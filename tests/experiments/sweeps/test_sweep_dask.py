"""Sweeps on real worker processes of a dask cluster, some of which are killed."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask.config
import distributed
import psutil
import pytest
import sweep_stand_in as stand_in
from helpers import assert_refused
from sweep_stand_in import WORK, small_grid

from experiments.cells import executors
from experiments.cells.executors import DaskExecutor, LocalExecutor
from experiments.cells.store import folder_of
from experiments.sweeps.complete import Work, complete_sweep

GUIDE = Path(__file__).parents[3] / "docs/guides/sweeps.md"


def sweep(path, where, work=WORK, resume=False):
    return complete_sweep(small_grid(), path, where, resume=resume, work=work)


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sweep") / "sweep.nc"
    sweep(path, LocalExecutor())
    return path.read_bytes()


def kill_first(folder: Path, killed: list[int]) -> None:
    """Kills the first worker that shows up in the diary while it is at work."""
    deadline = time.monotonic() + 60
    while not killed and time.monotonic() < deadline:
        for file in folder.glob("diary.*"):
            process = int(file.suffix[1:])
            time.sleep(0.05)
            os.kill(process, signal.SIGKILL)
            killed.append(process)
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(in_one_process, tmp_path, monkeypatch):
    monkeypatch.setenv(stand_in.DIARY, str(tmp_path / "diary"))
    killed: list[int] = []
    killer = threading.Thread(target=kill_first, args=(tmp_path, killed))
    killer.start()
    path = tmp_path / "sweep.nc"
    assert sweep(path, executors.executor("dask"), Work(WORK.examine, stand_in.slow_train)) is False
    killer.join()
    workers = {int(file.suffix[1:]) for file in tmp_path.glob("diary.*")}
    assert killed
    assert workers - set(killed)
    assert os.getpid() not in workers
    assert len((tmp_path / "diary").read_text().splitlines()) == 12  # what was killed had not ended
    assert path.read_bytes() == in_one_process
    assert not folder_of(path).exists()


@pytest.mark.slow
def test_a_task_that_kills_its_workers_ends_the_sweep(in_one_process, tmp_path):
    """The six tasks of the other cells may be finished, and are kept."""
    path = tmp_path / "sweep.nc"

    def fatal():
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            sweep(path, DaskExecutor(None), Work(WORK.examine, stand_in.fatal_train))

    named = "of width 16, vocab_size"
    assert_refused("executor", fatal, "'dask'", "several workers", named, "--resume goes on")
    finished = len(list(folder_of(path).glob("*.npz"))) if folder_of(path).exists() else 0
    assert finished <= 6
    sweep(path, LocalExecutor(), resume=True)
    assert path.read_bytes() == in_one_process


def inet(process: psutil.Process) -> Any:
    """What a process listens on and is connected to; psutil 6 gave it another name."""
    new = hasattr(process, "net_connections")
    return process.net_connections("inet") if new else process.connections("inet")


def cluster_of(workers: int) -> distributed.LocalCluster:
    """A scheduler and workers in threads of this process."""
    # A client that never connected is closed when it is collected, and would wait without end
    # for the lock that a cluster holds while it starts.
    gc.collect()
    return distributed.LocalCluster(
        n_workers=workers,
        processes=False,
        dashboard_address="127.0.0.1:0",
        silence_logs=executors.SILENT,
    )


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler without workers, to which tests add their own."""
    with cluster_of(0) as cluster:
        yield cluster


def test_a_cluster_of_ones_own_is_used_by_its_address(in_one_process, scheduler, tmp_path):
    scheduler.scale(1)
    path = tmp_path / "sweep.nc"
    sweep(path, executors.executor(f"dask:{scheduler.scheduler_address}"))
    assert path.read_bytes() == in_one_process
    with distributed.Client(scheduler) as client:
        assert client.nthreads()  # it is not ours to close
    scheduler.scale(0)


def test_what_it_changes_for_a_process_ends_with_it(scheduler):
    logger = logging.getLogger("distributed.client")
    level = logger.level
    with DaskExecutor(scheduler.scheduler_address):
        assert logger.level == executors.SILENT
        with pytest.raises(ValueError, match="No global client"):
            distributed.get_client()
    assert logger.level == level < executors.SILENT


def test_errors_of_a_worker_arrive_as_they_are(scheduler, tmp_path):
    scheduler.scale(1)
    where = DaskExecutor(scheduler.scheduler_address)

    def too_large():
        complete_sweep(small_grid(widths=(1001,)), tmp_path / "sweep.nc", where, work=WORK)

    assert_refused("widths", too_large, "does not fit")
    assert os.listdir(tmp_path) == []
    scheduler.scale(0)


def test_without_workers_for_long_it_gives_up(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "WORKERLESS_SECONDS", 0.5)
    with distributed.Client(scheduler) as client:
        deadline = time.monotonic() + 30
        while client.nthreads() and time.monotonic() < deadline:
            time.sleep(0.05)
    where = DaskExecutor(scheduler.scheduler_address)
    assert_refused("executor", lambda: sweep(tmp_path / "a.nc", where), "has had no worker")
    assert os.listdir(tmp_path) == []


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 0.3)
    for address in ("tcp://127.0.0.1:9", "bogus://x", "127.0.0.1:port"):
        where = DaskExecutor(address)
        assert_refused("executor", lambda at=where: sweep(tmp_path / "a.nc", at), "not answer")
    where = DaskExecutor("tls://127.0.0.1:9")
    assert_refused("executor", lambda: sweep(tmp_path / "a.nc", where), "needs certificates")
    assert os.listdir(tmp_path) == []


def test_what_takes_the_connection_and_says_nothing_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        where = DaskExecutor(f"tcp://127.0.0.1:{deaf.getsockname()[1]}")
        assert_refused("executor", lambda: sweep(tmp_path / "a.nc", where), "not answer")


def test_a_cluster_of_this_machine_is_reached_from_this_machine_alone(monkeypatch):
    """And has no dashboard; where there are certificates, it speaks to nobody without them."""
    executor = DaskExecutor(None)
    monkeypatch.setattr(executors, "LOCAL_WORKERS", 1)
    with executor:
        assert executor.call(max, 2, 5) == 5
        scheduler = executor._cluster.scheduler
        assert not scheduler.http_application.applications
        address = scheduler.address
        here = psutil.Process()
        listening = [
            connection.laddr.ip
            for process in (here, *here.children(recursive=True))
            for connection in inet(process)
            if connection.status == "LISTEN"
        ]
        assert set(listening) == {"127.0.0.1"}
        if find_spec("cryptography") is not None:
            assert address.startswith("tls://")
            with pytest.raises(OSError):  # noqa: PT011
                distributed.Client(address.replace("tls", "tcp"), timeout=1)


def test_the_guides_cluster_of_one_workstation_listens_on_it_alone():
    lines = [line.strip() for line in GUIDE.read_text(encoding="utf-8").splitlines()]
    (options,) = [line for line in lines if line.startswith("here=")]
    (scheduler,) = [line for line in lines if line.startswith("dask scheduler ")]
    (worker,) = [line for line in lines if " dask worker " in line]
    assert " dask worker $here " in worker
    # `exec` puts the scheduler where the shell was, so that its number is known.
    script = f"{options}; exec {scheduler.removesuffix('&').replace('8786', '0')}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", script], stderr=subprocess.PIPE, text=True, env={**os.environ, "PATH": path}
    )
    with process:
        assert process.stderr is not None
        for said in process.stderr:
            if "Scheduler at:" in said:
                break
        connections = inet(psutil.Process(process.pid))
        process.terminate()
    listening = {one.laddr.ip for one in connections if one.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


def test_workers_that_are_slow_to_end_are_no_error():
    class Slow:
        closed = 0

        def close(self):
            Slow.closed += 1
            raise TimeoutError

    executor = DaskExecutor(None)
    executor._client = executor._cluster = Slow()
    executor.__exit__()
    assert Slow.closed == 2


def failing_train(job, progress=None):
    """Fails for good at one cell, and elsewhere the first time."""
    marker = Path(os.environ[stand_in.DIARY] + f".{job['setup']['width']}.{job['seeds']}")
    if job["setup"]["width"] == 16 or not marker.exists():
        marker.touch()
        raise ZeroDivisionError("of this cell")
    return WORK.train(job, progress)


def test_a_task_that_fails_is_tried_again_and_in_the_end_reported(
    in_one_process, scheduler, tmp_path, monkeypatch
):
    monkeypatch.setenv(stand_in.DIARY, str(tmp_path / "diary"))
    scheduler.scale(1)
    path = tmp_path / "sweep.nc"

    def failing():
        where = DaskExecutor(scheduler.scheduler_address)
        sweep(path, where, Work(WORK.examine, failing_train))

    said = ("could not finish task ", "of width 16, vocab_size 4: 'ZeroDivisionError: of this")
    assert_refused("executor", failing, *said, "--resume goes on")
    sweep(path, LocalExecutor(), resume=True)
    assert path.read_bytes() == in_one_process
    scheduler.scale(0)


def test_a_scheduler_that_goes_away_is_one_line(in_one_process, tmp_path, monkeypatch):
    monkeypatch.setenv(stand_in.DIARY, str(tmp_path / "diary"))
    path = tmp_path / "sweep.nc"
    with cluster_of(1) as cluster:
        where = DaskExecutor(cluster.scheduler_address)

        def close_soon():
            while not (tmp_path / "diary").exists():
                time.sleep(0.02)
            cluster.close()

        closer = threading.Thread(target=close_soon)
        closer.start()
        work = Work(WORK.examine, stand_in.slow_train)
        assert_refused("executor", lambda: sweep(path, where, work), "lost its scheduler")
        closer.join()
    sweep(path, LocalExecutor(), resume=True)
    assert path.read_bytes() == in_one_process
