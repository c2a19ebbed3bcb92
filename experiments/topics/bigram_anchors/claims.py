"""Claims about one-hot bigram tasks under gradient descent and sign descent."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import Claim

from .estimators import flow_distance, steps_over_theory, vocabulary_exponent

PAPER = "Kunstner & Bach 2025, arXiv 2505.19227"
SOURCE = f"{PAPER}; docs/theory/gradient_flow.md#one-hot-bigrams"
ONE_HOT = (
    "A linear model of one-hot tokens (bigram model, mean squared error, full batch), whose "
    "frequencies fall with their rank like i^-alpha"
)
THEORY = (
    "the networks' vocabularies go from 100 to 10,000 and those of the closed form from 10,000 to "
    "1,000,000"
)
GRADIENT = (
    f"{ONE_HOT}, is trained on targets of equal size by gradient descent from small random "
    "weights with learning rate 1/p_1"
)
SIGN = (
    f"{ONE_HOT}, and targets from output to output in the same way, is trained by sign descent "
    "from small random weights with the best learning rate for each number of steps"
)
STEPS = "exponent in the vocabulary of the steps to a tenth of the initial loss"
DESCENTS = ("gradient 1", "gradient 1/2", "gradient 2", "sign 1", "sign 1/4", "sign 2")


def _exponent(name: str, descent: str, predicted: float, tolerance: float, rival: float) -> dict:
    return {
        "name": name,
        "quantity": STEPS,
        "study": "bigram_steps",
        "evidence": partial(vocabulary_exponent, descent=descent, predicted=predicted),
        "tolerance": tolerance,
        "citation": SOURCE,
        "rival": rival,
    }


CLAIMS = (
    Claim(
        **_exponent("bigram-gradient-zipf", "gradient 1", 0.9, 0.08, 0.5),
        statement=f"{GRADIENT}. At alpha = 1 the steps to a tenth of the initial loss grow with "
        f"the vocabulary like a power near one, with the limit 0.9; {THEORY}.",
        prediction="1 - epsilon at the relative loss epsilon",
    ),
    Claim(
        **_exponent("bigram-gradient-half", "gradient 1/2", 0.5, 0.04, 0.9),
        statement=f"{GRADIENT}. At alpha = 1/2 the steps to a tenth of the initial loss grow with "
        f"the root of the vocabulary; {THEORY}.",
        prediction="alpha, where it is below 1",
    ),
    Claim(
        **_exponent("bigram-gradient-steep", "gradient 2", 0.0, 0.06, 0.9),
        statement=f"{GRADIENT}. At alpha = 2 the steps to a tenth of the initial loss do not grow "
        f"with the vocabulary; {THEORY}.",
        prediction="0, where alpha is above 1",
    ),
    Claim(
        **_exponent("bigram-sign-zipf", "sign 1", 0.5, 0.04, 0.9),
        statement=f"{SIGN}. At alpha = 1 the steps to a tenth of the initial loss grow with the "
        f"root of the vocabulary; {THEORY}.",
        prediction="1/2, where alpha is above 1/2",
    ),
    Claim(
        **_exponent("bigram-sign-flat", "sign 1/4", 0.0, 0.1, 0.5),
        statement=f"{SIGN}. At alpha = 1/4 the steps to a tenth of the initial loss do not grow "
        f"like a power of the vocabulary; {THEORY}.",
        prediction="0, where alpha is below 1/2",
    ),
    Claim(
        **_exponent("bigram-sign-steep", "sign 2", 0.5, 0.04, 0.0),
        statement=f"{SIGN}. At alpha = 2, where gradient descent takes a fixed number, the steps "
        f"to a tenth of the initial loss grow with the root of the vocabulary; {THEORY}.",
        prediction="1/2, where alpha is above 1/2",
    ),
    Claim(
        name="bigram-steps",
        statement="In linear models of one-hot tokens (mean squared error, full batch) gradient "
        "descent and sign descent from small random weights take the steps of the closed forms to "
        "a tenth of the initial loss, to within 3 % on average over power laws (1/4, 1/2, 1, 2) "
        "and vocabularies up to 10,000.",
        quantity="steps of networks over those of the closed form",
        prediction="1",
        study="bigram_steps",
        evidence=partial(steps_over_theory, descents=DESCENTS),
        tolerance=0.03,
        citation="docs/theory/gradient_flow.md#one-hot-bigrams",
    ),
    Claim(
        name="bigram-flow",
        statement="A wide linear model whose embedding alone is trained, by gradient descent in "
        "small steps on Zipf's law, is the gradient flow of one-hot tokens: its mean loss is to "
        "within 2 % of the initial loss the sum over tokens of p_i exp(-2 p_i t/p_1), t in "
        "learning rates.",
        quantity="largest distance of the relative loss from the closed form",
        prediction="0",
        study="bigram_flow",
        evidence=flow_distance,
        tolerance=0.02,
        citation="docs/theory/gradient_flow.md#one-hot-bigrams",
    ),
    Claim(
        name="control-bigram-sign-even-steps",
        statement="Wrong on purpose: a linear model of one-hot tokens under Zipf's law is trained "
        "by sign descent from weights next to zero, and looked at after even numbers of steps "
        "alone. The steps to a tenth of the initial loss, at the best learning rate, grow with "
        "the root of the vocabulary.",
        quantity=STEPS,
        prediction="1/2",
        study="bigram_steps",
        evidence=partial(vocabulary_exponent, descent="sign 1, even steps", predicted=0.5),
        tolerance=0.04,
        citation=f"contradicts {PAPER}; docs/theory/gradient_flow.md#one-hot-bigrams",
        expected="fails",
    ),
)
