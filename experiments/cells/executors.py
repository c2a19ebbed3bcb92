"""Where cells are computed: in this process, in threads of it, or on workers of a dask cluster.

An executor is a context manager with two methods. `call` runs one function to its end. `results`
yields (index, result) of a function of each job, in any order; some executors call the function
with a second argument, to which it may report the share that it has finished. For dask, functions
are module-level and take and return plain data.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from typing import Any, Protocol, Self

from dynsim import InputError
from dynsim._errors import shown

from .store import RESUMABLE

LOCAL_WORKERS = 2
LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 10
RETRIES = 2  # of a task that fails on its worker
MOST_FAILED = 3  # tasks, after which the others are not begun
WORKERLESS_SECONDS = 600.0
POLL_SECONDS = 0.01
QUEUED_TASKS = 256
SILENT = logging.CRITICAL + 1
_PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"

Jobs = Iterable[tuple[int, Any]]
Progress = Callable[[int, float], object]  # of a job: the share finished since the last call


class Executor(Protocol):
    name: str
    longest_first: bool  # whether jobs are better given so: several are done at a time

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


def _keep_few_programs() -> None:
    """Between cells, each of which may compile programs of its own."""
    if "jax" not in sys.modules:  # nor is it imported for this
        return
    from dynsim._programs import many_mappings, release_programs

    if many_mappings():
        release_programs()


class _ThisProcess:
    """What the executors of this process share: there is nothing to open or to close."""

    longest_first = False

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
            _keep_few_programs()


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
                _keep_few_programs()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class DaskExecutor:
    """Workers of the dask scheduler at `address`, or (None) two processes of this machine.

    A task whose worker dies goes to another one, and one that fails is tried again `RETRIES` times.
    The others go on, until `MOST_FAILED` have failed. Raises `InputError` where dask is missing,
    the scheduler does not answer or goes away, tasks have failed (it names them), or no worker has
    been there for `WORKERLESS_SECONDS`.
    """

    longest_first = True

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
            self._client = self._connected(distributed.Client)
        except TypeError as error:  # of dask's, for tls:// without certificates
            self.__exit__()
            if "TLS" not in str(error):
                raise
            needs = "needs certificates: distributed.comm.tls in dask's configuration"
            raise InputError("executor", self.name, needs) from None
        except (OSError, ValueError) as error:
            self.__exit__()
            reason = str(error).split("\n")[0] or type(error).__name__
            raise InputError("executor", self.name, f"does not answer ({reason})") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connected(self, client: Callable[..., Any]) -> Any:
        """A client of the scheduler. Raises `OSError` after `CONNECT_SECONDS` without an answer.

        What is no scheduler may take the connection and never say a word, which dask waits for
        without end. So a thread waits.
        """
        waiting: Future[Any] = Future()

        def connect() -> None:
            try:
                waiting.set_result(
                    client(
                        self._cluster or self.address,
                        timeout=CONNECT_SECONDS,
                        set_as_default=False,  # xarray would take its locks from the cluster
                    )
                )
            except BaseException as error:
                waiting.set_exception(error)

        if self._cluster is not None:
            connect()
        else:
            threading.Thread(target=connect, daemon=True).start()
        try:
            return waiting.result(timeout=2 * CONNECT_SECONDS)
        except TimeoutError:
            raise OSError(f"nothing for {2 * CONNECT_SECONDS:g} seconds") from None

    def __exit__(self, *failure: object) -> None:
        for connection in (self._client, self._cluster):
            if connection is not None:
                with contextlib.suppress(TimeoutError):  # on a busy machine; they end with this one
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
        running: dict[str, tuple[int, Any]] = {}
        failed: list[str] = []
        futures = as_completed(loop=self._client.loop)

        def submit(most: int) -> None:
            for index, job in itertools.islice(waiting, most):
                future = self._client.submit(function, job, pure=False, retries=RETRIES)
                running[future.key] = index, job
                futures.add(future)

        submit(QUEUED_TASKS)
        while running:
            self._wait(futures)
            future = next(futures)
            index, job = running.pop(future.key)
            try:
                result = self._result(future)
            except _TaskFailed as error:
                failed.append(f"{_named(index, job)}: {error}")
                if error.fatal or len(failed) == MOST_FAILED:
                    break
            else:
                yield index, result
            submit(1)
        if failed:
            raise self._lost(f"could not finish {'; '.join(failed)}")

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
            text = "several workers were lost to it, killed or out of memory"
            raise _TaskFailed(text, fatal=True) from None
        except CancelledError:
            raise self._lost("has lost its scheduler") from None
        except InputError:
            raise
        except Exception as error:
            raise _TaskFailed(shown(f"{type(error).__name__}: {error}")) from None

    def _lost(self, what: str) -> InputError:
        return InputError("executor", self.name, f"{what}; {RESUMABLE}")


class _TaskFailed(Exception):
    """A task has failed for good; the message says how. A fatal one harms the cluster."""

    def __init__(self, text: str, fatal: bool = False):
        super().__init__(text)
        self.fatal = fatal


def _named(index: int, job: Any) -> str:
    """A task in words."""
    setup = job.get("setup", {}) if isinstance(job, dict) else {}
    sizes = ", ".join(f"{n} {setup[n]}" for n in ("width", "vocab_size") if n in setup)
    return f"task {index}" + (f" of {sizes}" if sizes else "")


def _applied(job: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    function, arguments = job
    return function(*arguments)


def _local_cluster() -> Any:
    """Two worker processes with one task each at a time, silent, without a dashboard.

    All of it listens on this machine alone. A scheduler runs the code of whoever reaches it, so
    that other users of the machine are kept out by certificates, where cryptography is installed.
    """
    import dask.config
    from distributed import LocalCluster

    options: dict[str, Any] = {
        "n_workers": LOCAL_WORKERS,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": 0,  # tasks are planned to fit
        "host": LOOPBACK,
        "dashboard_address": f"{LOOPBACK}:0",
        "silence_logs": SILENT,
        "env": {_PREALLOCATE: os.environ.get(_PREALLOCATE, "false")},  # they may share a GPU
    }
    if find_spec("cryptography") is not None:
        from distributed.security import Security

        options["security"] = Security.temporary()
    settings = {
        # Threads of numerical libraries stay as they are without dask: last bits depend on them.
        "distributed.nanny.pre-spawn-environ": {},
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(settings):
        return LocalCluster(**options)
