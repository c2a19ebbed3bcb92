"""A sweep's runs sorted by width: which learning rates count, and resamples of their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynsim._errors import InputError
from dynsim._outcome import OK, Outcome, Status
from dynsim.statistics._equal import merged, merged_across, sorted_labels
from dynsim.statistics._intervals import SeedResamples

from ._surface import Points, parabolas

Floats = NDArray[np.float64]

PARABOLA_POINTS = 3
MOST_SEEDS, GROUPS = 200, 100  # of more seeds groups are resampled: a fit is done without each


@dataclass(frozen=True, eq=False)
class WidthRuns:
    """The runs of one width: `losses` of shape (rates, seeds), NaN where a seed was not run.

    Learning rates at which a seed diverged are left out; `diverged` says whether there are any.
    `seeds` are the seeds' labels.
    """

    width: float
    learning_rates: Floats
    losses: Floats
    factor: float
    seeds: tuple[object, ...]
    diverged: bool

    @property
    def sample(self) -> str:
        """A name of what is resampled, which fits of the same width and seeds share."""
        return repr((self.width, self.seeds))

    @cached_property
    def means(self) -> Floats:
        """Mean loss over seeds, shape (rates,)."""
        return np.nanmean(self.losses, axis=1) if self.losses.size else np.empty(0)

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """Learning rates within the factor of the lowest loss, in one stretch around it."""
        if not self.means.size:
            return np.zeros(0, dtype=bool)
        within = self.means <= self.factor * self.means.min()
        stretch = np.cumsum(~within)
        return within & (stretch == stretch[np.argmin(self.means)])

    @cached_property
    def outcome(self) -> Outcome:
        """Ok, or why there is no optimum to be seen."""
        rates = len(self.learning_rates)
        if rates < PARABOLA_POINTS:
            remaining = " without divergence" if self.diverged else ""
            reason = f"{_learning_rates(rates)}{remaining}, needs {PARABOLA_POINTS}"
            return Outcome(Status.UNDETERMINED, reason)
        best = int(np.argmin(self.means))
        if best in (0, rates - 1):
            side = "smallest" if best == 0 else "largest"
            remaining = " that did not diverge" if self.diverged else ""
            return Outcome(Status.EDGE, f"lowest loss at the {side} learning rate{remaining}")
        if self.near.sum() < PARABOLA_POINTS:
            count = _learning_rates(int(self.near.sum()))
            reason = f"{count} within the factor, needs {PARABOLA_POINTS}"
            return Outcome(Status.UNDETERMINED, reason)
        rate, _, curvature = parabolas(self.points(), self.means[self.near])[0]
        lowest, *_, largest = np.log(self.learning_rates[self.near])
        if not curvature > 0 or not lowest <= rate <= largest:
            reason = "the parabola has no minimum among its points"
            return Outcome(Status.UNDETERMINED, reason)
        return OK

    def points(self, number: int = 0) -> Points:
        """The points near the optimum, as those of width `number`."""
        counts = np.isfinite(self.losses[self.near]).sum(axis=1)
        size = len(counts)
        return Points(
            np.full(size, number),
            np.full(size, np.log(self.width)),
            np.log(self.learning_rates[self.near]),
            np.sqrt(counts) / self.means[self.near],
        )

    @cached_property
    def resampled_units(self) -> NDArray[np.int64]:
        """The first seed of each group that is resampled as one; each seed by itself if they are
        few."""
        seeds = len(self.seeds)
        count = seeds if seeds <= MOST_SEEDS else GROUPS
        return np.arange(count) * seeds // max(count, 1)

    def resampled_means(self, times: NDArray[np.int64]) -> Floats:
        """Means near the optimum if unit s counts times[..., s] times, shape (..., near).

        A learning rate that none of these seeds has keeps its own mean.
        """
        losses = self.losses[self.near]
        present = np.isfinite(losses)
        units = self.resampled_units
        total = times @ np.add.reduceat(np.where(present, losses, 0), units, axis=1).T
        count = times @ np.add.reduceat(present.astype(np.int64), units, axis=1).T
        return np.where(count > 0, total / np.maximum(count, 1), self.means[self.near])


def _learning_rates(count: int) -> str:
    return "1 learning rate" if count == 1 else f"{count} learning rates"


def mean_losses(runs: Sequence[WidthRuns], resamples: SeedResamples) -> Floats:
    """Mean losses near each width's optimum, a row for each choice of seeds, (rows, points)."""
    if not runs:
        return np.empty((1, 0))
    return np.concatenate(
        [one.resampled_means(resamples.times(one.sample)) for one in runs], axis=1
    )


def runs_by_width(
    widths: ArrayLike, learning_rates: ArrayLike, seeds: ArrayLike, losses: ArrayLike, factor: float
) -> tuple[list[WidthRuns], int]:
    """The runs of each width, narrowest first, and how many runs diverged (loss not finite).

    Widths and learning rates that differ by rounding alone are equal.

    Raises `InputError` for values that are not positive and for a run that occurs twice.
    """
    width, rate, loss = (
        np.asarray(one, dtype=np.float64) for one in (widths, learning_rates, losses)
    )
    labels, seed_index = sorted_labels(seeds)
    if not width.shape == rate.shape == loss.shape == seed_index.shape or width.ndim != 1:
        raise InputError("losses", loss.shape, "must be one per width, learning rate and seed")
    if not width.size:
        raise InputError("losses", None, "must hold at least one run")
    for name, values in (("widths", width), ("learning_rates", rate)):
        bad = values[~(np.isfinite(values) & (values > 0))]
        if bad.size:
            raise InputError(name, bad[0], "must be a positive number")
    if np.any(loss <= 0):
        raise InputError(
            "losses", loss[loss <= 0][0], "must be positive: errors are relative to it"
        )
    width, rate = merged(width), merged(rate)
    _, run = np.unique(np.stack([width, seed_index]), axis=1, return_inverse=True)
    rate = merged_across(rate, run.reshape(-1))
    runs = np.stack([width, rate, seed_index])
    unique, counts = np.unique(runs, axis=1, return_counts=True)
    if np.any(counts > 1):
        size, lr, _ = unique[:, np.argmax(counts)]
        raise InputError(
            "seeds", f"of width {size:g}, learning rate {lr:g}", "must not occur more than once"
        )
    found = []
    for one in np.unique(width):
        here = width == one
        rates, rate_index = np.unique(rate[here], return_inverse=True)
        own_seeds, own_index = np.unique(seed_index[here], return_inverse=True)
        table = np.full((len(rates), len(own_seeds)), np.nan)
        table[rate_index, own_index] = loss[here]
        diverged = np.zeros(len(rates), dtype=bool)
        diverged[rate_index[~np.isfinite(loss[here])]] = True
        kept = rates[~diverged], table[~diverged]
        labelled = tuple(labels[own_seeds].tolist())
        found.append(WidthRuns(float(one), *kept, factor, labelled, bool(diverged.any())))
    return found, int(np.sum(~np.isfinite(loss)))
