"""Claims about embedding LR / hidden LR in networks with a hidden layer, against d and sqrt(d)."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import Claim, Verdict

from .estimators import TOLERANCE, joint, layerwise

HAYOU_LIU = "Hayou & Liu 2025, arXiv 2506.15025; docs/theory/learning_rates.md#greedy-ratio"
HIDDEN_STEP = "docs/theory/first_step.md#hidden-step"
QUANTITY = "exponent of d in the layer-wise eta_embedding*/eta_hidden*, 16 steps"
JOINT_QUANTITY = "exponent of d in the jointly tuned eta_embedding*/eta_hidden*, last evaluation"


def _claim(
    *,
    name: str,
    case: str,
    statement: str,
    prediction: str,
    citation: str,
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
    )


def _control(
    *,
    name: str,
    case: str,
    statement: str,
    held_against: float,
    prediction: str,
    citation: str,
) -> Claim:
    """The layer-wise optimal ratio held against an exponent that is wrong on purpose."""
    return Claim(
        name=name,
        statement=f"Wrong on purpose: {statement}",
        quantity=QUANTITY,
        prediction=prediction,
        study="optimal_ratio",
        evidence=partial(layerwise, case=case, held_against=held_against),
        tolerance=TOLERANCE,
        citation=citation,
        expected="fails",
    )


def _text_control(*, name: str, case: str, network: str, types: int) -> Claim:
    """The jointly optimal ratio on real text held against sqrt(d)."""
    return Claim(
        name=name,
        statement=f"In {network} trained on real text with {types:,} token types, the embedding "
        "learning rate over the hidden learning rate at their joint optimum grows like sqrt(d), "
        "the published rule for large vocabularies.",
        quantity=JOINT_QUANTITY,
        prediction="1/2",
        study="optimal_ratio",
        evidence=partial(joint, case=case, exponent=0.5),
        tolerance=TOLERANCE,
        citation=HAYOU_LIU,
        expected="fails",
    )


RATIO = (
    "the optimal embedding learning rate over the optimal hidden learning rate after 16 steps, "
    "each tuned with the other layer frozen,"
)
MLP = "an MLP with one hidden layer under Adam"

CLAIMS = (
    _claim(
        name="hidden-ratio-fixed",
        case="fixed",
        statement=f"In {MLP} with a fixed vocabulary (m = 16), {RATIO} grows like the width d.",
        prediction="1",
        citation=HIDDEN_STEP,
        expected="undecided",
    ),
    _claim(
        name="hidden-ratio-proportional",
        case="proportional",
        statement=f"In {MLP} with a vocabulary m = 4d, {RATIO} grows like sqrt(d).",
        prediction="1/2",
        citation=f"Hayou & Liu 2025, arXiv 2506.15025; {HIDDEN_STEP}",
    ),
    _claim(
        name="hidden-ratio-superlinear",
        case="superlinear",
        statement=f"In {MLP} with a vocabulary m = d^2/8, {RATIO} grows like sqrt(d), where with "
        "the linear model's projection it grows like sqrt(m), that is like d.",
        prediction="1/2",
        citation=HIDDEN_STEP,
    ),
    _claim(
        name="hidden-ratio-structured",
        case="structured",
        statement=f"In {MLP} with a vocabulary m = 4d and targets of rank one, {RATIO} grows like "
        "sqrt(d), as with unstructured targets.",
        prediction="1/2",
        citation=HIDDEN_STEP,
    ),
    _claim(
        name="hidden-ratio-sign",
        case="sign",
        statement="In an MLP with one hidden layer under sign descent with a vocabulary m = 4d, "
        f"{RATIO} grows like sqrt(d), as under Adam.",
        prediction="1/2",
        citation=HIDDEN_STEP,
        expected="undecided",
    ),
    _claim(
        name="hidden-ratio-muon",
        case="muon",
        statement=f"In an MLP with one hidden layer under Muon with a vocabulary m = 4d, {RATIO} "
        "does not depend on the width d, since the size of Muon's update does not depend on its "
        "alignment with the tokens.",
        prediction="0",
        citation="docs/theory/first_step.md#muon-step",
        expected="undecided",
    ),
    _control(
        name="control-hidden-ratio-fixed",
        case="fixed",
        statement=f"in {MLP} with a fixed vocabulary (m = 16), {RATIO} grows like sqrt(d).",
        held_against=0.5,
        prediction="1/2",
        citation=f"contradicts hidden-ratio-fixed; {HIDDEN_STEP}",
    ),
    _control(
        name="control-hidden-ratio-proportional",
        case="proportional",
        statement=f"in {MLP} with a vocabulary m = 4d, {RATIO} grows like d.",
        held_against=1.0,
        prediction="1",
        citation=f"contradicts hidden-ratio-proportional; {HIDDEN_STEP}",
    ),
    _control(
        name="control-hidden-ratio-superlinear",
        case="superlinear",
        statement=f"in {MLP} with a vocabulary m = d^2/8, {RATIO} grows like sqrt(m), that is "
        "like d, as with the linear model's projection.",
        held_against=1.0,
        prediction="1",
        citation=f"contradicts hidden-ratio-superlinear; {HIDDEN_STEP}",
    ),
    _text_control(
        name="control-text-mlp-root", case="corpus-63804", network="an MLP", types=63_804
    ),
    _text_control(
        name="control-text-transformer-root",
        case="transformer-4096",
        network="a transformer",
        types=4096,
    ),
)
