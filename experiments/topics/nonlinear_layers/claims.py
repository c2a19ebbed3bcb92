"""The claims about nonlinear hidden layers: how far networks are from mean-field theory."""

from __future__ import annotations

from experiments.topics._claim import Claim

from .estimators import distance, distance_without_noise

NETWORK = (
    "networks of width 256 with one plain hidden layer (embedding, tanh, relu or gelu of a d x d "
    "matrix, readout) and m = d to 16 d tokens"
)
SHARE = "mean-square distance without its noise / allowed mean square"

CLAIMS = (
    Claim(
        name="nonlinear-layers-equivalence",
        statement=f"Over six steps of {NETWORK}, in fourteen tasks (sign descent and Adam, one or "
        "three outputs, squared error and cross-entropy, uniform and Zipf tokens, full batch and "
        "mini-batch), the mean loss is that of mean-field theory with Gaussian equivalence of "
        "neurons and tokens to within an RMS of 1.5 % of the initial loss, over tasks and steps "
        "and without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="nonlinear_layers",
        evidence=distance,
        tolerance=1.0,
        citation="docs/theory/mean_field.md#gaussian-equivalence",
    ),
    Claim(
        name="control-without-own-noise",
        statement="Wrong on purpose: over six steps of sign descent on the hidden matrix alone, of "
        f"{NETWORK}, a mean-field theory in which all neurons have the mean slope of the "
        "activation, without the noise of the single neuron, predicts the mean loss to within an "
        "RMS of 1.5 % of the initial loss, without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="nonlinear_layers",
        evidence=distance_without_noise,
        tolerance=1.0,
        citation="contradicts nonlinear-layers-equivalence; "
        "docs/theory/mean_field.md#gaussian-equivalence",
        expected="fails",
    ),
    Claim(
        name="nonlinear-layers-few-tokens",
        statement="Over six steps of networks of width 512 with one to three hidden layers on four "
        "or eight tokens, in ten tasks (identity, tanh, relu and gelu; no norm, RMS norm and layer "
        "norm; with and without skip connections; sign descent, Adam and Muon; squared error and "
        "cross-entropy; full batch and mini-batch), the mean loss is that of mean-field theory at "
        "a fixed number of tokens to within an RMS of 1.5 % of the initial loss, over tasks and "
        "steps and without what the noise of both adds.",
        quantity=SHARE,
        prediction="0",
        study="nonlinear_few_tokens",
        evidence=distance,
        tolerance=1.0,
        citation="docs/theory/mean_field.md#nonlinear-layers",
        expected="undecided",
    ),
)
