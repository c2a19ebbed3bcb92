"""From the records of many solutions to means, errors and the finite-width correction."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

Records = Float[np.ndarray, "L R T quantities"]
Averages = Float[np.ndarray, "L T quantities"]


def combined(
    records: list[Records], width_ratio: float, block: int, extrapolation: float
) -> tuple[Averages, Averages, Averages, Averages]:
    """Mean, standard error, bias and finite-width correction.

    `records`, of R replicas, are of the limit, of the limit with about half the particles, and of
    as few independent neurons; the last or the last two may be missing. Neurons drawn independently
    fluctuate as those of a network of their number, so the correction is their difference from
    evenly spread ones times `width_ratio`, their number over the width. The bias is of order
    1/particles. Where a correction is not finite it is left out, and the standard error is
    infinite. Source: docs/theory/mean_field.md#finite-width-correction.
    """
    total, correction = records[0], np.zeros_like(records[0])
    lost = np.zeros(total[:, 0].shape, dtype=bool)
    if len(records) == 3:
        correction = width_ratio * (records[2] - records[1])
        lost = np.any(~np.isfinite(correction), axis=1)
        correction = np.where(lost[:, None], 0, correction)
        total = total + correction
    bias = np.zeros_like(total[:, 0])
    if math.isfinite(extrapolation):
        chance = np.hypot(standard_error(records[0], block), standard_error(records[1], block))
        change = records[0].mean(axis=1) - records[1].mean(axis=1)
        bias = np.sqrt(np.maximum(change**2 - (2 * chance) ** 2, 0)) / extrapolation
    spread = np.where(lost, np.inf, standard_error(total, block))
    return total.mean(axis=1), spread, bias, correction.mean(axis=1)


def extrapolated(
    records: list[Records], share: float, block: int
) -> tuple[Averages, Averages, Averages, Averages]:
    """The same from solutions with N neurons and with N / 2, which differ by c/N from the limit.

    `share` is N over the width, 0 for the limit; where it is 1 the first solutions are the answer.
    The bias is a half of what is extrapolated, beyond chance.
    """
    many, few = records
    change, part = many.mean(axis=1) - few.mean(axis=1), 1 - share
    by_many, by_few = (standard_error(one, block) for one in records)
    chance = np.hypot(by_many, by_few)
    bias = part / 2 * np.sqrt(np.maximum(change**2 - (2 * chance) ** 2, 0))
    spread = np.hypot((1 + part) * by_many, part * by_few)
    return many.mean(axis=1) + part * change, spread, bias, -share * change


def standard_error(samples: Records, block: int) -> Averages:
    """Of the mean over replicas, of which blocks of neighbours are independent."""
    count = samples.shape[1]
    edges = np.arange(0, count, block)
    shares = np.diff(np.append(edges, count)) / count
    sums = np.add.reduceat(samples, edges, axis=1) / count
    deviations = sums - shares[:, None, None] * samples.mean(axis=1, keepdims=True)
    return np.sqrt(len(edges) / (len(edges) - 1) * np.sum(deviations**2, axis=1))
