"""The claims about the mean-field solver: how far finite networks are from its predictions."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import LINEAR_MODEL, Claim

from .estimators import (
    error_bars,
    loss_distance,
    update_distance,
    width_exponent,
)

TASKS = (
    f"ten steps of {LINEAR_MODEL} on eight tasks with m/d from 1/16 to 16 (uniform, Zipf and "
    "corpus tokens, sign descent and Adam, squared error and cross-entropy),"
)
MANY = (
    f"{LINEAR_MODEL} with 256 outputs and uniform tokens on four tasks (Gaussian, sign and one-hot "
    "targets, squared error and cross-entropy, sign descent and Adam),"
)
SHARE = "mean-square distance without its noise / allowed mean square"

CLAIMS = (
    Claim(
        name="mean-field-loss",
        statement=f"Over {TASKS} the mean loss of networks of width 256 to 1024 is the "
        "mean-field prediction to within an RMS of 1.5 % of the initial loss, over tasks, widths "
        "and steps and without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="mean_field",
        evidence=loss_distance,
        tolerance=1.0,
        citation="docs/theory/mean_field.md#mean-field-equations",
    ),
    Claim(
        name="mean-field-updates",
        statement=f"Over {TASKS} the RMS change of the outputs by the updates of embedding and "
        "projection in networks of width 256 to 1024 is the mean-field prediction to within an RMS "
        "of 3 % of its largest value, over tasks, widths and steps and without what the noise of "
        "both adds.",
        quantity=SHARE,
        prediction="0",
        study="mean_field",
        evidence=update_distance,
        tolerance=1.0,
        citation="docs/theory/mean_field.md#mean-field-equations",
    ),
    Claim(
        name="mean-field-error-bars",
        statement=f"For {LINEAR_MODEL}, the mean-field solver follows samples of tokens and "
        "neurons (particles); with 512 of them or more, the error that the solver states for its "
        "loss is the size of the change by going on to 8192.",
        quantity="RMS of deviation / stated error",
        prediction="1",
        study="mean_field_particles",
        evidence=error_bars,
        tolerance=0.45,
        citation="docs/theory/mean_field.md#mean-field-equations",
        expected="undecided",
        rival=0.5,
    ),
    Claim(
        name="mean-field-converges-in-width",
        statement=f"In {LINEAR_MODEL} with m = 4d under sign descent and standard initialisation "
        "(SP), the mean loss of networks of width 8 to 32 differs from the mean-field limit of "
        "infinite width at the same m/d by an amount that falls like 1/d.",
        quantity="exponent in d of the distance summed over steps",
        prediction="-1",
        study="mean_field_widths",
        evidence=width_exponent,
        tolerance=0.25,
        citation="docs/theory/mean_field.md#finite-width-correction",
        expected="undecided",
        rival=-0.5,
    ),
    Claim(
        name="control-without-responses",
        statement=f"Wrong on purpose: over {TASKS} a mean-field theory of fresh "
        "Gaussian fields, without the responses of the fields to earlier updates, predicts the "
        "mean loss of networks of width 256 to 1024 to within an RMS of 1.5 % of the initial loss, "
        "without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="mean_field",
        evidence=partial(loss_distance, prediction="without_responses"),
        tolerance=1.0,
        citation="contradicts mean-field-loss; docs/theory/mean_field.md#mean-field-equations",
        expected="fails",
    ),
    Claim(
        name="many-outputs-loss",
        statement=f"Over twelve steps of {MANY} the mean loss is that predicted from networks with "
        "64 and with 32 outputs, whose width and vocabulary are smaller by the same factor and "
        "whose rates are those derived, to within an RMS of 1.5 % of the initial loss, over tasks "
        "and steps and without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="many_outputs",
        evidence=loss_distance,
        tolerance=1.0,
        citation="docs/theory/many_outputs.md#many-outputs-similar",
    ),
    Claim(
        name="control-many-outputs-same-rates",
        statement=f"Wrong on purpose: over twelve steps of {MANY} the mean loss is that of "
        "networks with 64 outputs and smaller width and vocabulary at the same learning rates, to "
        "within an RMS of 1.5 % of the initial loss, without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="many_outputs",
        evidence=partial(loss_distance, prediction="unscaled"),
        tolerance=1.0,
        citation="contradicts many-outputs-loss; docs/theory/many_outputs.md#many-outputs-similar",
        expected="fails",
    ),
)
