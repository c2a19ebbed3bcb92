"""How well a learning rate transfers across width, from the losses of a sweep.

Near the optimum of each width N the loss at a base learning rate η (the parametrization's own rule
divided out) is taken as

    L(N, η) = L*(N) + ½ H(N) (ln η - ln η*(N))²,
    L*(N) = L∞ + A N^-α,   ln η*(N) = ln η∞ + b N^-β,   H(N) = h N^γ,

and three metrics are read off (Kalra and Barkeshli, arXiv:2605.21486): the error E of this fit; the
exponent κ = α - 2β + γ with which the penalty ½ H (ln η* - ln η∞)² of the limit's learning rate
grows over the loss gap A N^-α (κ < 0: transfer is robust); and R∞, the loss that a parametrization
gives away at infinite width against the best. E is the root mean square of (L - fit)/L here, which
is also what the fit minimises; other authors' E may be defined otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dynsim._errors import InputError
from dynsim.statistics._intervals import Estimate, Resamples

from ._joint_fit import JointFit
from ._results import Transfer, WidthCurve
from ._runs import WidthRuns, runs_by_width

LOSS_FACTOR = 1.35  # points with a loss within this factor of the width's lowest are fitted
UNKNOWN = Estimate(np.nan, np.nan, np.nan)


def fit_transfer(
    widths: ArrayLike,
    learning_rates: ArrayLike,
    seeds: ArrayLike,
    losses: ArrayLike,
    *,
    factor: float = LOSS_FACTOR,
    resamples: int = Resamples.QUICK,
    scatter: bool = True,
) -> Transfer:
    """Transfer metrics of a sweep; the four arrays of shape (runs,) hold one run per entry.

    Points with a mean loss within `factor` of the width's lowest take part, weighted by the root of
    their number of seeds over their loss. Intervals: bootstrap over seeds within each width, a
    seed's whole curve together, drawn out for few seeds (`Resampled.interval`). Where a width has
    one seed they come from the scatter of the points about the fit (`Scattered.interval`), unless
    `scatter` is false; `Transfer.intervals` says which. A loss that is not
    finite is a diverged run and takes its learning rate out. A width takes part if three such
    points bracket its optimum; L∞, A, α, η∞, b, β and κ need three such widths, h and γ two, the
    held-out error four.

    Raises `InputError` for a width, learning rate or loss that is not positive, a run that occurs
    twice, or a factor of at most 1.

    **Example:**

    >>> import numpy as np
    >>> from dynsim import fit_transfer
    >>> width, rate, seed = np.meshgrid([64, 128, 256, 512], np.geomspace(1e-3, 1e-1, 9), [0, 1])
    >>> shift = np.log(rate / 1e-2) - 2 * width**-0.5  # the best rate falls to 1e-2
    >>> loss = 1 + 3 * width**-0.5 + 0.1 * shift**2
    >>> fit = fit_transfer(width.ravel(), rate.ravel(), seed.ravel(), loss.ravel(), resamples=20)
    >>> round(fit.loss_exponent.value, 2), round(fit.rate_limit.value, 4)
    (0.5, 0.01)
    """
    if not factor > 1:
        raise InputError("factor", factor, "must be greater than 1")
    runs, diverged = runs_by_width(widths, learning_rates, seeds, losses, factor)
    used = [one for one in runs if one.outcome.ok]
    tried = np.log(np.asarray(learning_rates, dtype=np.float64))
    fit = JointFit(used, resamples, (tried.min(), tried.max()), scatter)
    optima = iter(fit.optima())
    return Transfer(
        **fit.parameters(),
        error=fit.errors[0],
        noise_error=fit.errors[1],
        held_out_error=fit.held_out_errors[0],
        held_out_noise=fit.held_out_errors[1],
        curves=tuple(
            _curve(one, next(optima) if one.outcome.ok else (UNKNOWN, UNKNOWN, UNKNOWN))
            for one in runs
        ),
        diverged=diverged,
        intervals="scatter" if fit.noise else "none" if fit.resamples.alone else "seeds",
        surface=fit.surfaces[0] if fit.surfaces else None,
        resampled=fit.values,
        resampled_curves=fit.curves,
        resampled_error=fit.resampled_error,
    )


def _curve(runs: WidthRuns, optimum: tuple[Estimate, Estimate, Estimate]) -> WidthCurve:
    return WidthCurve(
        runs.width, runs.learning_rates, runs.means, runs.near, *optimum, runs.outcome
    )
