"""What each part of the campaign has found so far, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr


def agreement(data: xr.Dataset) -> Iterator[str]:
    for point in _points(data, "precision", "network"):
        gap, within = float(point.gap), bool(point.gap <= point.tolerance)
        yield (
            f"{_text(point.precision)} {_text(point.network)}: losses differ from the CPU's by at "
            f"most {gap:.1e}, {'within' if within else 'MORE THAN'} {float(point.tolerance):g}"
        )


def updates(data: xr.Dataset) -> Iterator[str]:
    """Of every network the largest one measured."""
    sizes = data.mean_square.sel(quantity="update", step=1).isel(embedding_lr=0, optimizer=0)
    for network in sizes.network.values:
        measured = [
            (int(width), int(types), found)
            for width in sizes.width.values
            for types in sizes.vocab_size.values
            for found in [sizes.sel(network=network, width=width, vocab_size=types).mean()]
            if np.isfinite(found)
        ]
        for width, types, found in measured[-1:]:
            yield (
                f"{network}, {len(measured)} sizes; at width {width} and vocabulary {types} the "
                f"first update has RMS {float(np.sqrt(found)):.3g}"
            )


def ratios(data: xr.Dataset) -> Iterator[str]:
    for point in _points(data, "network", "width"):
        mean = point.loss.isel(horizon=-1).mean("seed")
        for axis in ("embedding_octave", "hidden_octave"):
            mean = mean.dropna(axis, how="all")
        if mean.size:
            least = mean.isel(mean.argmin(("embedding_octave", "hidden_octave")))
            yield (
                f"{_text(point.network)} at width {int(point.width)}: least loss at embedding rate "
                f"2^{float(least.embedding_octave):g} and hidden rate "
                f"2^{float(least.hidden_octave):g}"
            )


def races(data: xr.Dataset) -> Iterator[str]:
    for point in _points(data, "task", "width"):
        if np.isfinite(point.initial_loss).any():
            mean = point.loss.fillna(np.inf).mean("seed")
            best = mean.isel(rule=int(mean.argmin("rule")))
            yield (
                f"{_text(point.task)} at width {int(point.width)}: least loss, {float(best):.4g}, "
                f"by the rule {_text(best.rule)}"
            )


def predictions(data: xr.Dataset) -> Iterator[str]:
    for point in _points(data, "case"):
        error = float((point.loss_error / point.loss.isel(step=0)).max())
        yield (
            f"{_text(point.case)}: {float(point.seconds):.1f} s with "
            f"{float(point.particles):.0f} particles, error {error:.2%} of the initial loss"
        )


def throughput(data: xr.Dataset) -> Iterator[str]:
    for point in _points(data, "network", "width", "precision"):
        if np.isfinite(point.steps_per_second):
            yield (
                f"{_text(point.network)} {int(point.width)} {_text(point.precision)}: "
                f"{float(point.steps_per_second):,.0f} network-steps/s, {float(point.ratio):.2g} "
                f"times PyTorch, {float(point.product_share):.0%} of the rate of a product, "
                f"{float(point.product_rate) / 1e12:.3g} TFLOP/s"
            )


def _points(data: xr.Dataset, *axes: str) -> Iterator[Any]:
    """The data at every combination of labels, also where nothing was measured."""
    if not axes:
        yield data
        return
    for place in range(data.sizes[axes[0]]):
        yield from _points(data.isel({axes[0]: place}), *axes[1:])


def _text(label: Any) -> str:
    return str(label.item())
