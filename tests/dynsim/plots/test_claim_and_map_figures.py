"""What figures of claims and of maps must show whatever the numbers are."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from dynsim import regime_map
from dynsim.plots._claims import SHOWN, verdicts
from dynsim.plots._maps import EDGE, _inline
from dynsim.plots._parts import log_ticks, plain_number


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_ticks_have_plain_numbers_below_a_million():
    assert [plain_number(one) for one in (0.05, 2.0, 5000.0, 20000.0, 5e5)] == [
        *("0.05", "2", "5000", "20000", "500000")
    ]
    _, axes = plt.subplots()
    axes.set(xscale="log", yscale="log", xlim=(1, 1e5), ylim=(300, 20000))
    assert not log_ticks(axes.xaxis)
    assert log_ticks(axes.xaxis, axes.yaxis)


def test_a_verdict_beyond_the_axis_has_an_arrow_and_so_has_a_bar():
    """Five rows: inside, a bar to the right, a value to the right, one to the left, none."""
    numbers = {
        "measured": [0.5, 0.6, 3.0, -2.0, np.nan],
        "measured_low": [0.4, 0.5, 2.9, -2.1, np.nan],
        "measured_high": [0.6, 1.9, 3.1, -1.9, np.nan],
        "predicted": [0.5] * 5,
        "tolerance": [0.1] * 5,
        "simulated": [np.nan] * 5,
    }
    verdict = ["holds", "undecided", "fails", "fails", "undecided"]
    dataset = xr.Dataset({name: ("claim", values) for name, values in numbers.items()})
    dataset = dataset.assign(verdict=("claim", verdict), expected=("claim", verdict))
    axes = verdicts(dataset.assign_coords(claim=list("abcde")))
    arrows = {
        (line.get_marker(), float(x), int(y))
        for line in axes.lines
        if line.get_marker() in ("<", ">")
        for x, y in np.asarray(line.get_xydata())
    }
    assert arrows == {(">", SHOWN, 1), (">", SHOWN, 2), ("<", -SHOWN, 3)}


def test_names_of_lines_stand_apart_and_off_the_edge():
    """Two lines that lie upon each other, close to the left edge at first."""
    _, axes = plt.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    line = np.stack([np.linspace(0.0, 0.5, 200), np.linspace(0, 1, 200)], axis=1)
    taken = np.empty((0, 2))
    for text in ("one", "two"):
        taken = np.vstack([taken, _inline(axes, line, text, 0.05, taken)])
    assert np.linalg.norm(taken[0] - taken[1]) > 0.1
    assert np.minimum(taken, 1 - taken).min() > 0.9 * EDGE


def test_the_title_of_a_map_raises_whole_powers():
    found = regime_map("local_exponent", "width=64:1024:3", "zipf=0:1:3", vocab_size="d^1.2")
    assert "$m=d^{1.2}$" in found.plot().get_title()
