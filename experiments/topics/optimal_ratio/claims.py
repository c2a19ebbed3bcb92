"""Claims about embedding LR / hidden LR in networks with a hidden layer, against d and sqrt(d)."""

from __future__ import annotations

from functools import partial

from dynsim.claims import Verdict
from experiments.topics._claim import NEGATIVE, Claim

from .estimators import TOLERANCE, joint, layerwise
from .study import CASES

HAYOU_LIU = "Hayou & Liu 2025, arXiv 2506.15025"
RATIO_BY_SETTING = "docs/theory/learning_rates.md#which-ratio-when"
QUANTITY = "exponent of d in the layer-wise eta_embedding*/eta_hidden*, 16 steps"
JOINT_QUANTITY = "exponent of d in the jointly tuned eta_embedding*/eta_hidden*, last evaluation"


def _claim(
    *,
    name: str,
    case: str,
    statement: str,
    prediction: str,
    citation: str,
    rival: float,
    expected: Verdict = "holds",
) -> Claim:
    """A claim on the layer-wise optimal ratio against its derived exponent."""
    return Claim(
        name=name,
        statement=statement,
        quantity=QUANTITY,
        prediction=prediction,
        study="optimal_ratio",
        evidence=partial(layerwise, case=case),
        tolerance=TOLERANCE,
        citation=citation,
        expected=expected,
        rival=rival,
    )


def _text_control(*, name: str, cases: tuple[str, ...], network: str, types: str) -> Claim:
    """The jointly optimal ratio on real text held against sqrt(d)."""
    return Claim(
        name=name,
        statement=f"{NEGATIVE}in {network} with muP's initial weights, trained by Adam on real "
        f"text, the embedding learning rate over the hidden learning rate at their joint optimum "
        "grows like the square root of the width d, the published rule for large vocabularies, on "
        f"average over vocabularies of {types} token types.",
        quantity=JOINT_QUANTITY,
        prediction="1/2",
        study="optimal_ratio",
        evidence=partial(joint, cases=cases, exponent=0.5),
        tolerance=TOLERANCE,
        citation=f"contradicts {RATIO_BY_SETTING}; {HAYOU_LIU}",
        expected="fails",
    )


RATIO = (
    "the optimal embedding learning rate over the optimal hidden learning rate after 16 steps, "
    "each tuned with the other layer frozen,"
)
MLP = "an MLP with muP initialisation and one hidden layer of width d under Adam"

CLAIMS = (
    _claim(
        name="hidden-ratio-fixed",
        case="fixed",
        statement=f"In {MLP} with a fixed vocabulary (m = 16 token types), {RATIO} grows like the "
        "width d.",
        prediction="1",
        citation=RATIO_BY_SETTING,
        expected="undecided",
        rival=0.5,
    ),
    _claim(
        name="hidden-ratio-proportional",
        case="proportional",
        statement=f"In {MLP} with m = 4d token types, {RATIO} grows like sqrt(d).",
        prediction="1/2",
        citation=f"{HAYOU_LIU}; {RATIO_BY_SETTING}",
        rival=1.0,
        expected="undecided",
    ),
    _claim(
        name="hidden-ratio-superlinear",
        case="superlinear",
        statement=f"In {MLP} with m = d^2/8 token types, {RATIO} grows like sqrt(d), where "
        "with the projection of a linear network (embedding and projection) in place of the "
        "hidden layer it grows like sqrt(m), that is like d.",
        prediction="1/2",
        citation=RATIO_BY_SETTING,
        rival=1.0,
        expected="undecided",
    ),
    _claim(
        name="hidden-ratio-structured",
        case="structured",
        statement=f"In {MLP} with m = 4d token types and targets of rank one, {RATIO} grows like "
        "sqrt(d), as with unstructured targets, at widths from 64 to 256.",
        prediction="1/2",
        citation=RATIO_BY_SETTING,
        rival=1.0,
    ),
    _claim(
        name="hidden-ratio-sign",
        case="sign",
        statement="In an MLP with muP initialisation and one hidden layer of width d under sign "
        f"descent with m = 4d token types, {RATIO} grows like sqrt(d), as under Adam.",
        prediction="1/2",
        citation=RATIO_BY_SETTING,
        expected="undecided",
        rival=1.0,
    ),
    _claim(
        name="hidden-ratio-muon",
        case="muon",
        statement="In an MLP with muP initialisation and one hidden layer of width d under Muon "
        f"with m = 4d token types, {RATIO} does not depend on the width d, since an "
        "update of full rank by Muon has one size whatever its alignment with the tokens.",
        prediction="0",
        citation="docs/theory/first_step.md#muon-step",
        expected="undecided",
        rival=0.5,
    ),
    _text_control(
        name="control-text-mlp-root",
        cases=tuple(case for case in CASES if case.startswith("corpus-")),
        network="an MLP",
        types="256 to 63,804",
    ),
    _text_control(
        name="control-text-transformer-root",
        cases=tuple(case for case in CASES if case.startswith("transformer-")),
        network="a transformer",
        types="256 to 4,096",
    ),
)
