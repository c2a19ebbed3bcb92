"""The claims about the rows of an embedding under Muon."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import WRONG, Claim

from .estimators import (
    HALF,
    STARVED,
    length_ratio,
    rarest_exponent,
)

LAW = "docs/theory/muon_rows.md#muon-rows"
BATCH = "docs/theory/muon_rows.md#muon-rows-batch"
WIDTH = "docs/theory/muon_rows.md#muon-rows-width"
SETTING = (
    "at the first step of networks f = W e with 2,048 tokens under Zipf laws of exponents 1 and "
    "1.5, widths d = 32 to 256, {head}, the orthogonalised gradient of the embedding has rows"
)
OWN = "a softmax over the vocabulary and a target of its own for each token"


def _law(name: str, head: str, words: str, band: tuple[float, float], tolerance: float) -> Claim:
    which = "below a tenth" if band == STARVED else "between 0.1 and 0.9"
    return Claim(
        name=name,
        statement=f"At{SETTING.format(head=words)[2:]} whose squared lengths are those of the "
        f"leverage law, for tokens at which the law is {which}.",
        quantity="squared length of a row over the law, geometric mean",
        prediction="1",
        study="muon_rows",
        evidence=partial(length_ratio, head=head, band=band),
        tolerance=tolerance,
        citation=BATCH if "batch" in head else LAW,
        rival=None,
    )


CLAIMS = (
    _law(
        "muon-rows-squared-error",
        "squared error",
        "squared error of Gaussian targets",
        STARVED,
        0.05,
    ),
    _law("muon-rows-starved", "softmax", OWN, STARVED, 0.08),
    _law("muon-rows-half", "softmax", OWN, HALF, 0.05),
    _law("muon-rows-batch", "softmax, batch", f"{OWN}, a batch of 1,024 tokens", STARVED, 0.1),
    Claim(
        name="muon-rows-width",
        statement=f"At{SETTING.format(head=OWN)[2:]} whose lengths grow for the rarest half of the "
        "tokens like the width d at Zipf exponent 1.",
        quantity="exponent of d in the length of a rare token's row",
        prediction="alpha = 1",
        study="muon_rows",
        evidence=partial(rarest_exponent, head="softmax", exponent=1.0),
        tolerance=0.1,
        citation=WIDTH,
        rival=0.0,
    ),
    Claim(
        name="muon-rows-width-steep",
        statement=f"At{SETTING.format(head=OWN)[2:]} whose lengths grow for the rarest half of the "
        "tokens like d^1.5 at Zipf exponent 1.5.",
        quantity="exponent of d in the length of a rare token's row",
        prediction="alpha = 1.5",
        study="muon_rows",
        evidence=partial(rarest_exponent, head="softmax", exponent=1.5),
        tolerance=0.15,
        citation=WIDTH,
        rival=1.0,
    ),
    Claim(
        name="control-muon-rows-alike",
        statement=f"{WRONG}at{SETTING.format(head=OWN)[2:]} of one length for all tokens, the "
        "squared length being d over the number of tokens, also where the law is below a tenth.",
        quantity="squared length of a row over d/m, geometric mean",
        prediction="1",
        study="muon_rows",
        evidence=partial(length_ratio, head="softmax", band=STARVED, alike=True),
        tolerance=0.3,
        citation=f"contradicts muon-rows-starved; {LAW}",
        expected="fails",
    ),
)
