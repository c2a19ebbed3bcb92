"""What every topic's folder holds: its modules by name, and its claim files.

Claims that stand in claim files, as data, are in `claims.toml`, and those that are measured with
--full only in `claims_full.toml`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import experiments.topics
from dynsim.claims import ClaimFile, claim_file

CLAIM_FILES = {"claims": True, "claims_full": False}  # whether there is a quick version

TOPICS: tuple[str, ...] = tuple(
    module.name for module in pkgutil.iter_modules(experiments.topics.__path__) if module.ispkg
)


def part(topic: str, name: str) -> ModuleType | None:
    """The module `name` of a topic: study, estimators, claims or figures; None if it has none."""
    folder = import_module(f"{experiments.topics.__name__}.{topic}")
    if name not in {module.name for module in pkgutil.iter_modules(folder.__path__)}:
        return None
    return import_module(f"{folder.__name__}.{name}")


def parts(name: str) -> Iterator[ModuleType]:
    """The module `name` of every topic that has one."""
    yield from (module for topic in TOPICS if (module := part(topic, name)) is not None)


@cache
def claim_files(topic: str) -> Mapping[str, ClaimFile]:
    """The claim files of a topic, by the study of their claims."""
    (folder,) = import_module(f"{experiments.topics.__name__}.{topic}").__path__
    paths = (Path(folder) / f"{name}.toml" for name in CLAIM_FILES)
    return {f"{topic}_{path.stem}": claim_file(path) for path in paths if path.is_file()}
