"""Claims whose evidence is code: a prediction, its value at the measured sizes, a measurement.

The rule of the verdict is that of `dynsim.claims`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr

from dynsim import claims
from dynsim.claims import Evidence, Verdict, judged

from ._claim_study import claim_finding

# In statements, which must be understood alone.
LINEAR_MODEL = "the linear model (one projection of a d-dimensional embedding of m token types)"
# How the statement of every control begins.
WRONG = "Wrong on purpose: "
NEGATIVE = "An open question answered in the negative: "


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
    - `rival`: the value that another theory, or the same in another regime, has for the quantity.
      It lies outside the band, so that a claim that holds refutes it. Every exponent has one.
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
    rival: float | None = None

    def verdict(self, evidence: Evidence) -> Verdict:
        """The verdict by the rule of `dynsim.claims`."""
        return judged(evidence, self.tolerance)


def written_claim(claim: claims.Claim, study: str) -> Claim:
    """A claim of a claim file as one whose evidence comes from a study's dataset."""
    return Claim(
        name=claim.name,
        statement=claim.statement,
        quantity=claim.measured_number,
        prediction=claim.predicted_number,
        study=study,
        evidence=lambda data: claim_finding(claim, data).evidence,
        tolerance=claim.tolerance,
        citation=claim.source,
        expected=claim.expected,
        rival=claim.rival_value(),
    )
