"""Finds every topic's studies and claims: a folder of `experiments/topics` is a topic."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import experiments.topics

from ._claim import Claim
from ._study import Study

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


STUDIES: dict[str, Study] = {
    study.name: study for module in parts("study") for study in module.STUDIES
}
CLAIMS: dict[str, Claim] = {
    claim.name: claim for module in parts("claims") for claim in module.CLAIMS
}
