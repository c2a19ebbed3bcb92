"""Claims: a symbolic prediction, its value at the measured sizes, a measurement, a verdict.

The verdict rule is fixed before any measurement. With the prediction x and the claim's
tolerance t, the band is [x - t, x + t]; its ends belong to it.

- holds: the measured 95 % interval and the simulated value (where there is one) lie inside the
  band.
- fails: the measured interval and the band have no point in common, whatever the simulated value.
- undecided: anything else; also where the measurement is no number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import xarray as xr

from dynsim import Estimate

Verdict = Literal["holds", "fails", "undecided"]

# In statements, which must be understood alone.
LINEAR_MODEL = "the linear model (one projection of a d-dimensional embedding of m token types)"
# How the statement of every control begins.
WRONG = "Wrong on purpose: "
NEGATIVE = "An open question answered in the negative: "


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one claim comes down to in numbers.

    - `predicted`: the value of the symbolic prediction.
    - `simulated`: theory at the measured sizes (the compiled finite-size formula, or the mean-field
      solver where the claim is that formula), read by the same estimator as the measurement; None
      where there is nothing to simulate.
    - `measured`: from trained networks, with its 95 % interval.
    - `drift`: change of the measured value when the smallest size is left out (NaN: no such size).
    """

    predicted: float
    simulated: float | None
    measured: Estimate
    drift: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement that a measurement can refute.

    - `name`: what `dynsim verify --claim` takes; unique over all topics.
    - `statement`: one or more whole sentences, understandable without any other text.
    - `quantity`: what the numbers predicted, simulated and measured are.
    - `prediction`: the formula for the predicted number, as text.
    - `study`: the name of the study whose dataset `evidence` reads.
    - `evidence`: the numbers as a function of that dataset.
    - `tolerance`: half width of the band around the prediction, in units of `quantity`.
    - `citation`: where the prediction is derived or published: papers (authors, year, arXiv
      number) and anchors of the theory pages, with `; ` between them. A control's citation begins
      with `contradicts` and what the control contradicts: the name of a claim if there is one,
      else a paper or an anchor.
    - `expected`: the verdict on the stored data. `fails` for a negative control, which is wrong on
      purpose or an open question answered in the negative (named control-; its statement begins
      with `WRONG` or `NEGATIVE`), and for a published claim that the stored run does not see
      (named not-seen-); `undecided` for a question that the stored run does not settle.
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
