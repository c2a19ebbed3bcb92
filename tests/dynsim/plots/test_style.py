"""How figures are written: labels of logarithmic axes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dynsim.plots._style import MARGIN, plain_power, save, style


def test_powers_are_written_without_mathematics():
    assert plain_power(r"$\mathdefault{10^{-12}}$") == "10⁻¹²"
    assert plain_power(r"$\mathdefault{3\times10^{4}}$") == "3×10⁴"
    assert plain_power(r"$\mathdefault{10^{0.5}}$") == r"$\mathdefault{10^{0.5}}$"
    assert plain_power("250") == "250"


def test_a_written_figure_has_the_labels_of_its_axes(tmp_path):
    figure, axes = plt.subplots(layout="constrained")
    axes.set(xscale="log", xlim=(1, 1e4), ylim=(0, 1))
    save(figure, tmp_path / "figure.svg")
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert {"10⁰", "10²", "10⁴"} <= set(labels)
    plt.close(figure)


@pytest.mark.parametrize("minor_size", [None, 6.0], ids=["as the style has them", "its own"])
def test_marks_drawn_as_one_line_look_like_ticks(tmp_path, minor_size):
    with style():
        figure, axes = plt.subplots(figsize=(3, 2))
    axes.set(xscale="log", xlim=(1, 1e4), yscale="log", ylim=(3e-5, 1e3))
    if minor_size is not None:
        axes.tick_params(which="minor", length=minor_size)
    for name in ("ours", "matplotlib"):
        if name == "ours":
            save(figure, tmp_path / f"{name}.png")
        else:
            with style():
                figure.dpi = 200
                box = figure.get_tightbbox().padded(MARGIN)
                figure.savefig(tmp_path / f"{name}.png", bbox_inches=box)
    ours, theirs = (plt.imread(tmp_path / f"{name}.png") for name in ("ours", "matplotlib"))
    plt.close(figure)
    assert np.array_equal(ours, theirs)
    left = int(0.1 * ours.shape[1])  # the labels, and the ticks beside them, are there at all
    assert (ours[:, :left, :3].min(axis=(1, 2)) < 0.5).any()


def test_a_name_without_a_glyph_warns_of_nothing(tmp_path, recwarn):
    figure, axes = plt.subplots()
    axes.set_title("red \x1b[31m and \u0e01")
    save(figure, tmp_path / "figure.svg")
    assert axes.get_title() == r"red \x1b[31m and " + "\u0e01"
    assert not recwarn.list
