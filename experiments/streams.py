"""What the command prints on: readers that go, full disks, characters that steer a terminal.

A closed pipe (`dynsim ... | head`) takes no more, and the command ends as it would have. A full
disk is one error. Control characters and marks that turn the direction of writing, which names in
a user's files may hold, are written escaped, as JSON escapes them.
"""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any

UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


class OutputLost(OSError):
    """What the command prints cannot be written."""


def printable(text: str) -> str:
    """The text without characters that steer a terminal; they are escaped as in JSON."""
    return UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[k : k + 2].hex()}" for k in range(0, len(units), 2))


class _File(io.FileIO):
    """A file that takes everything once its reader has gone; other failures are raised once."""

    def __init__(self, descriptor: int, silent: bool):
        super().__init__(descriptor, "wb", closefd=False)
        self.silent, self.lost = silent, False

    def write(self, data: Any, /) -> int:
        if not self.lost:
            try:
                return super().write(data)
            except OSError as error:
                self.lost = True
                if not (self.silent or isinstance(error, BrokenPipeError)):
                    raise OutputLost(error.errno, error.strerror) from None
        return len(memoryview(data).cast("B"))


class Printed(io.TextIOWrapper):
    """A text stream; with `safe`, characters that steer a terminal are escaped."""

    safe = False

    def write(self, text: str, /) -> int:
        super().write(printable(text) if self.safe else text)
        return len(text)


def own_streams() -> None:
    """Gives this process streams that do as the module says.

    Names of files may hold bytes that are no UTF-8; they are printed escaped.
    """
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        present = getattr(sys, name)
        if present is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(present, io.TextIOWrapper):
            present.flush()
            buffer = io.BufferedWriter(_File(descriptor, silent=name == "stderr"))
            direct = name == "stderr" or present.line_buffering
            encoding = present.encoding
            setattr(sys, name, Printed(buffer, encoding, "backslashreplace", line_buffering=direct))


def only_safe_characters() -> None:
    """From now on the output holds no characters that steer a terminal (help texts may)."""
    if isinstance(sys.stdout, Printed):
        sys.stdout.safe = True
