"""The claims about whose learning restores the alignment of matrices above the embedding."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import NEGATIVE, WRONG, Claim

from .estimators import alignment_exponent

STUDY = "depth_alignment"
TOGETHER = "docs/theory/learning_rates.md#matrices-together"
END_OF_LV = "docs/theory/lv_lifetime.md#end-of-lv"
NAMES = {
    "first hidden": "the first hidden matrix",
    "second hidden": "the second hidden matrix",
    "readout": "the readout",
}
SHORT = {"first hidden": "first", "second hidden": "second", "readout": "readout"}
# Registered as a claim that holds, which it did with six networks; with 24 its interval reaches out
# of the band, since the mean field at these widths has 1.06.
UNDECIDED = ("depth-alignment-readout",)
POWERS = {0.5: "sqrt(d)", 1.0: "the width d"}


def _claim(
    name: str, embedding: str, matrix: str, power: float, *, step: int = 8, wrong: str = ""
) -> Claim:
    steps = f"after {step} steps" if step > 1 else "after one step"
    return Claim(
        name=name,
        statement=f"{wrong}{'in' if wrong else 'In'} a plain linear network of "
        "two hidden matrices under muP initialisation and sign descent, with m = 16d token types, "
        "all matrices above the embedding trained at rates proportional to 1/d and the embedding "
        f"{embedding}, at widths d = 64 to 256, {steps} the update of {NAMES[matrix]} on what "
        f"{NAMES[matrix]} then reads grows, over the learning rate, like {POWERS[power]}.",
        quantity="exponent of d in RMS((W_t - W_0) z_t) / LR",
        prediction=f"{power:g}",
        study=STUDY,
        evidence=partial(
            alignment_exponent, embedding=embedding, matrix=matrix, step=step, predicted=power
        ),
        tolerance=0.1,
        citation=f"contradicts {END_OF_LV}" if wrong else f"{TOGETHER}; {END_OF_LV}",
        rival=1.5 - power,
        expected="fails" if wrong else "undecided" if name in UNDECIDED else "holds",
    )


CLAIMS = (
    _claim("depth-alignment-first-frozen", "frozen", "first hidden", 0.5),
    *(_claim(f"depth-alignment-{SHORT[matrix]}", "trained", matrix, 1.0) for matrix in NAMES),
    # Registered as claims that hold; the mean field has 1/2 there from d = 10,000 on only.
    *(
        _claim(f"control-depth-alignment-{SHORT[matrix]}", "frozen", matrix, 0.5, wrong=NEGATIVE)
        for matrix in ("second hidden", "readout")
    ),
    _claim("control-depth-alignment", "frozen", "second hidden", 1.0, step=4, wrong=WRONG),
)
