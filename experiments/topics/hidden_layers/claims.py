"""The claims about linear hidden layers: how far finite networks are from the predictions."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import Claim
from experiments.topics.mean_field.estimators import loss_distance, update_distance

LOSS_ALLOWED, UPDATE_ALLOWED = 0.015, 0.04  # RMS distance over the first loss, the largest RMS
TASKS = (
    "twelve steps of linear networks with one to four trained hidden layers, with and without skip "
    "connections, on twelve tasks with m/d from 1/16 to 32 (uniform, Zipf and corpus tokens, full "
    "batch and mini-batch, sgd, momentum, sign, smoothed sign, Adam, AdamW and Muon, squared error "
    "and cross-entropy),"
)
SHARE = "mean-square distance without its noise / allowed mean square"
SOURCE = "docs/theory/mean_field.md#hidden-layers"

CLAIMS = (
    Claim(
        name="hidden-layers-loss",
        statement=f"Over {TASKS} the mean loss of networks of width 256 is the mean-field "
        "prediction to within an RMS of 1.5 % of the initial loss, over tasks and steps and "
        "without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="hidden_layers",
        evidence=partial(loss_distance, allowed=LOSS_ALLOWED),
        tolerance=1.0,
        citation=SOURCE,
    ),
    Claim(
        name="hidden-layers-updates",
        statement=f"Over {TASKS} the RMS change of the outputs by the updates of embedding and "
        "readout, and of every hidden layer's output by its own update, in networks of width 256 "
        "is the mean-field prediction to within an RMS of 4 % of its largest value, over tasks and "
        "steps and without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="hidden_layers",
        evidence=partial(update_distance, allowed=UPDATE_ALLOWED),
        tolerance=1.0,
        citation=SOURCE,
    ),
    Claim(
        name="hidden-layers-without-responses",
        statement=f"Wrong on purpose: over {TASKS} a mean-field theory of fresh Gaussian fields, "
        "without the responses of the fields to earlier updates, predicts the mean loss of "
        "networks of width 256 to within an RMS of 1.5 % of the initial loss, without what the "
        "noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="hidden_layers",
        evidence=partial(loss_distance, prediction="without_responses", allowed=LOSS_ALLOWED),
        tolerance=1.0,
        citation=f"contradicts hidden-layers-loss; {SOURCE}",
        expected="fails",
    ),
)
