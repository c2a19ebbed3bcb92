"""The claims about optimal learning rates: layer by layer and joint, after one step and later."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import LINEAR_MODEL, Claim

from .estimators import frozen_cost, mean_field_optima, tolerated_ratio

RATIO_BY_SETTING = "docs/theory/learning_rates.md#which-ratio-when"

EDGE = "exponent of d in eta_E*/eta_W at the largest tolerated eta_W"
COST = "loss with it frozen above the joint optimum's, as a share of the decrease"

MUP = f"{LINEAR_MODEL} under muP initialisation and sign descent"
TOLERATED_RATIO = (
    "the embedding's own optimal learning rate over the largest projection learning rate that "
    "costs at most 20 % of the loss that the embedding alone removes"
)

CLAIMS = (
    Claim(
        name="optimum-mean-field",
        statement=f"For one to four steps of sign descent in {LINEAR_MODEL}, with m = 16, 4d and "
        "d^(3/2) and under muP and standard initialisation, the ratio of the embedding's optimal "
        "learning rate to the projection's, each tuned with the other layer frozen, is the same "
        "in trained networks and in mean-field theory, to within 10 %.",
        quantity="RMS of ln(networks' over theory's ratio)",
        prediction="0",
        study="optimal_rates",
        evidence=mean_field_optima,
        tolerance=0.1,
        citation="docs/theory/mean_field.md#mean-field-equations",
    ),
    Claim(
        name="joint-second-step",
        statement=f"In {MUP} with a vocabulary m = 4d and both layers trained for two steps, "
        f"{TOLERATED_RATIO} grows like the width d, not like sqrt(d).",
        quantity=EDGE,
        prediction="1 + 2 x_E = 1",
        study="joint_rates",
        evidence=partial(tolerated_ratio, family="proportional"),
        tolerance=0.1,
        citation=RATIO_BY_SETTING,
        rival=0.5,
    ),
    Claim(
        name="joint-flat",
        statement=f"In {MUP} with a vocabulary m = 4d and one output, freezing the projection for "
        "two steps costs at most 5 % of the decrease of the loss: the embedding alone solves the "
        "task.",
        quantity=COST,
        prediction="0",
        study="joint_rates",
        evidence=partial(frozen_cost, family="proportional", frozen="projection"),
        tolerance=0.05,
        citation=RATIO_BY_SETTING,
    ),
    Claim(
        name="control-optimum-first-step",
        statement=f"Wrong on purpose: for two to four steps of sign descent in {LINEAR_MODEL}, "
        "with m = 16, 4d and d^(3/2) and under muP and standard initialisation, the ratio of the "
        "embedding's optimal learning rate to the projection's, each tuned with the other layer "
        "frozen, is that of mean-field theory after the first step, to within 10 %.",
        quantity="RMS of ln(networks' over theory's ratio)",
        prediction="0",
        study="optimal_rates",
        evidence=partial(mean_field_optima, first_step=True),
        tolerance=0.1,
        citation="contradicts optimum-mean-field; docs/theory/mean_field.md#mean-field-equations",
        expected="fails",
    ),
    Claim(
        name="control-joint-first-step",
        statement=f"Wrong on purpose: in {MUP} with a vocabulary m = 4d and both layers trained "
        f"for one step only, {TOLERATED_RATIO} grows like the width d.",
        quantity=EDGE,
        prediction="1 + 2 x_E = 1",
        study="joint_rates",
        evidence=partial(tolerated_ratio, family="proportional", horizon=1),
        tolerance=0.1,
        citation=f"contradicts {RATIO_BY_SETTING}",
        expected="fails",
    ),
    Claim(
        name="control-joint-flat-embedding",
        statement=f"Wrong on purpose: in {MUP} with a vocabulary m = 4d and one output, freezing "
        "the embedding for two steps costs at most 5 % of the decrease of the loss.",
        quantity=COST,
        prediction="0",
        study="joint_rates",
        evidence=partial(frozen_cost, family="proportional", frozen="embedding"),
        tolerance=0.05,
        citation=f"contradicts {RATIO_BY_SETTING}",
        expected="fails",
    ),
)
