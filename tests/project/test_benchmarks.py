"""Every benchmark imports, so that none is left behind by the code that it times."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(
    file.stem for file in (ROOT / "benchmarks").glob("*.py") if not file.stem.startswith("_")
)


def test_there_are_benchmarks():
    assert "verify_default" in BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_imports(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_pieces_of_a_step_are_all_its_matrix_products(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    pieces = importlib.import_module("benchmarks._step_pieces")
    throughput = importlib.import_module("benchmarks.laboratory_throughput")
    for setup in throughput.SIZES:
        counted = sum(
            2 * one.rows * one.inner * one.columns * one.together * times
            for one, times in pieces.products(setup).items()
        )
        # From the number of weights, which has norm gains among them.
        expected = throughput.operations(setup, pieces.evaluated_tokens(setup))
        assert counted == pytest.approx(expected, rel=0.03)


def test_verify_default_samples_cells_of_a_study(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    assert importlib.import_module("benchmarks.verify_default").cells()


def test_the_model_of_a_cluster_has_its_known_limits(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    makespan = importlib.import_module("benchmarks.sweep_workers").makespan
    assert makespan([1.0] * 10, 1, 0.5) == pytest.approx(15)  # one worker waits for each
    assert makespan([1.0] * 10, 3, 0.0) == pytest.approx(4)  # rounds of three
    assert makespan([1.0] * 100, 1000, 0.1) == pytest.approx(11)  # the last is handed out at 10
    assert makespan([8.0, 1.0, 1.0, 1.0], 2, 0.0) == pytest.approx(8)  # no more than the longest
