"""What was kept when a command is interrupted, said only where something was.

Work that keeps its finished parts says so by `keeping`. The line of an interrupted command is asked
for by the main thread or, where that does not come to an end, by the one that watches it. Imports
nothing heavy: the entry of the command line does so first of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # exit code

_kept: list[Callable[[], str]] = []


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Within this context and after a failure in it, `kept` says what is kept; "" for nothing.

    The last that says something is told. Work that ends well is not spoken of.
    """
    _kept.append(kept)
    yield
    _kept.remove(kept)


def kept(text: Callable[[], str]) -> None:
    """What `text` says is kept, until the process ends."""
    _kept.append(text)


def forget() -> None:
    """As at the start of a process."""
    _kept.clear()


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
