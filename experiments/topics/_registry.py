"""Finds every topic's studies and claims: a folder of `experiments/topics` is a topic.

Claims stand in `claims.py`, as code, and in claim files, as data: `claims.toml`, and those that are
measured with --full only in `claims_full.toml`. Those of a file share a study of their own, named
after topic and file.
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

from ._claim import Claim, written_claim
from ._claim_study import claim_study
from ._study import Study

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


def _studies() -> Iterator[Study]:
    for topic in TOPICS:
        module = part(topic, "study")
        yield from () if module is None else module.STUDIES
        for name, file in claim_files(topic).items():
            yield claim_study(name, file.claims, quick=CLAIM_FILES[file.path.stem])


def _claims() -> Iterator[Claim]:
    for topic in TOPICS:
        for name, file in claim_files(topic).items():
            yield from (written_claim(one, name) for one in file.claims)
        module = part(topic, "claims")
        yield from () if module is None else module.CLAIMS


STUDIES: dict[str, Study] = {study.name: study for study in _studies()}
CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _claims()}
