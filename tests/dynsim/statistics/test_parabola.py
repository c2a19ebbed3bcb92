"""Every route to the vertex of a parabola, on losses that are one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dynsim.statistics import fitted_parabola, fitted_vertex, parabola_minimum, parabola_vertex
from dynsim.statistics._parabola import lowest_between, quadratic_form_minimum

LOGS = np.log(2.0) * np.arange(-6, 7) / 2
PLACE, LOWEST, CURVATURE = 0.23, -0.9, 0.08
LOSS = LOWEST + CURVATURE / 2 * (LOGS - PLACE) ** 2  # relative to the initial loss


def test_all_routes_agree_on_an_exact_parabola():
    expected = pytest.approx((PLACE, LOWEST), rel=1e-12)
    assert parabola_vertex(LOGS, LOSS) == expected
    assert fitted_vertex(LOGS, LOSS) == expected
    assert parabola_minimum(LOGS, LOSS) == parabola_vertex(LOGS, LOSS)[0]
    weight = 1 + np.arange(len(LOGS)) % 3
    assert fitted_parabola(LOGS, LOSS, weight) == pytest.approx((PLACE, LOWEST, CURVATURE))
    assert lowest_between(LOSS, float(LOSS.min()), math.inf) == pytest.approx(LOWEST, rel=1e-12)
    # the form's ridge of 1e-9 on its normal equations is all that is left
    assert quadratic_form_minimum([LOGS], LOSS) == pytest.approx([PLACE], rel=1e-6)


def test_the_weighted_fit_is_that_of_numpy(random):
    """An independent route: numpy's polynomial fit, with the same weights."""
    loss = LOSS + 0.01 * random.normal(size=LOSS.shape)
    weight = random.uniform(0.5, 2, LOSS.shape)
    curvature, slope, height = np.polyfit(LOGS, loss, 2, w=weight)
    place, lowest, bend = fitted_parabola(LOGS, loss, weight)
    assert (place, bend) == pytest.approx((-slope / (2 * curvature), 2 * curvature))
    assert lowest == pytest.approx(height - slope**2 / (4 * curvature))
    unweighted = np.polyfit(LOGS, loss, 2)[0]
    assert bend != pytest.approx(2 * unweighted, rel=1e-6)  # the weights matter


def test_leading_axes_are_fits_of_their_own(random):
    losses = LOSS + 0.01 * random.normal(size=(4, 3, len(LOSS)))
    together = np.array(fitted_parabola(LOGS, losses))
    assert together.shape == (3, 4, 3)
    assert together[:, 1, 2] == pytest.approx(fitted_parabola(LOGS, losses[1, 2]), rel=1e-12)
    losses[0] = LOGS  # lowest at the grid's end
    moved = LOGS + np.arange(4).reshape(4, 1, 1)  # a grid for each row
    place, lowest = parabola_vertex(moved, losses)
    assert np.isnan(place[0]).all()
    at = int(np.argmin(losses[2, 1]))
    near = slice(at - 1, at + 2)
    expected = fitted_vertex(LOGS[near], losses[2, 1, near])  # by least squares
    assert (place[2, 1] - 2, lowest[2, 1]) == pytest.approx(expected, rel=1e-9)


def test_where_there_is_no_minimum():
    assert np.isnan(fitted_vertex(LOGS, -LOSS)).all()
    assert np.isnan(parabola_vertex(LOGS, LOGS)).all()  # the lowest loss is at the grid's end
    assert np.isnan(parabola_vertex(LOGS, np.full_like(LOGS, np.nan))).all()
    gap = LOSS.copy()
    gap[np.argmin(LOSS) + 1] = np.nan
    assert np.isnan(parabola_vertex(LOGS, gap)).all()
    wall = np.array([1.0, 0.0, 1.0])  # its second difference is 2
    assert lowest_between(wall, 0.0, 1.0) == 0.0
    assert lowest_between(np.array([1.0, 0.0, 0.5]), 0.0, 3.0) < 0


def test_asymmetry_moves_the_three_points_least():
    """What the page on statistics says of them: a cubic term, and no noise."""
    skewed = LOSS + 0.006 * (LOGS - PLACE) ** 3
    near = np.abs(LOGS - PLACE) < 1.2
    three, all_points = parabola_vertex(LOGS, skewed), fitted_vertex(LOGS[near], skewed[near])
    assert abs(three[0] - PLACE) < abs(all_points[0] - PLACE)
