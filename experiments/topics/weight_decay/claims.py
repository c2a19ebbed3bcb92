"""The claims about weights at the equilibrium of AdamW."""

from __future__ import annotations

from functools import partial
from typing import Any

from experiments.topics._claim import NEGATIVE, WRONG, Claim

from .estimators import (
    FREQUENT,
    PINNED,
    RARE,
    hidden_exponent,
    hidden_ratio,
    size_exponent,
    size_ratio,
    turn_ratio,
)
from .study import BETAS

SIZE = "docs/theory/weight_decay.md#decay-equilibrium"
WORTH = "docs/theory/weight_decay.md#visit-worth"
TURN = "docs/theory/weight_decay.md#decay-rotation"
WIDTH = "docs/theory/weight_decay.md#decay-and-width"
KOSSON = "Kosson et al. 2023, arXiv 2305.17212"
KOSSON_WIDTH = "Kosson et al. 2025, arXiv 2510.19093"
FAN = "Fan et al. 2025, arXiv 2510.15262"
NOISE = "rows whose gradient is Gaussian noise at random visits, by Adam with decoupled decay,"
NETWORK = (
    "the embedding of a softmax network that reads normalised rows (256 tokens, Zipf exponent 1.5, "
    "batches of 8, targets drawn at every visit) under AdamW"
)
HIDDEN = (
    "hidden matrices before a normalisation in residual networks of widths d = 16 to 64 under "
    "AdamW with learning rates in proportion to 1/d and a coupled lambda in proportion to {decay}"
)

INDEPENDENT = (
    "hidden matrices before a normalisation in residual networks of widths d = 16 to 64 under "
    "Adam with an independent decay, a learning rate {rate} and a lambda {decay}"
)
PLAIN = {"1": "that is the same at every width", "1/d": "in proportion to 1/d",
         "d": "in proportion to d"}  # fmt: skip


def _ratio(name: str, statement: str, quantity: str, **options: Any) -> Claim:
    return Claim(name=name, statement=statement, quantity=quantity, prediction="1", **options)


def _by_width(power: float, words: str, quantity: str, predicted: float, rival: float) -> Claim:
    """Of a quantity of hidden matrices for one power of the width in lambda."""
    short = {0.0: "constant", 0.5: "root", 1.0: "width"}[power]
    what = {
        "square": "entries whose RMS falls as the root of eta/lambda",
        "step": "steps that turn them as the root of eta times lambda",
    }[quantity]
    over = "square" if quantity == "step" else None
    label = "size" if quantity == "square" else "turn"
    return Claim(
        name=f"weight-decay-{label}-{short}",
        statement=f"At equilibrium {HIDDEN.format(decay=words)} have {what}.",
        quantity=f"exponent of d in the {'RMS of entries' if over is None else 'turn of a step'}",
        prediction=f"{predicted:g}",
        study="decay_width",
        evidence=partial(hidden_exponent, quantity=quantity, power=power, predicted=predicted,
                         over=over),
        tolerance=0.1,
        citation=f"{KOSSON}; {SIZE if over is None else TURN}",
        rival=rival,
    )  # fmt: skip


def _independent(
    name: str, rule: str, quantity: str, what: str, predicted: float, rival: float | None,
    citation: str, begin: str = "", **options: Any,
) -> Claim:  # fmt: skip
    """Of a quantity of hidden matrices under independent decay by one of the rules."""
    rate, decay = (PLAIN[part] for part in rule.split(", "))
    named = {
        "square": "RMS of entries",
        "step": "turn of a step",
        "largest": "largest singular value",
    }[quantity]
    about = INDEPENDENT.format(rate=rate, decay=decay)
    return Claim(
        name=name,
        statement=f"{begin}{'a' if begin else 'A'}t equilibrium {about} have {what}.",
        quantity=f"exponent of d in the {named}",
        prediction=f"{predicted:g}",
        study="decay_independent",
        evidence=partial(hidden_exponent, quantity=quantity, rule=rule, predicted=predicted,
                         over="square" if quantity == "step" else None),
        tolerance=0.1,
        citation=citation,
        rival=rival,
        **options,
    )  # fmt: skip


CLAIMS = (
    _ratio(
        "weight-decay-rows-noise",
        f"At equilibrium {NOISE} have the derived size, at visits from every step to one in 2,048 "
        "steps, under coupled and under independent decay.",
        "RMS of rows over the law, geometric mean",
        study="decay_rows",
        evidence=partial(size_ratio, source="noise"),
        tolerance=0.05,
        citation=f"{WORTH}; {SIZE}",
    ),
    _ratio(
        "weight-decay-rows-network",
        f"At equilibrium {NETWORK} has rows of the derived size for tokens with at most two visits "
        "within the memory of the second moment.",
        "RMS of rows over the law, geometric mean",
        study="decay_rows",
        evidence=partial(size_ratio, source="network", band=RARE),
        tolerance=0.15,
        citation=f"{WORTH}; {SIZE}",
    ),
    _ratio(
        "weight-decay-rows-one-moment",
        f"At equilibrium {NETWORK} with one second moment for all entries of a row has rows of the "
        "derived size for the most frequent tokens as well, with visits in a tenth of all steps "
        "or more.",
        "RMS of rows over the law, geometric mean",
        study="decay_rows",
        evidence=partial(size_ratio, source="network, one moment a row", band=PINNED),
        tolerance=0.12,
        citation=SIZE,
    ),
    Claim(
        name="weight-decay-rare-tokens",
        statement=f"At equilibrium {NOISE} have a size that falls with the visits a step for rows "
        "of at most one visit within the memory of the second moment, by the derived slope at "
        "these visits, which becomes 1/2.",
        quantity="exponent of visits in the RMS of rows",
        prediction="slope of the derived RMS, 0.36",
        study="decay_rows",
        evidence=partial(size_exponent, source="noise", band=(0.0, 1.0)),
        tolerance=0.06,
        citation=WORTH,
        rival=0.0,
    ),
    Claim(
        name="weight-decay-frequent-tokens",
        statement=f"At equilibrium {NOISE} have a size that does not depend on how often they are "
        "visited, for rows of five or more visits within the memory of the second moment.",
        quantity="exponent of visits in the RMS of rows",
        prediction="0 for frequent visits",
        study="decay_rows",
        evidence=partial(size_exponent, source="noise", band=FREQUENT, predicted=0.0),
        tolerance=0.06,
        citation=WORTH,
        rival=0.5,
    ),
    _ratio(
        "weight-decay-turn",
        f"At equilibrium {NOISE} turn at one rate, the decay of a step, whatever the visits.",
        "turn in 128 steps over the law, geometric mean",
        study="decay_rows",
        evidence=partial(turn_ratio, source="noise"),
        tolerance=0.06,
        citation=TURN,
    ),
    _ratio(
        "weight-decay-turn-network",
        f"At equilibrium {NETWORK} has rows that turn by the decay of a step for tokens with at "
        "most two visits within the memory of the second moment.",
        "turn in 128 steps over the law, geometric mean",
        study="decay_rows",
        evidence=partial(turn_ratio, source="network", band=RARE),
        tolerance=0.1,
        citation=TURN,
    ),
    _ratio(
        "control-weight-decay-turn-frequent",
        f"{WRONG}at equilibrium {NETWORK} has rows that turn by the decay of a step for frequent "
        "tokens too, although their targets pull them back.",
        "turn in 128 steps over the law of noise, geometric mean",
        study="decay_rows",
        evidence=partial(turn_ratio, source="network", band=PINNED),
        tolerance=0.1,
        citation=f"contradicts {TURN}",
        expected="fails",
    ),
    _ratio(
        "control-weight-decay-entrywise",
        f"{WRONG}at equilibrium {NETWORK} has rows of the derived size for the most frequent "
        "tokens, although moments of each entry turn updates out of the tangent.",
        "RMS of rows over the law, geometric mean",
        study="decay_rows",
        evidence=partial(size_ratio, source="network", band=PINNED),
        tolerance=0.12,
        citation=f"contradicts weight-decay-rows-one-moment; {SIZE}",
        expected="fails",
    ),
    _ratio(
        "control-weight-decay-one-step",
        f"{WRONG}at equilibrium {NOISE} have the size that follows from the mean square of a "
        "single update, (1 - beta_1)/(1 + beta_1), in place of the long-run variance.",
        "RMS of rows over that size, geometric mean",
        study="decay_rows",
        evidence=partial(
            size_ratio,
            source="noise",
            band=FREQUENT,
            momentum_share=(1 - BETAS[0]) / (1 + BETAS[0]),
        ),
        tolerance=0.1,
        citation=f"contradicts {SIZE}",
        expected="fails",
    ),
    _ratio(
        "weight-decay-hidden",
        f"At equilibrium {HIDDEN.format(decay='1, d^0.5 and d')} have entries of the derived RMS, "
        "about the root of eta/(2 lambda).",
        "RMS of entries over the law, geometric mean",
        study="decay_width",
        evidence=hidden_ratio,
        tolerance=0.15,
        citation=f"{KOSSON}; {SIZE}",
    ),
    _by_width(0.0, "1", "square", -0.5, -1.0),
    _by_width(0.5, "d^0.5", "square", -0.75, -1.0),
    _by_width(1.0, "d", "square", -1.0, -0.5),
    _by_width(0.0, "1", "step", -0.5, 0.0),
    _by_width(0.5, "d^0.5", "step", -0.25, 0.0),
    _by_width(1.0, "d", "step", 0.0, -0.5),
    Claim(
        name="weight-decay-largest",
        statement=f"At equilibrium {HIDDEN.format(decay='d^0.5')}, which read ReLU features, have "
        "a largest singular value that grows like d times the RMS of their entries, as weights of "
        "one direction have, and not like d^0.5, as noise has.",
        quantity="exponent of d in the largest singular value over the RMS of entries",
        prediction="1",
        study="decay_width",
        evidence=partial(
            hidden_exponent, quantity="largest", power=0.5, predicted=1.0, over="square"
        ),
        tolerance=0.1,
        citation=WIDTH,
        rival=0.75,
    ),
    Claim(
        name="not-seen-weight-decay-root",
        statement=f"At equilibrium {HIDDEN.format(decay='d^0.5')} have the same largest singular "
        "value at every width.",
        quantity="exponent of d in the largest singular value",
        prediction="0",
        study="decay_width",
        evidence=partial(hidden_exponent, quantity="largest", power=0.5, predicted=0.0),
        tolerance=0.1,
        citation=f"{FAN}; {WIDTH}",
        expected="fails",
    ),
    Claim(
        name="weight-decay-relative-update",
        statement=f"At equilibrium {HIDDEN.format(decay='d')} add in a step the same share of "
        "their output at every width, as updates do that are as aligned as the weights.",
        quantity="exponent of d in what a step adds over the output",
        prediction="0, the power of the turn",
        study="decay_width",
        evidence=partial(hidden_exponent, quantity="added", power=1.0, predicted=0.0, over="there"),
        tolerance=0.2,
        citation=WIDTH,
        rival=0.5,
    ),
    _ratio(
        "weight-decay-hidden-independent",
        "At equilibrium hidden matrices before a normalisation in residual networks of widths "
        "d = 16 to 64 under Adam with an independent decay have entries of the derived RMS, about "
        "eta over the root of 2 lambda, by three rules for both: eta ~ 1/d, eta constant, and "
        "eta ~ 1/d with lambda ~ d.",
        "RMS of entries over the law, geometric mean",
        study="decay_independent",
        evidence=hidden_ratio,
        tolerance=0.15,
        citation=f"{KOSSON}; {SIZE}",
    ),
    _independent(
        "weight-decay-turn-independent",
        *("1/d, 1", "step", "steps that turn them by one angle at every width", 0.0, -0.5),
        f"{KOSSON_WIDTH}; {WIDTH}",
    ),
    _independent(
        "weight-decay-turn-independent-rate",
        *("1, 1", "step", "steps that turn them by one angle at every width", 0.0, 0.5),
        f"{KOSSON_WIDTH}; {WIDTH}",
    ),
    _independent(
        "control-weight-decay-turn-independent-width",
        *("1/d, d", "step", "steps that turn them as the root of lambda", 0.5, None),
        f"contradicts {TURN}",
        begin=NEGATIVE,
        expected="fails",
    ),
    _independent(
        "weight-decay-size-independent",
        *("1/d, 1", "square", "entries whose RMS falls as the learning rate", -1.0, -0.5),
        f"{KOSSON}; {SIZE}",
    ),
    _independent(
        "weight-decay-size-independent-rate",
        *("1, 1", "square", "entries of one RMS at every width", 0.0, -1.0),
        f"{KOSSON}; {SIZE}",
    ),
    _independent(
        "weight-decay-gain-independent",
        *(
            "1/d, 1",
            "largest",
            "the same largest singular value at every width, as weights of one direction have",
            0.0,
            -0.25,
        ),
        WIDTH,
        expected="undecided",
    ),
)
