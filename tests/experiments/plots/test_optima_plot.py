"""The figure of a sweep's optima marks what the analysis finds."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rate_surfaces import stored, sweep

from dynsim.statistics import surface_optimum
from experiments.analysis.optima import read_sweep, surfaces
from experiments.plots.optima import sweep_optima


def test_the_figure_marks_the_optima(tmp_path):
    data = read_sweep(Path(stored(sweep(), tmp_path)))
    figure = sweep_optima(data, 10)
    cells = surfaces(data, 10)
    panels = figure.axes
    assert len(panels) == 2 * 2 + 3
    for panel, (m, rate) in enumerate(
        (m, rate) for m in (100, 800) for rate in ("embedding", "hidden")
    ):
        marked = [line for line in panels[panel].lines if line.get_marker() == "o"]
        places = [float(np.asarray(line.get_xdata())[0]) for line in marked]
        assert places == [surface_optimum(cells[d, m], rate).value for d in (64, 128, 256)]
    legend = panels[-1].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert [label.split(" [")[0] for label in labels] == ["$m$=100: +0.75", "$m$=800: +0.75"]
    plt.close(figure)
