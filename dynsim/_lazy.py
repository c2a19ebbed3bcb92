"""Public names that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazy_loader


def attach(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from the stub beside its file.

    What goes wrong while a name is imported is shown as it is. An `AttributeError` there, which
    Python would take for a name that does not exist, becomes an `ImportError` that says so.
    """
    find, names, everything = lazy_loader.attach_stub(package, file)

    def found(name: str) -> Any:
        try:
            return find(name)
        except AttributeError as error:
            if name not in everything:
                raise
            message = f"{package}.{name} cannot be imported: {error}"
            raise ImportError(message, name=package) from error

    return found, names, everything
