"""The claims about language-model heads: which steps add up coherently, which rates are best."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import NEGATIVE, Claim

from .estimators import CORRECTION, rate_exponent, restoration, step_exponent

TEXT = (
    "an mlp with one hidden layer (tanh, RMS norm, muP's initial weights) that predicts the next "
    "byte-pair token of Python's standard library"
)
GROWING = "d = 32 to 128 and m = n = 8 d"
STEP = "exponent of d of a step's RMS at constant rates"
RATE = "exponent of d of the best rate beyond muP's"
HEAD_STEP = "docs/theory/first_step.md#head-step"
MUP = "docs/theory/parametrizations.md#stability-program; Yang et al. 2022, arXiv 2203.03466"
FAILED = "Registered as a claim that holds, this failed as registered."

# All four were registered as claims that hold and failed; predictions and bands are as registered.
STEPS = (
    Claim(
        name="control-head-step-on-targets",
        statement=f"{NEGATIVE}in {TEXT} from a softmax over all m types ({GROWING}, full "
        "batch), the first Adam step of the head changes the logits of the tokens that do follow, "
        "each pair at its frequency, by an RMS that grows as d at a constant rate, although m "
        f"grows with d. {FAILED}",
        quantity=STEP,
        prediction="1",
        rival=0.5,
        study="head_updates",
        evidence=partial(step_exponent, path="proportional", update="head_target"),
        tolerance=0.15,
        citation=f"contradicts {HEAD_STEP}",
        expected="fails",
    ),
    Claim(
        name="control-head-step-on-all-logits",
        statement=f"{NEGATIVE}in {TEXT} from a softmax over all m types ({GROWING}, full "
        "batch), the first Adam step of the head changes all logits, tokens at their frequency, by "
        "an RMS that grows as sqrt(d) at a constant rate, as updates of random signs do. "
        f"{FAILED}",
        quantity=STEP,
        prediction="1/2",
        rival=1.0,
        study="head_updates",
        evidence=partial(step_exponent, path="proportional", update="head_all", predicted=0.5),
        tolerance=0.15,
        citation=f"contradicts {HEAD_STEP}",
        expected="fails",
    ),
    Claim(
        name="control-head-hidden-step",
        statement=f"{NEGATIVE}in {TEXT} from a softmax over all m types ({GROWING}, full "
        "batch), the first Adam step of the hidden matrix changes its outputs by an RMS that grows "
        f"as d at a constant rate, as muP assumes. {FAILED}",
        quantity=STEP,
        prediction="1",
        rival=0.5,
        study="head_updates",
        evidence=partial(step_exponent, path="proportional", update="hidden"),
        tolerance=0.15,
        citation="contradicts docs/theory/first_step.md#hidden-step",
        expected="fails",
    ),
    Claim(
        name="control-head-restoration",
        statement=f"{NEGATIVE}the hidden matrix below a softmax over all m types regains its "
        f"alignment no sooner and no later than below 16 classes: in {TEXT} ({GROWING}, "
        "full batch, Adam), the exponent of d of a hidden step's RMS, averaged over the "
        f"logarithms at steps 2, 4, 8 and 16, is the same for both to within 0.1. {FAILED}",
        quantity="difference of two exponents of d",
        prediction="0",
        rival=0.25,
        study="head_updates",
        evidence=partial(restoration, path="proportional"),
        tolerance=0.1,
        citation="contradicts docs/theory/lv_lifetime.md#outputs-and-structure",
        expected="fails",
    ),
)


TRAINED = f"In {TEXT} from a softmax over all m types ({GROWING}, Adam, 48 steps of 512 tokens)"
RATES = (
    Claim(
        name="head-readout-rate",
        statement=f"{TRAINED}, the best rate of the head, with the others at theirs, goes as "
        "1/d, as muP has it. The rival is a readout rate that grows like d^0.23 beyond muP's.",
        quantity=RATE,
        prediction="0",
        rival=CORRECTION,
        study="head_rates",
        evidence=partial(rate_exponent, path="proportional", layer="head"),
        tolerance=0.1,
        citation=f"{MUP}; docs/theory/open_questions.md#open-head",
        expected="undecided",
    ),
    Claim(
        name="head-embedding-rate",
        statement=f"{TRAINED}, the best rate of the embedding, with the others at theirs, does "
        "not depend on d, as muP has it.",
        quantity=RATE,
        prediction="0",
        rival=-0.5,
        study="head_rates",
        evidence=partial(rate_exponent, path="proportional", layer="embedding"),
        tolerance=0.15,
        citation=MUP,
        expected="undecided",
    ),
)


CLAIMS = (*STEPS, *RATES)
