"""Finds every topic's studies and claims: a folder of `experiments/topics` is a topic.

Claims stand in `claims.py`, as code, and in `claims.toml`, as data. Those of a file share a study
of their own, TOPIC_claims.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import experiments.topics
from dynsim.claims import claim_file

from ._claim import Claim, written_claim
from ._claim_study import claim_study
from ._study import Study

CLAIM_FILE = "claims.toml"

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


def written_claims(topic: str) -> Path | None:
    """The claim file of a topic; None if it has none."""
    (folder,) = import_module(f"{experiments.topics.__name__}.{topic}").__path__
    path = Path(folder) / CLAIM_FILE
    return path if path.is_file() else None


def _studies() -> Iterator[Study]:
    for topic in TOPICS:
        module, path = part(topic, "study"), written_claims(topic)
        yield from () if module is None else module.STUDIES
        if path is not None:
            yield claim_study(f"{topic}_claims", claim_file(path).claims)


def _claims() -> Iterator[Claim]:
    for topic in TOPICS:
        module, path = part(topic, "claims"), written_claims(topic)
        if path is not None:
            for one in claim_file(path).claims:
                yield written_claim(one, f"{topic}_claims")
        yield from () if module is None else module.CLAIMS


STUDIES: dict[str, Study] = {study.name: study for study in _studies()}
CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _claims()}
