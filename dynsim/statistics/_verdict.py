"""The rule of the verdict, which is fixed before any measurement.

With the prediction x and the claim's tolerance t, the band is [x - t, x + t]; its ends belong to
it.

- holds: the measured 95 % interval and the simulated value (where there is one) lie inside the
  band. Where an exponent is fitted to three sizes or more, the fit without the smallest size lies
  in the band as well, and the interval of the slope between the two largest sizes meets it: local
  slopes that leave the band are no power law with the predicted exponent.
- fails: the measured interval and the band have no point in common, whatever else is known.
- undecided: anything else; also where the measurement is no number or has no interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ._exponents import ExponentFit
from ._intervals import Estimate

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one claim comes down to in numbers.

    - `predicted`: the value of the symbolic prediction.
    - `simulated`: theory at the measured sizes (the compiled finite-size formula, or the mean-field
      solver where the claim is that formula), read by the same estimator as the measurement; None
      where there is nothing to simulate.
    - `measured`: from trained networks, with its 95 % interval.
    - `drift`: change of the measured value when the smallest size is left out (NaN: the value is no
      exponent, or there are fewer than three sizes).
    - `last`: the slope between the two largest sizes with its 95 % interval (None: as for `drift`).
    """

    predicted: float
    simulated: float | None
    measured: Estimate
    drift: float = math.nan
    last: Estimate | None = None

    @classmethod
    def of_fit(cls, fit: ExponentFit, *, predicted: float, simulated: float | None) -> Evidence:
        """The evidence of a fitted exponent, with its drift and its last slope."""
        return cls(
            predicted=predicted, simulated=simulated, measured=fit, drift=fit.drift, last=fit.last
        )


def judged(evidence: Evidence, tolerance: float) -> Verdict:
    """The verdict on evidence by the rule of this module."""
    low, high = evidence.predicted - tolerance, evidence.predicted + tolerance
    measured, last = evidence.measured, evidence.last
    if not measured.low < measured.high:
        return "undecided"  # no number, or no interval
    if measured.high < low or measured.low > high:
        return "fails"
    inside = low <= measured.low and measured.high <= high
    agrees = evidence.simulated is None or low <= evidence.simulated <= high
    without_smallest = measured.value + evidence.drift
    steady = math.isnan(evidence.drift) or low <= without_smallest <= high
    meets = last is None or (last.low <= high and last.high >= low)
    return "holds" if inside and agrees and steady and meets else "undecided"
