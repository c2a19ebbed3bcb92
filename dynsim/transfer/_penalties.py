"""What one fit gives away against another: R∞ at infinite width, and the same at each width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynsim._errors import InputError
from dynsim._outcome import OK, Outcome, Status
from dynsim.statistics._intervals import Estimate, Resampled

from ._results import Transfer, TransferParameter
from ._scatter import Scattered


def asymptotic_penalties(fits: Sequence[Transfer]) -> tuple[int | None, list[TransferParameter]]:
    """R∞ = L∞ - L∞(reference) of each fit.

    The reference has the lowest L∞ of the fits whose L∞ is ok, or, without any, of
    those where it is determined. Its own R∞ is 0 with the status of its L∞; that of any other fit
    is ok only if both L∞ are.

    Returns the reference's index (None where no L∞ is determined) and one R∞ per fit. Intervals
    are paired: at a width where both fits have the same seeds by label, the same resample of seeds
    goes into both, and what a seed does to both alike (initial weights, order of batches) cancels.
    This holds as well where the seeds have nothing but their labels in common. Other widths count
    as independent. That the reference was chosen as the lowest is not in the intervals.

    Raises `InputError` for fits of different numbers of resamples.

    **Example:**

    >>> import numpy as np
    >>> from dynsim import fit_transfer
    >>> from dynsim.transfer import asymptotic_penalties
    >>> width, rate, seed = (
    ...     one.ravel()
    ...     for one in np.meshgrid([64, 128, 256, 512], np.geomspace(1e-3, 1e-1, 9), [0, 1])
    ... )
    >>> def fit(limit):
    ...     loss = limit + 3 * width**-0.5 + 0.1 * np.log(rate / 1e-2) ** 2
    ...     return fit_transfer(width, rate, seed, loss, resamples=20)
    ...
    >>> reference, penalties = asymptotic_penalties([fit(1.0), fit(1.2)])
    >>> reference, [round(penalty.value, 2) for penalty in penalties]
    (0, [0.0, 0.2])
    """
    undetermined = [one.loss_limit.status is Status.UNDETERMINED for one in fits]
    known = [k for k, one in enumerate(undetermined) if not one]
    if not known:
        outcome = Outcome(Status.UNDETERMINED, "no L_inf is determined")
        return None, [TransferParameter(np.nan, np.nan, np.nan, outcome)] * len(fits)
    sure = [k for k in known if fits[k].loss_limit.outcome.ok]
    reference = min(sure or known, key=lambda k: fits[k].loss_limit.value)
    return reference, [_penalty(one, fits[reference]) for one in fits]


def _penalty(fit: Transfer, reference: Transfer) -> TransferParameter:
    if fit is reference:
        end = np.nan if fit.resampled.alone else 0.0
        return TransferParameter(0.0, end, end, fit.loss_limit.outcome)
    if fit.loss_limit.status is Status.UNDETERMINED:
        return TransferParameter(np.nan, np.nan, np.nan, fit.loss_limit.outcome)
    outcomes = [one.loss_limit.outcome for one in (fit, reference)]
    outcome = next((one for one in outcomes if not one.ok), OK)
    value, low, high = _difference(fit.resampled, reference.resampled)[0]
    return TransferParameter(value, low, high, outcome)


def loss_penalties(fit: Transfer, reference: Transfer) -> dict[float, Estimate]:
    """L*(N) - L*(N) of the reference, by width, with intervals as in `asymptotic_penalties`.

    Holds the widths at which both fits have a bracketed optimum. A single seed at any of a fit's
    widths leaves no intervals (NaN).

    Raises `InputError` for fits of different numbers of resamples.

    **Example:**

    >>> import numpy as np
    >>> from dynsim import fit_transfer
    >>> from dynsim.transfer import loss_penalties
    >>> width, rate, seed = (
    ...     one.ravel()
    ...     for one in np.meshgrid([64, 128, 256, 512], np.geomspace(1e-3, 1e-1, 9), [0, 1])
    ... )
    >>> def fit(limit):
    ...     loss = limit + 3 * width**-0.5 + 0.1 * np.log(rate / 1e-2) ** 2
    ...     return fit_transfer(width, rate, seed, loss, resamples=20)
    ...
    >>> penalties = loss_penalties(fit(1.2), fit(1.0))
    >>> {width: round(found.value, 2) for width, found in penalties.items()}
    {64.0: 0.2, 128.0: 0.2, 256.0: 0.2, 512.0: 0.2}
    """
    widths = [[one.width for one in each.curves if one.outcome.ok] for each in (fit, reference)]
    common = sorted(set(widths[0]) & set(widths[1]))
    losses = [
        each.resampled_curves.at([own.index(one) for one in common], 1)
        for each, own in zip((fit, reference), widths, strict=True)
    ]
    differences = _difference(*losses)
    return {width: Estimate(*numbers) for width, numbers in zip(common, differences, strict=True)}


def _difference(one: Resampled | Scattered, other: Resampled | Scattered) -> list[list[float]]:
    """Value, low and high of each difference."""
    if one.alone or other.alone:
        value = one.value - other.value
        low = high = np.full(value.shape, np.nan)
    else:
        if len(one.draws) != len(other.draws):
            counts = (len(one.draws), len(other.draws))
            raise InputError("resamples", counts, "must be as many in fits that are compared")
        difference = one - other
        value = difference.value
        low, high = difference.interval()
    return np.stack([value, low, high], axis=-1).tolist()
