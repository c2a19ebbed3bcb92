"""How the command `dynsim` ends: exit codes and signals. Nothing heavy is imported.

- 0: done. 1: a claim fails. 2: bad input, or a file or an output that cannot be read or written.
- 130: interrupted (SIGINT or SIGTERM). 70: a mistake of dynsim itself.

An interruption may come while a library is imported. As an exception it would be lost where it
falls into a callback of JAX or of the garbage collector, and to unwind what JAX's threads still
work on can crash. So the handler itself ends the process. It waits as long as XLA compiles: a
thread of its own learns of every signal, and ends the process where the main thread has not done so
within `GRACE` seconds. Files are written in one move, so what was finished by then is whole.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from .interruption import INTERRUPTED, clear, interrupted_line, tidy

GRACE = 0.5  # seconds
CRASHED = 70
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_came = threading.Event()
_leaving = threading.Lock()
_unraisable = sys.unraisablehook


def run_command(command: Callable[[], int]) -> int:
    """Runs the command of this process and returns its exit code."""
    watch_signals()
    sys.warnoptions.append("ignore:resource_tracker")  # of processes whose parent was interrupted
    try:
        code = command()
    except SystemExit as stop:  # --help
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:
        if not (_came.is_set() or isinstance(error, KeyboardInterrupt)):
            _report(error)
            return CRASHED
        code = INTERRUPTED
    if _came.is_set() or code == INTERRUPTED:
        leave()
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)  # all is done
    return code


def watch_signals() -> None:
    """From now on SIGINT and SIGTERM end the process."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    sys.unraisablehook = _told_unless_interrupted
    for one in SIGNALS:
        signal.signal(one, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)  # a second one would wait for what it interrupts
    leave()


def _told_unless_interrupted(what: sys.UnraisableHookArgs) -> None:
    if not _came.is_set():  # else an interruption has fallen into a callback
        _unraisable(what)


def _watch(reading: int) -> None:
    while os.read(reading, 1)[0] not in SIGNALS:
        pass
    time.sleep(GRACE)
    leave()


def leave() -> None:
    """Says that the command was interrupted, and ends this process and those that it started.

    To leave in order what was interrupted can take for ever or end in a crash.
    """
    _came.set()
    if not _leaving.acquire(blocking=False):
        time.sleep(GRACE)  # another thread does so
        os._exit(INTERRUPTED)
    try:
        os.write(2, f"{clear()}dynsim: error: {interrupted_line()}\n".encode())
        if "multiprocessing" in sys.modules:
            import multiprocessing

            for child in multiprocessing.active_children():
                child.kill()
        if threading.current_thread() is threading.main_thread():
            tidy()  # else work goes on, which may use what is removed
    finally:
        os._exit(INTERRUPTED)


def _report(error: BaseException) -> None:
    import traceback

    with contextlib.suppress(OSError):
        traceback.print_exception(error)
        text = "a mistake of dynsim, not of yours: please report it with the lines above"
        print(f"dynsim: error: {text}", file=sys.stderr)
