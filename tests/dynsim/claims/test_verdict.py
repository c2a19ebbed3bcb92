"""The rule of the verdict: the band, the interval, and local slopes that run away."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from dynsim import Estimate
from dynsim.claims import Evidence, judged
from dynsim.claims._verdict import seeds_enough
from dynsim.statistics import fit_exponent


@pytest.mark.parametrize(
    ("interval", "simulated", "verdict"),
    [
        ((0.95, 1.0, 1.05), 1.0, "holds"),
        ((0.9, 1.0, 1.1), 0.91, "holds"),  # the band's ends belong to it
        ((0.95, 1.0, 1.05), 1.2, "undecided"),  # the simulated value lies outside
        ((0.85, 1.0, 1.05), 1.0, "undecided"),  # the interval sticks out below
        ((0.95, 1.0, 1.15), 1.0, "undecided"),  # and above
        ((0.5, 1.0, 1.5), 1.0, "undecided"),  # too noisy to say
        ((1.05, 1.2, 1.3), 1.0, "undecided"),  # overlap
        ((1.1, 1.2, 1.3), 1.0, "undecided"),  # touching
        ((1.11, 1.2, 1.3), 1.0, "fails"),
        ((0.7, 0.8, 0.89), 1.0, "fails"),
        ((0.7, 0.8, 0.89), 5.0, "fails"),  # whatever the simulation says
        ((nan, nan, nan), 1.0, "undecided"),  # no measurement proves nothing
        ((1.0, 1.0, 1.0), 1.0, "undecided"),  # and one without an interval neither
        ((5.0, 5.0, 5.0), 1.0, "undecided"),
        ((0.95, 1.0, 1.05), nan, "undecided"),
        ((0.95, 1.0, 1.05), None, "holds"),  # nothing to simulate
    ],
)
def test_interval_and_band(interval, simulated, verdict):
    low, value, high = interval
    evidence = Evidence(predicted=1.0, simulated=simulated, measured=Estimate(value, low, high))
    assert judged(evidence, 0.1) == verdict


@pytest.mark.parametrize(
    ("drift", "last", "verdict"),
    [
        (0.05, (1.0, 1.1, 1.2), "holds"),  # the end of the band belongs to it
        (0.09, (1.02, 1.09, 1.2), "holds"),  # in the band
        (0.09, (0.99, 1.3, 1.6), "holds"),  # so noisy that it may be the prediction
        (0.09, (1.05, 1.15, 1.2), "undecided"),  # outside, though its interval meets the band
        (0.09, (0.8, 0.85, 0.95), "undecided"),
        (0.11, (0.9, 1.0, 1.2), "undecided"),  # without the smallest size it lies outside
        (-0.11, (0.9, 1.0, 1.1), "undecided"),
        (nan, (1.0, 1.1, 1.2), "holds"),
        (0.05, (-inf, 1.5, inf), "holds"),  # noise does not contradict
        (0.05, (nan, nan, nan), "undecided"),
        (inf, (1.0, 1.1, 1.2), "undecided"),
    ],
)
def test_local_slopes_that_leave_the_band_are_undecided(drift, last, verdict):
    low, value, high = last
    evidence = Evidence(
        predicted=1.0,
        simulated=None,
        measured=Estimate(1.0, 0.98, 1.02),
        drift=drift,
        last=Estimate(value, low, high),
    )
    assert judged(evidence, 0.1) == verdict


def test_local_slopes_do_not_save_a_claim():
    evidence = Evidence(
        predicted=1.0,
        simulated=1.0,
        measured=Estimate(0.5, 0.4, 0.6),
        drift=0.5,
        last=Estimate(1.0, 0.9, 1.1),
    )
    assert judged(evidence, 0.1) == "fails"


def test_a_curve_that_bends_is_no_power_law(random):
    """y = d^(1/2) + d/16: the fit is 0.71, and local slopes rise from 0.63 to 0.79."""
    widths = np.array([16, 64, 256, 1024])

    def evidence(values):
        samples = [value * random.lognormal(0, 0.02, 16) for value in values]
        return Evidence.of_fit(fit_exponent(widths, samples), predicted=0.71, simulated=None)

    bent, straight = evidence(widths**0.5 + widths / 16), evidence(widths**0.71)
    assert judged(bent, 0.06) == "undecided"
    alone = Evidence(predicted=0.71, simulated=None, measured=bent.measured)
    assert judged(alone, 0.06) == "holds"  # what the fit alone says
    assert judged(straight, 0.06) == "holds"


@pytest.mark.parametrize("predicted", [0.5, 1.0])
def test_two_sizes_decide_no_exponent(predicted, random):
    """Neither for nor against: one slope says nothing of a power law."""
    verdicts = {}
    for sizes in ([16, 64], [16, 32, 64]):
        samples = [size**0.5 * random.lognormal(0, 0.01, 16) for size in sizes]
        fit = fit_exponent(sizes, samples)
        evidence = Evidence.of_fit(fit, predicted=predicted, simulated=None)
        verdicts[len(sizes)] = judged(evidence, 0.1)
    assert verdicts == {2: "undecided", 3: "holds" if predicted == 0.5 else "fails"}


def test_a_ratio_is_held_to_its_value_without_the_smallest_size(random):
    """1.1, 0.9 and 0.9 have the geometric mean 0.96, and 0.9 without the first."""
    samples = [value * random.lognormal(0, 0.001, 16) for value in (1.1, 0.9, 0.9)]

    def log_ratios(*cells, axis=-1):
        return np.log([np.mean(cell, axis=axis) for cell in cells])

    steady, drifting, one = (
        Evidence.of_ratio(log_ratios, samples, sizes) for sizes in ([1, 1, 2], [1, 2, 2], [1, 1, 1])
    )
    mean = (1.1 * 0.9 * 0.9) ** (1 / 3)
    assert steady.measured.value == pytest.approx(mean, rel=1e-3)
    assert drifting.measured.value + drifting.drift == pytest.approx(0.9, rel=1e-3)
    assert np.isnan(one.drift)
    assert [judged(evidence, 0.08) for evidence in (one, drifting)] == ["holds", "undecided"]
    assert judged(replace(drifting, drift=nan), 0.08) == "holds"


@pytest.mark.parametrize(
    ("ends", "seeds"),
    [
        ((0.46, 0.58), 32),  # half widths of 0.06 where 0.03 is room: four times as many
        ((0.5, 0.54), None),  # inside already
        ((0.55, 0.55), None),
    ],
)
def test_seeds_that_would_be_enough(ends, seeds):
    evidence = Evidence(predicted=0.5, simulated=None, measured=Estimate(0.52, *ends))
    assert seeds_enough(evidence, 0.05, 8) == seeds
    outside = replace(evidence, measured=Estimate(0.56, 0.5, 0.62))
    assert seeds_enough(outside, 0.05, 8) is None
