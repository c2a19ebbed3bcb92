"""The runtime checker of annotated array shapes, which `conftest.py` installs."""

from __future__ import annotations

from pathlib import Path

from beartype import BeartypeConf, beartype

ROOT = Path(__file__).parents[1]

# The modules that annotate array shapes. All their annotations are checked, at every call.
CHECKED = tuple(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "dynsim").rglob("*.py"))
    if "from jaxtyping import" in file.read_text(encoding="utf-8")
)

# An int where a float is annotated is right, as type checkers have it.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
