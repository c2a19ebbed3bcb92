"""Where cells are computed: in this process, in threads of it, or on workers of a dask cluster.

An executor is a context manager with two methods. `call` runs one function to its end. `results`
yields (index, result) of a function of each job, in any order; some executors call the function
with a second argument, to which it may report the share that it has finished. For dask, functions
are module-level and take and return plain data.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Protocol, Self

from dynsim import InputError

from .store import RESUMABLE

LOCAL_WORKERS = 2
CONNECT_SECONDS = 10
WORKERLESS_SECONDS = 600.0
POLL_SECONDS = 0.01
QUEUED_TASKS = 256
SILENT = logging.CRITICAL + 1
_PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"

Jobs = Iterable[tuple[int, Any]]
Progress = Callable[[int, float], object]  # of a job: the share finished since the last call


class Executor(Protocol):
    name: str

    def __enter__(self) -> Self: ...
    def __exit__(self, *failure: object) -> None: ...
    def call(self, function: Callable[..., Any], *arguments: Any) -> Any: ...
    def results(
        self, function: Callable[..., Any], jobs: Jobs, progress: Progress
    ) -> Iterator[tuple[int, Any]]: ...


def executor(name: str) -> Executor:
    """The executor called local, dask or dask:ADDRESS. Raises `InputError` for another name."""
    kind, _, address = name.partition(":")
    if name == "local":
        return LocalExecutor()
    if name == "dask" or (kind == "dask" and address):
        return DaskExecutor(address or None)
    raise InputError("executor", name, "must be local, dask or dask:ADDRESS")


class _ThisProcess:
    """What the executors of this process share: there is nothing to open or to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class LocalExecutor(_ThisProcess):
    """This process, one task after the other."""

    name = "local"

    def results(
        self, function: Callable[..., Any], jobs: Jobs, progress: Progress
    ) -> Iterator[tuple[int, Any]]:
        for index, job in jobs:
            yield index, function(job, functools.partial(progress, index))


class ThreadExecutor(_ThisProcess):
    """Threads of this process, `workers` jobs at a time.

    After an interruption or a failure it does not wait for the jobs that are running.
    """

    name = "threads"

    def __init__(self, workers: int):
        self.workers = workers

    def results(
        self, function: Callable[..., Any], jobs: Jobs, progress: Progress
    ) -> Iterator[tuple[int, Any]]:
        pool = ThreadPoolExecutor(max_workers=self.workers)
        try:
            running = {pool.submit(function, job): index for index, job in jobs}
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class DaskExecutor:
    """Workers of the dask scheduler at `address`, or (None) two processes of this machine.

    A task whose worker dies goes to another one. Raises `InputError` where dask is missing, the
    scheduler does not answer or goes away, a task has killed several workers, or no worker has
    been there for `WORKERLESS_SECONDS`.
    """

    def __init__(self, address: str | None):
        self.address = address
        self.name = f"dask:{address}" if address else "dask"
        self._cluster: Any = None
        self._client: Any = None
        self._loudness: dict[str, int] = {}  # levels of loggers

    def __enter__(self) -> Self:
        try:
            import distributed
        except ImportError:
            needs = "needs dask: pip install 'dynsim[cluster]'"
            raise InputError("executor", self.name, needs) from None
        for name in logging.root.manager.loggerDict:
            if name.partition(".")[0] == "distributed":
                logger = logging.getLogger(name)
                self._loudness[name] = logger.level
                logger.setLevel(SILENT)  # what matters is raised
        try:
            if self.address is None:
                self._cluster = _local_cluster()
            self._client = distributed.Client(
                self._cluster or self.address,
                timeout=CONNECT_SECONDS,
                set_as_default=False,  # xarray would take its locks from the cluster
            )
        except (OSError, ValueError) as error:
            self.__exit__()
            reason = str(error).split("\n")[0] or type(error).__name__
            raise InputError("executor", self.name, f"does not answer ({reason})") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        for connection in (self._client, self._cluster):
            if connection is not None:
                connection.close()
        for name, level in self._loudness.items():
            logging.getLogger(name).setLevel(level)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        jobs = [(0, (function, arguments))]
        ((_, result),) = self.results(_applied, jobs, lambda *_: None)
        return result

    def results(
        self, function: Callable[..., Any], jobs: Jobs, progress: Progress
    ) -> Iterator[tuple[int, Any]]:
        from distributed import as_completed

        waiting = iter(jobs)
        running: dict[str, int] = {}
        futures = as_completed(loop=self._client.loop)

        def submit(most: int) -> None:
            for index, job in itertools.islice(waiting, most):
                future = self._client.submit(function, job, pure=False)
                running[future.key] = index
                futures.add(future)

        submit(QUEUED_TASKS)
        while running:
            self._wait(futures)
            future = next(futures)
            yield running.pop(future.key), self._result(future)
            submit(1)

    def _wait(self, futures: Any) -> None:
        """Returns when a task has ended; raises `InputError` when no worker is left to end one."""
        seen = checked = time.monotonic()
        while not futures.has_ready():
            time.sleep(POLL_SECONDS)
            now = time.monotonic()
            if now - checked < 1:
                continue
            checked = now
            if self._workers():
                seen = now
            elif now - seen > WORKERLESS_SECONDS:
                text = f"has had no worker for {WORKERLESS_SECONDS:g} seconds"
                raise self._lost(text)

    def _workers(self) -> int:
        try:
            return len(self._client.nthreads())
        except OSError:
            raise self._lost("has lost its scheduler") from None

    def _result(self, future: Any) -> Any:
        from distributed import CancelledError, KilledWorker

        try:
            return future.result()
        except KilledWorker:
            text = "has lost several workers to one task (killed, or out of memory)"
            raise self._lost(text) from None
        except CancelledError:
            raise self._lost("has lost its scheduler") from None

    def _lost(self, what: str) -> InputError:
        return InputError("executor", self.name, f"{what}; {RESUMABLE}")


def _applied(job: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    function, arguments = job
    return function(*arguments)


def _local_cluster() -> Any:
    """Two worker processes with one task each at a time, silent, and no diagnostics server."""
    import dask.config
    from distributed import LocalCluster

    options: dict[str, Any] = {
        "n_workers": LOCAL_WORKERS,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": 0,  # tasks are planned to fit
        "dashboard_address": ":0",
        "silence_logs": SILENT,
        "env": {_PREALLOCATE: os.environ.get(_PREALLOCATE, "false")},  # they may share a GPU
    }
    # Threads of numerical libraries stay as they are without dask: last bits depend on them.
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
        return LocalCluster(**options)
