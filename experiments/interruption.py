"""What was kept when a command is interrupted, said only where something was.

Work that keeps its finished parts says so by `keeping`, and what it leaves is tidied. The line of
an interrupted command is asked for by the main thread or, where that is not reached, by the one
that watches it. Imports nothing heavy: the entry of the command line does so first of all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # exit code

_kept: list[Callable[[], str]] = []
_untidy: list[Callable[[], object]] = []
_bar = threading.Event()  # one stands on stderr


@contextmanager
def keeping(kept: Callable[[], str], tidy: Callable[[], object]) -> Iterator[None]:
    """Within this context and after a failure in it, `kept` says what is kept; "" for nothing.

    The last that says something is told. Work that ends well is not spoken of. `tidy` removes what
    nobody needs once the work is interrupted.
    """
    _kept.append(kept)
    _untidy.append(tidy)
    try:
        yield
    finally:
        _untidy.remove(tidy)
    _kept.remove(kept)


def kept(text: Callable[[], str]) -> None:
    """What `text` says is kept, until the process ends."""
    _kept.append(text)


def forget() -> None:
    """As at the start of a process."""
    _kept.clear()
    _untidy.clear()


def bar_stands(stands: bool) -> None:
    """Says whether a progress bar stands on the last line of stderr."""
    if stands:
        _bar.set()
    else:
        _bar.clear()


def tidy() -> None:
    """Removes what interrupted work leaves that nobody needs: half files, stores without cells."""
    unfinished = getattr(sys.modules.get("dynsim._files"), "UNFINISHED", ())
    for action in (*reversed(_untidy), *(file.unlink for file in tuple(unfinished))):
        with contextlib.suppress(Exception):
            action()


def clear() -> str:
    """What to write so that the next line on stderr stands on its own."""
    if os.isatty(2):
        return "\r\x1b[K"
    return "\n" if _bar.is_set() else ""


def interrupted_line() -> str:
    """The one line of an interrupted command, in which options are written as flags."""
    for text in reversed(_kept):
        try:
            found = text()
        except Exception:  # of a folder that cannot be read, say
            continue
        if found:
            return f"interrupted; {found.replace('`resume`', '--resume')}"
    return "interrupted"
