"""The levels of resampling, what the intervals share, and how results print themselves."""

from __future__ import annotations

import ast
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from dynsim import Estimate, bootstrap, fit_exponent, fit_transfer
from dynsim.statistics import (
    Resampled,
    Resamples,
    SeedResamples,
    jackknife,
    optimum_interval,
    rate_exponent,
    rate_optimum,
    resamples_suffice,
)

ROOT = Path(__file__).parents[3]
REPETITIONS = 300


def mean(sample, axis=-1):
    return np.mean(sample, axis=axis)


def mean_of_cells(*samples, axis=-1):
    return np.mean([mean(sample, axis) for sample in samples], axis=0)


def test_the_levels_of_resampling():
    """Named once; the defaults of everything that resamples."""
    assert [int(level) for level in Resamples] == [2000, 500]
    defaults = {
        function.__name__: inspect.signature(function).parameters["resamples"].default
        for function in (bootstrap, fit_exponent, optimum_interval, rate_exponent, fit_transfer)
    }
    assert defaults.pop("fit_transfer") is Resamples.QUICK
    assert set(defaults.values()) == {Resamples.PRECISE}


def test_no_number_of_resamples_is_scattered():
    """A number of resamples in code is a level, or a named constant that says why it is not."""
    found = []
    for room in ("dynsim", "experiments"):
        for file in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg in ("resamples", "n_resamples"):
                    value = node.value
                    if isinstance(value, ast.Constant) and value.value not in (2,):
                        found.append((file.name, value.value))
    assert found == []  # 2 is of what needs the seeds left out, and no resamples


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_all_three_intervals_of_a_mean_are_students(seeds, random):
    """Up to the coarseness of percentiles of few seeds."""
    sample = 2 + 0.1 * random.normal(size=seeds)
    half = t.ppf(0.975, seeds - 1) * sample.std(ddof=1) / math.sqrt(seeds)
    exact = jackknife(mean, [sample])
    assert (exact.high - exact.low) / 2 == pytest.approx(half, rel=1e-9)
    choices = SeedResamples({"cell": seeds}, 4000)
    times = choices.times("cell")
    low, high = choices.of(times @ sample / times.sum(axis=1)).interval()
    assert (high - low) / 2 == pytest.approx(half, rel=0.2)
    found = bootstrap(mean, [sample])
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.2)


@pytest.mark.parametrize(("seeds", "cells"), [(2, 1), (2, 3), (3, 2), (4, 1), (3, 3), (8, 2)])
def test_an_interval_of_few_seeds_is_not_sharper_than_students(seeds, cells, random):
    """The mean of normal cells is covered in 95 % of repetitions, however few the seeds.

    Resamples lie between the lowest and the highest seed: where they do not suffice, their whole
    range covers too little.
    """
    covered, ranges = 0, 0
    for _ in range(REPETITIONS):
        samples = list(random.normal(size=(cells, seeds)))
        found = bootstrap(mean_of_cells, samples, resamples=Resamples.QUICK, vectorized=True)
        covered += found.low <= 0 <= found.high
        low, high = (np.mean([end(one) for one in samples]) for end in (np.min, np.max))
        ranges += low <= 0 <= high
    scatter = 3 * math.sqrt(0.05 * 0.95 / REPETITIONS)
    assert covered / REPETITIONS > 0.95 - scatter - 0.02
    if not resamples_suffice([seeds] * cells):
        assert ranges / REPETITIONS < 0.95


def test_rows_of_seeds():
    """The data, the resamples, and each seed of any sample left out once."""
    choices = SeedResamples({"a": 3, "b": 2}, 7)
    for name, seeds in (("a", 3), ("b", 2)):
        times = choices.times(name)
        assert times.shape == (1 + 7 + 5, seeds)
        assert np.array_equal(times[0], np.ones(seeds))
        assert np.array_equal(times[1:8].sum(axis=1), np.full(7, seeds))
        own = slice(8, 11) if name == "a" else slice(11, 13)
        assert np.array_equal(times[own], 1 - np.eye(seeds))
    other = SeedResamples({"c": 4, "a": 3}, 7)
    assert np.array_equal(other.times("a")[:8], choices.times("a")[:8])  # the name decides
    assert SeedResamples({"a": 3, "b": 1}, 7).times("a").shape == (1, 3)


def test_results_print_themselves():
    rates = 2.0 ** np.arange(-4, 5)
    optimum = rate_optimum(rates, 0.2 + 0.1 * np.log(rates) ** 2, initial_loss=1.0)
    exponent = fit_exponent([1.0, 2.0, 4.0], [np.array([1.0, 1.1])] * 3)
    resampled = Resampled(np.array(0.5), np.zeros(9), {"width 64": np.zeros(3)})
    assert repr(Estimate(0.5, 0.25, 1.0)) == "Estimate(0.5 [0.25, 1])"
    assert repr(Estimate(0.5, math.nan, math.nan)) == "Estimate(0.5)"
    for result, words in (
        (optimum, ("Optimum", "near-optimal [", "ok")),
        (exponent, ("ExponentFit", "exponent: ", "drift: ")),
        (resampled, ("Resampled", "width 64 3")),
    ):
        text = repr(result)
        for word in words:
            assert word in text, text
        assert "array(" not in text
        assert "\n  " in text
