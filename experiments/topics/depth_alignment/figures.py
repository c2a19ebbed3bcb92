"""Figure of the exponent of every matrix's update against the number of steps."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from dynsim.statistics import log_slope

from .estimators import alignment_exponent, theory_rms, widths
from .study import EMBEDDING_LRS, MATRICES, STEPS

MARKERS = dict(zip(MATRICES, "osD", strict=True))


def depth_alignment(data: xr.Dataset) -> Figure:
    """Lines: mean field between d = 10,000 and 100,000 (solid), at the networks' widths (dashed);
    points: networks."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
    steps = np.arange(1, STEPS + 1)
    sizes = np.array(widths(data, "theory"), dtype=np.float64)
    for axes, embedding in zip(panels, EMBEDDING_LRS, strict=True):
        for place, matrix in enumerate(MATRICES):
            colour = f"C{place}"
            rms = np.array([theory_rms(data, embedding, matrix, int(step)) for step in steps]).T
            large = sizes >= 10_000
            axes.plot(
                steps,
                log_slope(np.log(sizes[large]), np.log(rms[large])),
                color=colour,
                linewidth=1.3,
            )
            found = [alignment_exponent(data, embedding, matrix, int(k), 1.0) for k in steps]
            axes.plot(steps, [one.simulated for one in found], "--", color=colour, linewidth=1)
            value, low, high = np.array(
                [[one.measured.value, one.measured.low, one.measured.high] for one in found]
            ).T
            axes.errorbar(
                steps + 0.08 * (place - 1),
                value,
                [value - low, high - value],
                linestyle="",
                marker=MARKERS[matrix],
                markersize=4.5,
                color=colour,
                markeredgecolor="white",
                markeredgewidth=0.4,
                label=matrix,
                zorder=3,
            )
        axes.set(xlabel="steps", title=f"embedding {embedding}", ylim=(0.35, 1.15))
        for height in (0.5, 1.0):
            axes.axhline(height, color="0.75", linewidth=0.8, zorder=0)
    panels[0].set_ylabel("exponent of $d$ in the update")
    panels[0].legend(loc="upper left")
    return figure


FIGURES = {"depth_alignment": (depth_alignment, ("depth_alignment",))}
