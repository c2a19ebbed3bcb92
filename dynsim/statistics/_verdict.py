"""The rule of the verdict, which is fixed before any measurement.

With the prediction x and the claim's tolerance t, the band is [x - t, x + t]; its ends belong to
it.

- holds: the measured 95 % interval and the simulated value (where there is one) lie inside the
  band. The value without the smallest size lies in the band as well: for an exponent, and for a
  ratio to theory that is averaged over sizes. For an exponent the slope between the two largest
  sizes lies in the band too, or cannot be told from the prediction (its interval holds x): local
  slopes that leave the band are no power law with the predicted exponent.
- fails: the measured interval and the band have no point in common, whatever else is known.
- undecided: anything else; also where the measurement is no number or has no interval, and an
  exponent of fewer than three sizes, whose local slopes nothing can compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._exponents import ExponentFit
from ._intervals import Estimate, bootstrap

Floats = NDArray[np.float64]
Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one claim comes down to in numbers.

    - `predicted`: the value of the symbolic prediction.
    - `simulated`: theory at the measured sizes (the compiled finite-size formula, or the mean-field
      solver where the claim is that formula), read by the same estimator as the measurement; None
      where there is nothing to simulate.
    - `measured`: from trained networks, with its 95 % interval.
    - `drift`: change of the measured value when the smallest size is left out (NaN: the value is
      neither an exponent of three sizes or more nor a ratio of two or more).
    - `last`: for an exponent of three sizes or more, the slope between the two largest, with its
      95 % interval (else None).
    - `exponent`: whether the measured value is an exponent.
    """

    predicted: float
    simulated: float | None
    measured: Estimate
    drift: float = math.nan
    last: Estimate | None = None
    exponent: bool = False

    @classmethod
    def of_fit(cls, fit: ExponentFit, *, predicted: float, simulated: float | None) -> Evidence:
        """The evidence of a fitted exponent, with its drift and its last slope."""
        return cls(
            predicted=predicted,
            simulated=simulated,
            measured=fit,
            drift=fit.drift,
            last=fit.last,
            exponent=True,
        )

    @classmethod
    def of_ratio(
        cls,
        ratio: Callable[..., Floats],
        samples: Sequence[Floats],
        sizes: Sequence[float],
        *,
        simulated: float | None = None,
        **bootstrapped: Any,
    ) -> Evidence:
        """The evidence of a geometric mean of measured over theory, whose prediction is 1.

        - `ratio(*samples, axis=-1)`: the logarithms of the cells' ratios, cells on the first axis.
        - `sizes`: the size of each cell; without the smallest, the mean changes by the drift.
        - `bootstrapped`: what `bootstrap` takes.
        """

        def mean(*cells: Floats, axis: int = -1) -> Floats:
            return np.exp(np.mean(ratio(*cells, axis=axis), axis=0))

        measured = bootstrap(mean, samples, **bootstrapped)
        larger = np.asarray(sizes) > np.min(sizes)
        drift = math.nan
        if larger.any():
            drift = float(np.exp(np.mean(ratio(*samples, axis=-1)[larger]))) - measured.value
        return cls(predicted=1.0, simulated=simulated, measured=measured, drift=drift)


def judged(evidence: Evidence, tolerance: float) -> Verdict:
    """The verdict on evidence by the rule of this module.

    **Example:**

    >>> from dynsim import Estimate
    >>> from dynsim.claims import Evidence, judged
    >>> measured = Estimate(1.02, 0.99, 1.05)
    >>> evidence = Evidence(predicted=1.0, simulated=1.01, measured=measured)
    >>> judged(evidence, 0.1), judged(evidence, 0.02)
    ('holds', 'undecided')
    """
    low, high = evidence.predicted - tolerance, evidence.predicted + tolerance
    measured = evidence.measured
    if not measured.low < measured.high:
        return "undecided"  # no number, or no interval
    if evidence.exponent and evidence.last is None:
        return "undecided"  # fewer than three sizes
    if measured.high < low or measured.low > high:
        return "fails"
    return "undecided" if doubts(evidence, tolerance) else "holds"


def seeds_enough(evidence: Evidence, tolerance: float, seeds: int) -> int | None:
    """Seeds with which the interval would lie inside the band, were the value to stay as it is.

    Half widths fall like one over the square root of the seeds. None where the interval is inside
    already, has no width, or its value leaves no room.
    """
    measured = evidence.measured
    if not measured.low < measured.high:
        return None
    upper, lower = measured.high - measured.value, measured.value - measured.low
    above = evidence.predicted + tolerance - measured.value
    below = measured.value - evidence.predicted + tolerance
    if min(above, below) <= 0 or (upper <= above and lower <= below):
        return None
    factor = max(upper / above, lower / below) ** 2
    digits = 10 ** max(math.floor(math.log10(seeds * factor)) - 1, 0)
    return math.ceil(seeds * factor / digits) * digits


def doubts(evidence: Evidence, tolerance: float) -> list[str]:
    """What keeps a claim from holding, one clause each."""
    low, high = evidence.predicted - tolerance, evidence.predicted + tolerance
    measured, last = evidence.measured, evidence.last
    if not measured.low < measured.high:
        return ["the measured value has no interval"]
    if evidence.exponent and last is None:
        return ["an exponent needs three sizes or more"]
    without_smallest = measured.value + evidence.drift
    met = {
        "the measured interval is not inside the band": low <= measured.low
        and measured.high <= high,
        "theory at the measured sizes lies outside the band": evidence.simulated is None
        or low <= evidence.simulated <= high,
        "without the smallest size the measured value lies outside the band": math.isnan(
            evidence.drift
        )
        or low <= without_smallest <= high,
        "the slope between the two largest sizes leaves the band": last is None
        or low <= last.value <= high
        or last.low <= evidence.predicted <= last.high,
    }
    return [doubt for doubt, good in met.items() if not good]
