"""Claims about the transfer of one base learning rate in the linear model, rule by rule."""

from __future__ import annotations

from functools import partial

from dynsim.claims import Verdict
from experiments.topics._claim import LINEAR_MODEL, Claim

from .estimators import (
    above_floor,
    drift,
    early_penalty,
    frozen_limit,
    limit_drift,
    limit_loss,
    networks_against_theory,
)

TUNED_RATE = "docs/theory/parametrizations.md#tuned-base-rate"
IN_THEORY = "docs/theory/transfer.md#transfer-in-theory"

SETTINGS = {
    "fixed": "under muP initialisation with m = 16",
    "proportional": "under muP initialisation with m = 4d",
    "fixed-sp": "under standard initialisation (SP) with m = 16",
    "proportional-sp": "under standard initialisation (SP) with m = 4d",
}
RULE_NAMES = {
    "width": "by muP's rule (embedding LR fixed, projection LR ~ 1/d)",
    "root": "by the rule embedding LR ~ 1/sqrt(d), projection LR ~ 1/d",
    "none": "without a rule (embedding LR and projection LR ~ 1/d)",
}
MODEL = f"{LINEAR_MODEL} trained by sign descent"
THREE_RULES = (
    "by the rules embedding LR / projection LR ~ d, ~ sqrt(d) and fixed, the projection's LR "
    "falling like 1/d"
)
BASE_RATE = "the best base learning rate (the rule's powers of d divided out)"
DRIFT = "exponent of d in the best base rate"
SLACK = "min over stability constraints of slack / number of layers"
LOSS_AT_LIMIT = "RMS of ln(L* over that of the frozen network), mean field, d = 2^20"
LOSS_OF_NETWORKS = "RMS of ln(L* of networks over theory's), d = 64 ... 512"


def _drift(*, case: str, rule: str, growth: str, rival: float) -> Claim:
    """The drift of the best base rate in networks against its derived exponent."""
    return Claim(
        name=f"transfer-drift-{case}-{rule}",
        statement=f"In {MODEL} {SETTINGS[case]}, {RULE_NAMES[rule]}, {BASE_RATE} {growth}.",
        quantity=DRIFT,
        prediction=SLACK,
        study="transfer_theory",
        evidence=partial(drift, case=case, rule=rule),
        tolerance=0.15,
        citation=TUNED_RATE,
        rival=rival,
    )


def _limit(*, case: str, note: str = "", expected: Verdict = "holds") -> Claim:
    """The loss of rules that freeze a layer in the limit against that of the frozen layer."""
    return Claim(
        name=f"transfer-limit-{case}",
        statement=f"In {MODEL} {SETTINGS[case]}, a rule for the learning rates whose exponents "
        "make the effect of a layer's updates vanish at large width d (freeze the layer) has as "
        "its lowest loss at d = 2^20, in mean-field theory, that of a network with this layer "
        f"frozen.{note}",
        quantity=LOSS_AT_LIMIT,
        prediction="0",
        study="transfer_theory",
        evidence=partial(frozen_limit, case=case),
        tolerance=0.05,
        citation=IN_THEORY,
        expected=expected,
    )


CLAIMS = (
    _drift(case="fixed", rule="width", growth="does not depend on the width d", rival=0.5),
    _drift(case="proportional", rule="width", growth="does not depend on the width d", rival=-0.5),
    _drift(case="proportional", rule="root", growth="grows like d^(1/4)", rival=0.0),
    _drift(case="proportional", rule="none", growth="grows like sqrt(d)", rival=0.0),
    _drift(case="fixed-sp", rule="root", growth="does not depend on the width d", rival=-0.5),
    _drift(case="proportional-sp", rule="none", growth="grows like sqrt(d)", rival=0.0),
    Claim(
        name="transfer-drift-limit",
        statement=f"In mean-field theory of {MODEL}, between widths 2^16 and 2^20, {BASE_RATE} "
        f"grows by the derived power of the width, {THREE_RULES}, under muP and standard "
        "initialisation, with m = 16 and m = 4d.",
        quantity="RMS of the exponent less the derived one",
        prediction="0",
        study="transfer_theory",
        evidence=limit_drift,
        tolerance=0.1,
        citation=TUNED_RATE,
    ),
    _limit(
        case="fixed",
        note=" Here muP's rule, which freezes no layer, has about the same lowest loss.",
        expected="undecided",
    ),
    _limit(case="fixed-sp"),
    _limit(case="proportional-sp"),
    Claim(
        name="transfer-networks-loss",
        statement=f"In {MODEL} with m = 4d, under muP and standard initialisation, networks of "
        "width 64 to 512 have the lowest losses over base rates that mean-field theory gives, "
        f"{THREE_RULES}.",
        quantity=LOSS_OF_NETWORKS,
        prediction="0",
        study="transfer_theory",
        evidence=partial(
            networks_against_theory,
            cases=("proportional", "proportional-sp"),
            penalties=False,
        ),
        tolerance=0.1,
        citation="docs/theory/mean_field.md#mean-field-equations",
    ),
    Claim(
        name="transfer-networks-penalty",
        statement=f"In {MODEL} under muP and standard initialisation, with m = 16 and m = 4d, the "
        "quotient of a rule's lowest loss by the best rule's is in networks of width 64 to 512 "
        f"the one that mean-field theory gives, {THREE_RULES}.",
        quantity="RMS of ln(networks' over theory's L*/L*(best rule)), d = 64 ... 512",
        prediction="0",
        study="transfer_theory",
        evidence=partial(networks_against_theory, penalties=True),
        tolerance=0.035,
        citation=IN_THEORY,
    ),
    Claim(
        name="control-transfer-networks-no-penalty",
        statement=f"Wrong on purpose: in {MODEL} under muP and standard initialisation, with m = "
        "16 and m = 4d, the lowest loss in networks of width 64 to 512 is the same by all rules, "
        f"{THREE_RULES}.",
        quantity="RMS of ln(networks' L*/L*(best rule)), d = 64 ... 512",
        prediction="0",
        study="transfer_theory",
        evidence=partial(networks_against_theory, penalties=True, predicted=False),
        tolerance=0.035,
        citation=f"contradicts transfer-networks-penalty; {IN_THEORY}",
        expected="fails",
    ),
    Claim(
        name="control-transfer-limit-embedding",
        statement=f"Wrong on purpose: in {MODEL} {SETTINGS['proportional']}, without a "
        "rule the embedding freezes at large width, so that the lowest loss at d = 2^20, in "
        "mean-field theory, is that of a network with a frozen embedding.",
        quantity="RMS of ln(L* over that of the frozen embedding), mean field, d = 2^20",
        prediction="0",
        study="transfer_theory",
        evidence=partial(limit_loss, case="proportional", pairs=[("none", "frozen embedding")]),
        tolerance=0.05,
        citation=f"contradicts {IN_THEORY}",
        expected="fails",
    ),
    Claim(
        name="control-transfer-root-free",
        statement=f"Wrong on purpose: in {MODEL} {SETTINGS['proportional-sp']}, the rule "
        "embedding LR / projection LR ~ sqrt(d) has the same lowest loss at d = 2^20, in "
        "mean-field theory, as no rule.",
        quantity="ln(L* over that of no rule), mean field, d = 2^20",
        prediction="0",
        study="transfer_theory",
        evidence=partial(limit_loss, case="proportional-sp", pairs=[("root", "none")]),
        tolerance=0.05,
        citation=f"contradicts transfer-limit-proportional-sp; {IN_THEORY}",
        expected="fails",
    ),
    Claim(
        name="control-transfer-drift-sp",
        statement=f"Wrong on purpose: in {MODEL} {SETTINGS['fixed-sp']}, "
        f"{RULE_NAMES['width']}, the best base learning rate does not depend on the width d.",
        quantity=DRIFT,
        prediction="0",
        study="transfer_theory",
        evidence=partial(drift, case="fixed-sp", rule="width", held_against=0.0),
        tolerance=0.15,
        citation=f"contradicts transfer-drift-limit; {TUNED_RATE}",
        expected="fails",
    ),
    Claim(
        name="control-transfer-penalty-early",
        statement=f"Wrong on purpose: in {MODEL} {SETTINGS['proportional-sp']}, the quotient of "
        "the lowest loss by muP's rule to the one without a rule is in networks of width 512 "
        "already the one that mean-field theory gives for d = 2^20.",
        quantity="ln(L* by muP's rule over that by none), networks, d = 512",
        prediction="the same in the mean field, d = 2^20",
        study="transfer_theory",
        evidence=partial(early_penalty, case="proportional-sp", rule="width", against="none"),
        tolerance=0.05,
        citation=f"contradicts {IN_THEORY}",
        expected="fails",
    ),
    Claim(
        name="transfer-frozen-floor",
        statement=f"In mean-field theory of {MODEL} under muP initialisation with m/d = "
        "16 and 64, the lowest loss with a frozen embedding is the least-squares loss that no "
        "projection of that embedding can go below.",
        quantity="RMS of L* of the frozen embedding less the floor, mean field, m/d = 16 and 64",
        prediction="0",
        study="transfer_ratio",
        evidence=above_floor,
        tolerance=0.05,
        citation=IN_THEORY,
        expected="undecided",
    ),
)
