"""Every benchmark imports, so that none is left behind by the code that it times."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(
    file.stem for file in (ROOT / "benchmarks").glob("*.py") if file.stem != "__init__"
)


def test_there_are_benchmarks():
    assert "verify_default" in BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_imports(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_verify_default_samples_cells_of_a_study(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    assert importlib.import_module("benchmarks.verify_default").cells()
