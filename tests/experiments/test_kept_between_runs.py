"""Compiled programs and derivations that are kept between commands: where, and when not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from derivations import _kept
from experiments import kept_between_runs
from experiments.kept_between_runs import (
    OF_DERIVATIONS,
    OF_JAX,
    VARIABLE,
    keep_compiled_programs,
    keep_derivations,
)


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in (*OF_JAX, VARIABLE, OF_DERIVATIONS, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("DYNSIM_CACHE", str(tmp_path))
    return monkeypatch


@pytest.mark.filterwarnings("ignore")
def test_programs_lie_in_the_cache_folder_unless_told_otherwise(environment, tmp_path):
    keep_compiled_programs()
    folder = Path(os.environ[OF_JAX[0]])
    assert folder.is_relative_to(tmp_path / "programs")
    environment.setenv(OF_JAX[0], "/elsewhere")
    keep_compiled_programs()
    assert os.environ[OF_JAX[0]] == "/elsewhere"
    environment.delenv(OF_JAX[0])
    for value in ("off", "OFF", str(tmp_path / "a file" / "below")):
        (tmp_path / "a file").touch()
        environment.setenv(VARIABLE, value)
        keep_compiled_programs()
        assert OF_JAX[0] not in os.environ


@pytest.mark.filterwarnings("ignore")
def test_the_oldest_make_room_and_other_files_stay(environment, tmp_path):
    environment.setenv(VARIABLE, str(tmp_path))
    environment.setattr(kept_between_runs, "MOST_BYTES", 40)
    for number in range(5):
        file = tmp_path / f"{number}-cache"
        file.write_bytes(bytes(10))
        os.utime(file, (number, number))
    (tmp_path / "notes").write_bytes(bytes(100))
    keep_compiled_programs()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["3-cache", "4-cache", "notes"]


def test_derivations_lie_in_the_cache_folder_unless_told_otherwise(environment, tmp_path):
    assert OF_DERIVATIONS == _kept.VARIABLE
    keep_derivations()
    assert os.environ[OF_DERIVATIONS] == str(tmp_path / "derivations")
    environment.setattr(kept_between_runs, "MOST_BYTES_OF_DERIVATIONS", 40)
    for number in range(5):
        (tmp_path / "derivations" / f"{number}{_kept.ENDING}").write_bytes(bytes(10))
    keep_derivations()
    assert len(list((tmp_path / "derivations").iterdir())) == 2
    (tmp_path / "a file").touch()
    for value in ("off", "OFF", str(tmp_path / "a file" / "below")):
        environment.setenv(OF_DERIVATIONS, value)
        keep_derivations()
        assert os.environ[OF_DERIVATIONS].lower() == "off"


@pytest.mark.slow
def test_a_second_command_reads_derivations(tmp_path):
    def run() -> str:
        environment = {**os.environ, OF_DERIVATIONS: str(tmp_path)}
        line = [sys.executable, "-m", "experiments.cli", "derive", "--layer", "head"]
        return subprocess.run(
            line, env=environment, capture_output=True, text=True, check=True
        ).stdout

    first = run()
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert kept
    assert run() == first
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == kept


@pytest.mark.slow
def test_a_second_command_reads_programs_and_damage_is_compiled_again(tmp_path):
    sizes = ("--width", "4", "--vocab-size", "4", "--steps", "1", "--seeds", "1")

    def run() -> list[float]:
        environment = {**os.environ, VARIABLE: str(tmp_path), "JAX_PLATFORMS": "cpu"}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        line = [sys.executable, "-m", "experiments.cli", "train", *sizes, "--json"]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
        # A bar, which a busy machine shows, is no complaint.
        assert not [line for line in done.stderr.splitlines() if line.strip() and "|" not in line]
        return json.loads(done.stdout)["loss"]

    first = run()
    kept = sorted(tmp_path.glob("*-cache"))
    assert kept
    for number, file in enumerate(kept):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0x10
        file.write_bytes(content if number % 2 else content[: len(content) // 3])
    assert run() == first
    assert sorted(tmp_path.glob("*-cache")) == kept
