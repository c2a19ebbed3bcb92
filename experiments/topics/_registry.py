"""Finds every topic's studies and claims: a folder of `experiments/topics` is a topic.

Claims stand in `claims.py`, as code, and in claim files, as data. Those of a file share a study of
their own, named after topic and file.
"""

from __future__ import annotations

from collections.abc import Iterator

from ._claim import Claim, written_claim
from ._claim_study import claim_study
from ._parts import CLAIM_FILES, TOPICS, claim_files, part
from ._study import Study


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
