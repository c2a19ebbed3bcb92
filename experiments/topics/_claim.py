"""Claims: a symbolic prediction, its value at the measured sizes, a measurement, a verdict.

The verdict rule is fixed before any measurement. With the prediction x and the claim's
tolerance t, the band is [x - t, x + t]:

- holds: the measured 95 % interval and the simulated value (where there is one) lie inside it;
- fails: the measured interval and the band have no point in common;
- undecided: anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import xarray as xr

from dynsim import Estimate

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """What one claim comes down to in numbers.

    - `predicted`: the symbolic prediction's value; `simulated`: theory at the measured sizes (the
      compiled finite-size formula, or the mean-field solver where the claim is that formula), read
      by the same estimator as the measurement; None where there is nothing to simulate.
    - `measured`: from trained networks, with its 95 % interval.
    - `drift`: change of the measured value when the smallest size is left out (NaN: no such size).
    """

    predicted: float
    simulated: float | None
    measured: Estimate
    drift: float = float("nan")


@dataclass(frozen=True)
class Claim:
    """A statement that a measurement can refute.

    - `quantity`: what the numbers are; `prediction`: the formula as text.
    - `study`: the name of the study whose dataset `evidence` reads.
    - `tolerance`: half width of the band around the prediction.
    - `expected`: `fails` for a negative control, which is wrong on purpose or an open question
      answered in the negative (named control-), and for a published claim that the stored run
      does not see (named not-seen-); `undecided` for a question that it does not settle.
    """

    name: str
    statement: str
    quantity: str
    prediction: str
    study: str
    evidence: Callable[[xr.Dataset], Evidence]
    tolerance: float
    citation: str
    expected: Verdict = "holds"

    def verdict(self, evidence: Evidence) -> Verdict:
        """The verdict by the rule of this module."""
        return judged(evidence, self.tolerance)


def judged(evidence: Evidence, tolerance: float) -> Verdict:
    """The verdict on evidence by the rule of this module."""
    low, high = evidence.predicted - tolerance, evidence.predicted + tolerance
    measured = evidence.measured
    if measured.high < low or measured.low > high:
        return "fails"
    inside = low <= measured.low and measured.high <= high
    agrees = evidence.simulated is None or low <= evidence.simulated <= high
    return "holds" if inside and agrees else "undecided"
