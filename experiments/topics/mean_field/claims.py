"""The claims about the mean-field solver: how far finite networks are from its predictions."""

from __future__ import annotations

from experiments.topics._claim import LINEAR_MODEL, Claim

from .estimators import (
    error_bars,
    largest_loss_share,
    largest_update_share,
    loss_excess,
    width_exponent,
)

TASKS = (
    f"ten steps of {LINEAR_MODEL} on eight tasks with m/d from 1/16 to 16 (uniform, Zipf and "
    "corpus tokens, sign descent and Adam, squared error and cross-entropy),"
)
SHARE = "largest distance beyond two standard errors / allowed distance"

CLAIMS = (
    Claim(
        name="mean-field-loss",
        statement=f"Over {TASKS} the mean loss of networks of width 256 to 1024 is, beyond two "
        "standard errors, the mean-field prediction to within 1 % of the initial loss (1.5 % at "
        "width 256).",
        quantity=SHARE,
        prediction="0",
        study="mean_field",
        evidence=lambda data: largest_loss_share(loss_excess(data)),
        tolerance=1.0,
        citation="docs/theory/mean_field.md#mean-field-equations",
    ),
    Claim(
        name="mean-field-updates",
        statement=f"Over {TASKS} the RMS change of the outputs by the updates of embedding and "
        "projection in networks of width 256 to 1024 is, beyond two standard errors, the "
        "mean-field prediction to within 3 % of its largest value.",
        quantity=SHARE,
        prediction="0",
        study="mean_field",
        evidence=largest_update_share,
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
        tolerance=0.6,
        citation="docs/theory/mean_field.md#mean-field-equations",
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
        tolerance=0.35,
        citation="docs/theory/mean_field.md#finite-width-correction",
    ),
    Claim(
        name="control-without-responses",
        statement=f"Wrong on purpose: over {TASKS} a mean-field theory of fresh "
        "Gaussian fields, without the responses of the fields to earlier updates, predicts the "
        "loss of networks of width 256 to 1024 to within 1 % of the initial loss (1.5 % at width "
        "256), beyond two standard errors.",
        quantity=SHARE,
        prediction="0",
        study="mean_field",
        evidence=lambda data: largest_loss_share(loss_excess(data, "without_responses")),
        tolerance=1.0,
        citation="contradicts mean-field-loss; docs/theory/mean_field.md#mean-field-equations",
        expected="fails",
    ),
)
