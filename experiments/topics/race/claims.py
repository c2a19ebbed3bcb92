"""Claims about rules tuned at a small width and compared at a large one."""

from __future__ import annotations

from functools import partial

from dynsim.claims import Verdict
from experiments.topics._claim import Claim

from .estimators import regret_evidence


def _claim(
    *,
    name: str,
    statement: str,
    rule: str,
    task: str,
    tolerance: float,
    citation: str,
    expected: Verdict = "holds",
) -> Claim:
    """A claim on the loss by a rule beside the loss by muP's rule."""
    return Claim(
        name=name,
        statement=statement,
        quantity="loss above muP's, as a share of what training by muP removes",
        prediction="0",
        study="race",
        evidence=partial(regret_evidence, task=task, rule=rule, against="mup"),
        tolerance=tolerance,
        citation=citation,
        expected=expected,
    )


CLAIMS: tuple[Claim, ...] = (
    _claim(
        name="race-interpolated",
        statement="For a transformer with muP initialisation on real text whose two learning "
        "rates (LR) are tuned at width 32 and carried to a larger width d (256 in the stored "
        "run), the rule by which embedding LR / hidden LR grows by a power between sqrt(d) and d "
        "that follows from the token law ends at the loss of muP's rule (embedding LR fixed, "
        "hidden LR ~ 1/d), to within 1 % of what training by muP removes.",
        rule="interpolated",
        task="corpus-transformer",
        tolerance=0.01,
        citation="docs/theory/learning_rates.md#which-ratio-when",
    ),
    _claim(
        name="race-root-synthetic",
        statement="For an MLP with muP initialisation on Gaussian targets whose two learning "
        "rates (LR) are tuned at width 32 and carried to a larger width d (256 in the stored "
        "run), the rule embedding LR fixed, hidden LR ~ 1/sqrt(d) ends at the loss of muP's rule "
        "(embedding LR fixed, hidden LR ~ 1/d), to within 1 % of what training by muP removes.",
        rule="lv-hidden",
        task="unstructured",
        tolerance=0.01,
        citation="docs/theory/learning_rates.md#which-ratio-when",
    ),
    _claim(
        name="control-race-root",
        statement="Wrong on purpose: for a transformer with muP initialisation on real text whose "
        "two learning rates (LR) are tuned at width 32 and carried to a larger width d (256 in "
        "the stored run), u-muP's rule (embedding LR ~ 1/sqrt(d), hidden LR ~ 1/d) ends at the "
        "loss of muP's rule (embedding LR fixed, hidden LR ~ 1/d), to within 1 % of what training "
        "by muP removes.",
        rule="lv",
        task="corpus-transformer",
        tolerance=0.01,
        citation="contradicts docs/theory/learning_rates.md#which-ratio-when; "
        "Blake et al. 2024, arXiv 2407.17465",
        expected="fails",
    ),
    _claim(
        name="control-race-global",
        statement="Wrong on purpose: for an MLP with muP initialisation on targets of rank two, "
        "two learning rates (LR) tuned at width 32 and left unchanged at a larger width d (256 in "
        "the stored run) end at the loss of muP's rule (embedding LR fixed, hidden LR ~ 1/d), to "
        "within 2 % of what training by muP removes.",
        rule="global",
        task="structured",
        tolerance=0.02,
        citation="contradicts Yang et al. 2022, arXiv 2203.03466; "
        "docs/theory/parametrizations.md#stability-program",
        expected="fails",
    ),
)
