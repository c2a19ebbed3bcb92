"""The claims about linear hidden layers: how far finite networks are from the predictions."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import Claim

from .cases import CASES, CONTROLLED
from .estimators import loss_distance, losses_beyond, update_distance, updates_beyond

NETWORKS = "linear networks with one to eight trained hidden layers"
TASKS = (
    f"{len(CASES)} setups of {NETWORKS}, with and without skip connections (m/d from 1/16 to 32, "
    "uniform, Zipf and corpus tokens, full batch and mini-batch, sgd, momentum, sign, smoothed "
    "sign, Adam, AdamW and Muon, squared error and cross-entropy, 12 or 30 steps)"
)
SHARE = "mean-square distance without its noise / allowed mean square"
BEYOND = "share of setups that are farther away than allowed"
SOURCE = "docs/theory/mean_field.md#hidden-layers"

CLAIMS = (
    Claim(
        name="hidden-layers-loss",
        statement=f"Over {TASKS} the mean loss of networks of width 256 or 512 is the mean-field "
        "prediction to within an RMS of 1.5 % of the initial loss, over setups and steps and "
        "without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="hidden_layers",
        evidence=loss_distance,
        tolerance=1.0,
        citation=SOURCE,
        expected="undecided",
    ),
    Claim(
        name="hidden-layers-updates",
        statement=f"Over {TASKS} the RMS change of the outputs by the updates of embedding and "
        "readout, and of every hidden layer's output by its own update, in networks of width 256 "
        "or 512 is the mean-field prediction to within an RMS of 4 % of its largest value, over "
        "setups, layers and steps and without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="hidden_layers",
        evidence=update_distance,
        tolerance=1.0,
        citation=SOURCE,
        expected="undecided",
    ),
    Claim(
        name="hidden-layers-loss-of-each",
        statement=f"In at least 85 % of {TASKS} the mean loss of networks of width 256 or 512 "
        "differs at no step from the mean-field prediction by more than two standard errors of "
        "both and 1.5 % of the initial loss.",
        quantity=BEYOND,
        prediction="0",
        study="hidden_layers",
        evidence=losses_beyond,
        tolerance=0.15,
        citation=SOURCE,
    ),
    Claim(
        name="hidden-layers-updates-of-each",
        statement=f"In at least 85 % of {TASKS} no layer's RMS update in networks of width 256 or "
        "512 differs at any step from the mean-field prediction by more than two standard errors "
        "of both and 4 % of its largest value.",
        quantity=BEYOND,
        prediction="0",
        study="hidden_layers",
        evidence=updates_beyond,
        tolerance=0.15,
        citation=SOURCE,
    ),
    Claim(
        name="control-hidden-layers-without-responses",
        statement=f"Wrong on purpose: in {len(CONTROLLED)} of {TASKS} a mean-field theory of fresh "
        "Gaussian fields, without the responses of the fields to earlier updates, predicts the "
        "mean loss of networks of width 256 to within an RMS of 1.5 % of the initial loss, over "
        "setups and steps and without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="hidden_layers",
        evidence=partial(loss_distance, prediction="without_responses"),
        tolerance=1.0,
        citation=f"contradicts hidden-layers-loss; {SOURCE}",
        expected="fails",
    ),
)
