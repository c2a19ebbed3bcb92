"""How figures are written: labels of logarithmic axes."""

from __future__ import annotations

import matplotlib.pyplot as plt

from dynsim.plots._style import plain_power, save


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
