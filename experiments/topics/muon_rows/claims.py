"""The claims about the rows of an embedding under Muon."""

from __future__ import annotations

from functools import partial
from typing import Any

from experiments.topics._claim import NEGATIVE, WRONG, Claim

from .estimators import (
    HALF,
    STARVED,
    best_loss_ratio,
    gauge_ratio,
    length_ratio,
    rarest_exponent,
    scale_exponent,
    sharing_ratio,
    starved_loss_ratio,
)

LAW = "docs/theory/muon_rows.md#muon-rows"
BATCH = "docs/theory/muon_rows.md#muon-rows-batch"
WIDTH = "docs/theory/muon_rows.md#muon-rows-width"
SETTING = (
    "at the first step of networks f = W e with 2,048 tokens under Zipf laws of exponents 1 and "
    "1.5, widths d = 32 to 256, {head}, the orthogonalised gradient of the embedding has rows"
)
REPAIR = "docs/theory/muon_rows.md#muon-rows-repair"
TRAINED = (
    "n softmax networks f = W e with d = 32 and 64, 16 d tokens and 4 d outputs under Zipf's law, "
    "whose readout is trained by Adam at a rate of 0.003, for 600 steps on drawn batches of 256 "
    "tokens {schedule}, each update of the embedding at its own best learning rate,"
)
CONSTANT = TRAINED.format(schedule="at a constant learning rate")
FALLING = TRAINED.format(schedule="at learning rates that fall to zero")
MUON, ROOT = "muon", "fourth root"
BEFORE, AFTER = "row norm, then muon", "muon, then row norm"
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


CLASSES = "docs/theory/muon_rows.md#muon-rows-classes"
SCALES = "docs/theory/muon_rows.md#muon-scales"
SHARED = (
    "t the first step of softmax networks f = W e {start}with 2,048 tokens under Zipf laws of "
    "exponents 1 and 1.5 (widths d = 32 and 64; at exponent 1 also 128), whose targets are drawn "
    "from the token law so that many tokens share one, the orthogonalised gradient of the "
    "embedding has rows"
)
REMEMBERED = (
    "t the first step of softmax networks f = W e with 2,048 tokens under Zipf laws of exponents 1 "
    "and 1.5, a target of its own for each token, widths d = 32 to 256 and batches of 256 tokens, "
    "the orthogonalised momentum (0.95) of the embedding's gradients has rows"
)
BANDS = {"": (STARVED, "below a tenth"), "-half": (HALF, "between 0.1 and 0.9")}


def _sharing(
    name: str, case: str, text: str, band: str, citation: str,
    *, study: str = "muon_sharing", theory: str = "derived", begin: str = "",
) -> Claim:  # fmt: skip
    """About rows that share directions; `begin`: how the statement of a control begins."""
    limits, which = BANDS[band]
    control: dict[str, Any] = {"expected": "fails"} if begin else {}
    end = f" {FAILED}" if begin == NEGATIVE else ""
    return Claim(
        name=f"{'control-' if begin else ''}muon-rows-{name}{band}",
        statement=f"{f'{begin}a' if begin else 'A'}{text}, for tokens at which the law is {which}."
        f"{end}",
        quantity="squared length of a row over the law, geometric mean",
        prediction="1",
        study=study,
        evidence=partial(sharing_ratio, case=case, band=limits, theory=theory),
        tolerance=0.1,
        citation=f"contradicts {citation}" if begin else citation,
        **control,
    )


FAILED = "Registered as a claim that holds, this failed as registered."
CLASS_LAW = "whose squared lengths are those of the leverage law for classes of tokens"
FROM = "(initial embeddings of RMS {std}) "
SHARING = (
    *(
        _sharing(
            *("shared-small-logits", "shared targets"),
            f"{SHARED.format(start=FROM.format(std='0.0001'))} {CLASS_LAW}",
            *(band, CLASSES),
            study="muon_sharing_small",
        )
        for band in BANDS
    ),
    *(
        _sharing(
            *("shared-targets", "shared targets"),
            f"{SHARED.format(start=FROM.format(std='0.1'))} {CLASS_LAW}",
            *(band, CLASSES),
            begin=NEGATIVE,
        )
        for band in BANDS
    ),
    _sharing(
        *("own-targets", "shared targets"),
        f"{SHARED.format(start=FROM.format(std='0.0001'))} whose squared lengths are those of the "
        "leverage law for single tokens",
        *("", f"muon-rows-shared-small-logits; {CLASSES}"),
        study="muon_sharing_small",
        theory="wrong",
        begin=WRONG,
    ),
    *(
        _sharing(
            *("momentum", "momentum"),
            f"{REMEMBERED} whose mean squared lengths are those of one batch of 39 times the "
            "tokens",
            *(band, BATCH),
        )
        for band in BANDS
    ),
    _sharing(
        *("no-momentum", "momentum"),
        f"{REMEMBERED} whose mean squared lengths are those of one batch",
        *("", f"muon-rows-momentum; {BATCH}"),
        theory="wrong",
        begin=WRONG,
    ),
)

INNER = ("square", "up", "down")
OPTAX = (
    "n a residual network with an MLP of four times the width (ReLU, RMS norm, a softmax over the "
    "1,024 byte-pair types of Python's standard library, full batch, d = 32 to 256), {step}"
)
MUON_STEP = "at one learning rate, the first step of Muon with {factor}"
FACTORS = {
    "original": "the factor sqrt(max(1, outputs/inputs))",
    "match-rms": "the factor 0.2 sqrt(max(outputs, inputs))",
}


def _scale(
    name: str, rule: str, matrices: tuple[str, ...], what: str, predicted: float, rival: float,
    tolerance: float = 0.1,
) -> Claim:  # fmt: skip
    step = MUON_STEP.format(factor=FACTORS[rule])
    return Claim(
        name=f"muon-scale-{name}",
        statement=f"I{OPTAX.format(step=step)} {what}.",
        quantity="exponent of d in the size of a step",
        prediction=f"{predicted:g}",
        study="muon_scales",
        evidence=partial(scale_exponent, rule=rule, matrices=matrices, predicted=predicted),
        tolerance=tolerance,
        citation=SCALES if rule == "original" else f"Liu et al. 2025, arXiv 2502.16982; {SCALES}",
        rival=rival,
    )


HIDDEN = "changes what hidden matrices (square, up and down) make of inputs of RMS one by an RMS"
SCALE = (
    _scale("original", "original", INNER, f"{HIDDEN} that does not depend on d", 0.0, 0.5),
    _scale("match-rms", "match-rms", INNER, f"{HIDDEN} that grows as sqrt(d)", 0.5, 0.0),
    _scale(
        *("original-head", "original", ("head",)),
        "changes the logits, over inputs of RMS one, by an RMS that does not depend on d",
        *(0.0, 0.5),
    ),
    _scale(
        *("match-rms-head", "match-rms", ("head",)),
        "changes the logits, over inputs of RMS one, by an RMS that grows as sqrt(d)",
        *(0.5, 0.0),
    ),
    _scale(
        *("embedding", "original", ("embedding",)),
        "moves the entries of the eight most frequent tokens' rows by an RMS that falls as "
        "1/sqrt(d)",
        *(-0.5, 0.0),
        tolerance=0.15,
    ),
    Claim(
        name="muon-scale-gauge",
        statement=f"I{OPTAX.format(step='at one learning rate, the first step of Muon')} changes "
        "what a square matrix, one with more outputs than inputs and the head make of inputs of "
        "RMS one by the RMS that the shape factor gives an exactly orthogonalised update, under "
        "the factors sqrt(max(1, outputs/inputs)) and 0.2 sqrt(max(outputs, inputs)) alike.",
        quantity="RMS of a step's change over the gauge, geometric mean",
        prediction="1",
        study="muon_scales",
        evidence=partial(
            gauge_ratio, rules=("original", "match-rms"), matrices=("square", "up", "head")
        ),
        tolerance=0.15,
        citation=SCALES,
    ),
    Claim(
        name="control-muon-scale-as-adam",
        statement=f"{WRONG}i{OPTAX.format(step='a step of Muon with match-RMS')}'s factor changes "
        "what the matrix behind the ReLU makes of its inputs, at every width, by the same multiple "
        "of what a sign step with entries of that RMS, 0.2, does, so that Adam's learning rates "
        "serve Muon at every width.",
        quantity="exponent of d in the size of Muon's step over that of the sign step",
        prediction="0",
        study="muon_scales",
        evidence=partial(
            scale_exponent, rule="match-rms", matrices=("down",), predicted=0.0, over="sign"
        ),
        tolerance=0.1,
        citation=f"contradicts Liu et al. 2025, arXiv 2502.16982; {SCALES}",
        expected="fails",
    ),
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
    Claim(
        name="muon-rows-repaired",
        statement=f"I{CONSTANT} Muon leaves an excess loss that is 1.1 times that of Muon on a "
        "gradient whose rows were normalised first.",
        quantity="best excess loss, Muon over row norm then Muon",
        prediction="1.1, about that of pilot runs of one seed each",
        study="muon_training",
        evidence=partial(
            best_loss_ratio, update=MUON, other=BEFORE, schedule="constant", predicted=1.1
        ),
        tolerance=0.08,
        citation=REPAIR,
        rival=1.0,
    ),
    Claim(
        name="muon-rows-repaired-after",
        statement=f"I{CONSTANT} Muon leaves an excess loss that is 1.1 times that of Muon whose "
        "update's rows are then given one length.",
        quantity="best excess loss, Muon over Muon then row norm",
        prediction="1.1, about that of pilot runs of one seed each",
        study="muon_training",
        evidence=partial(
            best_loss_ratio, update=MUON, other=AFTER, schedule="constant", predicted=1.1
        ),
        tolerance=0.08,
        citation=REPAIR,
        rival=1.0,
    ),
    Claim(
        name="muon-rows-repair-not-needed",
        statement=f"I{FALLING} Muon leaves the same excess loss as Muon on a gradient whose rows "
        "were normalised first.",
        quantity="best excess loss, Muon over row norm then Muon",
        prediction="1",
        study="muon_training",
        evidence=partial(
            best_loss_ratio, update=MUON, other=BEFORE, schedule="linear", predicted=1.0
        ),
        tolerance=0.08,
        citation=REPAIR,
        rival=1.1,
    ),
    Claim(
        name="muon-rows-repaired-below-adam",
        statement=f"I{CONSTANT} Muon on a gradient whose rows were normalised first leaves 0.92 "
        "times the excess loss of Adam.",
        quantity="best excess loss, row norm then Muon over Adam",
        prediction="0.92, about that of pilot runs of one seed each",
        study="muon_training",
        evidence=partial(
            best_loss_ratio, update=BEFORE, other="adam", schedule="constant", predicted=0.92
        ),
        tolerance=0.06,
        citation=REPAIR,
        rival=1.0,
    ),
    Claim(
        name="muon-rows-fourth-root",
        statement=f"I{CONSTANT} the inverse fourth root of the gradient's square, on the side of "
        "the columns alone, leaves the same excess loss as Muon, so that it repairs nothing.",
        quantity="best excess loss, fourth root over Muon",
        prediction="1",
        study="muon_training",
        evidence=partial(
            best_loss_ratio, update=ROOT, other=MUON, schedule="constant", predicted=1.0
        ),
        tolerance=0.08,
        citation=REPAIR,
        rival=0.91,
    ),
    Claim(
        name="control-muon-rows-one-rate",
        statement=f"{WRONG}i{FALLING.rpartition(', each')[0]}, at one rate that moves entries of "
        "frequent tokens by 1/64 a step at first, Muon leaves on the rarest tokens what it leaves "
        "with rows of one length.",
        quantity="excess loss of tokens of rank above 4 d, Muon over Muon then row norm, at one "
        "rate",
        prediction="1",
        study="muon_training",
        evidence=partial(starved_loss_ratio, octave=-6, schedule="linear"),
        tolerance=0.2,
        citation=f"contradicts {REPAIR}",
        expected="fails",
    ),
    *SHARING,
    *SCALE,
)
