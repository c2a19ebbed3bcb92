"""The claims about the mean residual's direction: by activation, normalisation and residuals."""

from __future__ import annotations

from functools import partial
from typing import Any

from experiments.topics._claim import WRONG, Claim

from .estimators import update_exponent

STUDY = "mean_residual"
FEATURE_STEP = "docs/theory/first_step.md#feature-step"
EXPONENT = "exponent of d in RMS(dW z) / RMS(z)"
SETTING = (
    "a readout above one random hidden layer of {features} features, at a fixed vocabulary of "
    "16,384 uniform tokens and widths d = 64 to 512"
)
WITH_MEAN = "grows nearly like the width d, by the derived slope at these widths, not like sqrt(d)"
WITHOUT = "grows like sqrt(d), not like the width d"


def _claim(
    name: str,
    features: str,
    residuals: str,
    grows: str,
    *where: str,
    wrong: bool = False,
    **options: Any,
) -> Claim:
    start = WRONG if wrong else ""
    directed = grows == WITH_MEAN
    return Claim(
        name=name,
        statement=f"{start}{'for' if wrong else 'For'} {SETTING.format(features=features)}, the "
        f"first sign-descent update of an output under {residuals} {grows}.",
        quantity=EXPONENT,
        prediction="slope of the derived RMS "
        + ("of features with a mean" if directed else "of features without a mean"),
        study=STUDY,
        evidence=partial(update_exponent, **_places(where), directed=directed),
        tolerance=0.08,
        citation=options.pop("citation", FEATURE_STEP),
        rival=0.5 if directed else 1.0,
        **options,
    )


def _places(where: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(("activation", "normalisation", "residuals"), where, strict=False))


RAW = "independent residuals, whose mean is what chance leaves,"
CENTRED = "residuals whose mean over tokens is taken off"

CLAIMS = (
    _claim("mean-residual-relu", "ReLU", RAW, WITH_MEAN, "relu"),
    _claim("mean-residual-gelu", "GELU", RAW, WITH_MEAN, "gelu"),
    _claim("mean-residual-tanh", "tanh", RAW, WITHOUT, "tanh"),
    _claim("mean-residual-relu-centred", "ReLU", CENTRED, WITHOUT, "relu", "none", "centred"),
    _claim("mean-residual-gelu-centred", "GELU", CENTRED, WITHOUT, "gelu", "none", "centred"),
    _claim("mean-residual-relu-rms", "ReLU then RMSNorm", RAW, WITH_MEAN, "relu", "rms"),
    _claim("mean-residual-relu-layer", "ReLU then LayerNorm", RAW, WITHOUT, "relu", "layer"),
    _claim(
        "mean-residual-layer-relu", "LayerNorm then ReLU", RAW, WITH_MEAN, "relu", "layer before"
    ),
    _claim(
        "control-mean-residual-rms",
        "GELU then RMSNorm",
        RAW,
        WITHOUT,
        "gelu",
        "rms",
        wrong=True,
        expected="fails",
        citation=f"contradicts {FEATURE_STEP}",
    ),
    _claim(
        "control-mean-residual-layer-gelu",
        "LayerNorm then GELU",
        RAW,
        WITHOUT,
        "gelu",
        "layer before",
        wrong=True,
        expected="fails",
        citation=f"contradicts {FEATURE_STEP}",
    ),
)
