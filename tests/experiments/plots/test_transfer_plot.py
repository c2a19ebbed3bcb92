"""The figure of transfer: its panels, names, marks and ticks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from transfer_runs import WIDTHS, fitted

from dynsim.transfer import asymptotic_penalties
from experiments.plots.transfer import _rate_ticks, transfer_metrics


@pytest.fixture(scope="module")
def three_fits():
    """A group like any other, one whose optimum rests, one without a joint fit."""
    return [
        fitted(noise=0.002, seeds=3),
        fitted(noise=0.002, seeds=3, rate_amplitude=0.0),
        fitted(noise=0.002, seeds=3, widths=WIDTHS[:2]),
    ]


@pytest.mark.parametrize(
    ("groups", "panels"), [(1, 4), (2, 2 + 4), (5, 5 + 4), (8, 8 + 4), (30, 8 + 4)]
)
def test_a_figure_has_no_empty_panels_and_names_at_most_eight_groups(three_fits, groups, panels):
    fits = (three_fits * groups)[:groups]
    _, penalties = asymptotic_penalties(fits)
    figure = transfer_metrics([f"group {k}" for k in range(groups)], fits, penalties)
    colour_bars = [axes for axes in figure.axes if "R_" in axes.get_ylabel()]
    assert len(colour_bars) == (groups > 1)
    drawn = [axes for axes in figure.axes if axes.axison and axes not in colour_bars]
    assert len(drawn) == panels
    assert all(axes.get_ylabel() and axes.get_xlabel() and axes.has_data() for axes in drawn)
    assert not any(axes.texts for axes in drawn)
    without = {1: 0, 2: 1, 5: 3, 8: 5, 30: 20}[groups]
    said = f"without $\\kappa$, not shown: {without}" if without else ""
    assert drawn[-1].get_title() == said
    legends = [legend for part in (figure, *figure.subfigs) for legend in part.legends]
    named = [[text.get_text() for text in legend.get_texts()] for legend in legends]
    assert ["64", "128", "256", "512", "1024"] in named
    assert [names for names in named if "group 0" in names] == {
        1: [],
        30: [[*(f"group {k}" for k in range(8)), "others (22), in the last panel only"]],
    }.get(groups, [[f"group {k}" for k in range(groups)]])
    titles = [axes.get_title() for axes in drawn[: min(groups, 8)]]
    kappa = three_fits[0].robustness.value
    assert f"\\kappa={kappa:.2f}" in titles[0]
    for title, said in zip(titles[1:], ("undetermined", "no joint fit"), strict=False):
        assert said in title
    figure.canvas.draw()
    plt.close(figure)


def test_a_figure_without_any_kappa_says_so(three_fits):
    fits = three_fits[1:]
    _, penalties = asymptotic_penalties(fits)
    figure = transfer_metrics(["rests", "short"], fits, penalties)
    (said,) = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said == r"no $\kappa$ is determined"
    plt.close(figure)


def test_misfits_are_open_markers(three_fits):
    fits = [three_fits[0], fitted(noise=0.001, seeds=4, skew=0.3)]
    _, penalties = asymptotic_penalties(fits)
    figure = transfer_metrics(["right", "skewed"], fits, penalties)
    (plane,) = [axes for axes in figure.axes if "kappa=" in axes.get_ylabel()]
    assert plane.get_title() == "open diamonds: misfits"
    points = [one for one in plane.collections if hasattr(one, "get_sizes")]
    assert [len(one.get_offsets()) for one in points] == [1, 1]
    (misfit,) = np.asarray(points[0].get_offsets())
    assert misfit.tolist() == pytest.approx([100 * fits[1].error, fits[1].robustness.value])
    assert [axes.get_title().endswith(", misfit") for axes in figure.axes[:2]] == [False, True]
    (law,) = [axes for axes in figure.axes if axes.get_ylabel() == r"lowest loss $L^*$"]
    faces = [line.get_markerfacecolor() for line in law.lines if line.get_marker() == "o"]
    assert faces == ["C0", "white"]
    plt.close(figure)
    figure = transfer_metrics(["skewed", "again"], fits[1:] * 2, penalties[1:] * 2)
    figure.canvas.draw()
    assert not any("R_" in axes.get_ylabel() for axes in figure.axes)
    plt.close(figure)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1e-3, 0.1, ["10^{-3}", "10^{-2}", "10^{-1}"]),
        (0.02, 0.07, ["2^{-5}", "2^{-4}"]),
        (2.0**-9, 2.0**-3, ["10^{-2}", "10^{-1}"]),
        (1e-9, 1.0, ["10^{-9}", "10^{-6}", "10^{-3}", "10^{0}"]),
        (0.011, 0.015, ["0.011", "0.015"]),
    ],
)
def test_ticks_of_learning_rates_are_few_powers(low, high, labels):
    ticks, texts = _rate_ticks(low, high)
    assert [text.strip("$") for text in texts] == labels
    assert all(low * 0.999 <= one <= high * 1.001 for one in ticks)
