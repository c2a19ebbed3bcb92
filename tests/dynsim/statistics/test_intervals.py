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
)

ROOT = Path(__file__).parents[3]


def mean(sample, axis=-1):
    return np.mean(sample, axis=axis)


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
    if seeds > 3:  # the percentiles of three seeds end at the lowest and the highest
        percentile = bootstrap(mean, [sample])
        assert (percentile.high - percentile.low) / 2 == pytest.approx(half, rel=0.2)


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
