"""Stored results say which code measured them, and where that code stands now.

After a topic's folder was renamed, `python -m tests.experiments.test_provenance` writes the new
place into the files of `experiments/data`; nothing else in them changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from experiments.results import STORED, code_version, load
from experiments.topics._parts import parts
from experiments.topics._registry import STUDIES

ROOT = Path(__file__).parents[2]
FILES = sorted(STORED.glob("*.nc"))
MEASURED_AT = re.compile(r"(commit [0-9a-f]{12}: |not found: .* commit [0-9a-f]{12}).*\.")
MOVED = re.compile(r"Measured by (\S+\.py); since 0\.2\.0 that code is (\S+\.py)\.")


def modules() -> Mapping[str, Path]:
    """The module of every study, by the study's name."""
    return {
        study.name: Path(str(module.__file__)).relative_to(ROOT)
        for module in parts("study")
        for study in module.STUDIES
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_stored_result_says_where_its_code_stands(file):
    attributes = load(file).attrs
    assert attributes["study"] == file.stem
    if attributes["code_version"] == code_version():
        return  # measured by the code as it stands
    assert MEASURED_AT.fullmatch(attributes["measured_at"]), attributes["measured_at"]
    if file.stem not in modules():
        return  # of claim files: what was measured is the sources at that commit
    if "moved" not in attributes:
        return  # measured after the code had moved
    found = MOVED.fullmatch(attributes["moved"])
    assert found, attributes["moved"]
    assert Path(found[2]) == modules()[file.stem]
    assert (ROOT / found[2]).is_file()


def test_every_study_that_is_stored_is_known():
    assert {file.stem for file in FILES} <= {*STUDIES, "replication"}


def write() -> None:
    """Brings the second half of every `moved` up to date."""
    import h5py

    for path in FILES:
        with h5py.File(path, "r+") as file:
            if found := MOVED.fullmatch(str(file.attrs.get("moved", ""))):
                now = modules()[path.stem].as_posix()
                text = f"Measured by {found[1]}; since 0.2.0 that code is {now}."
                if text != file.attrs["moved"]:
                    file.attrs["moved"] = text


if __name__ == "__main__":
    write()
