"""The explorer as one HTML file that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dynsim import TokenLaw
from experiments.output import json_text

from .facts import facts
from .fields import FIELDS, State
from .formulas import formulas
from .javascript import formulas_source

HERE = Path(__file__).parent
ASSETS, LIBRARY = HERE / "assets", HERE / "library"
SCRIPTS = ("laws", "theory", "counts", "state", "commands", "figures", "export", "page")


def page(state: State | None = None, law: TokenLaw | None = None) -> str:
    """The file's text: the views of `state` at first, and counts of a `law` to choose, if given."""
    given = State() if state is None else state
    libraries = library()
    versions = {"dynsim": version("dynsim")} | {one["name"]: one["version"] for one in libraries}
    constants = json_text(facts(given, law, versions)).replace("<", "\\u003c")
    scripts = [
        *((LIBRARY / one["file"]).read_text(encoding="utf-8") for one in libraries),
        f"const facts = {constants};",
        _formulas(),
        *((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
    ]
    parts = {
        "styles": (ASSETS / "page.css").read_text(encoding="utf-8"),
        "scripts": "\n".join(
            f"<script>\n{text.replace('</script', chr(60) + chr(92) + '/script')}\n</script>"
            for text in scripts
        ),
    }
    text = (ASSETS / "page.html").read_text(encoding="utf-8")
    for name, content in parts.items():
        text = text.replace(f"<!-- {name} -->", content)
    return text


def fragment(state: State) -> str:
    """What stands behind the # of the page's address at a state."""
    return urlencode({field.name: getattr(state, field.name) for field in FIELDS}, safe=":/")


def library() -> list[dict[str, Any]]:
    """The plotting library's files as they are listed, in the order in which they are needed.

    Raises `ValueError` for a file that is not the listed one.
    """
    listed = json.loads((LIBRARY / "library.json").read_text(encoding="utf-8"))
    for one in listed:
        digest = hashlib.sha256((LIBRARY / one["file"]).read_bytes()).hexdigest()
        if digest != one["sha256"]:
            raise ValueError(f"{one['file']} is not that of {one['name']} {one['version']}")
    return listed


@cache
def _formulas() -> str:
    return formulas_source(formulas())
