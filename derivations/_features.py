"""The activations, and what two tokens have in common in the features behind them.

A hidden layer's features are z = phi(h). At large width the pre-activations h of one token are
Gaussian over the neurons. Those of two tokens share what the layer below has in common for them.
"""

from __future__ import annotations

from typing import Literal, get_args

import sympy as sp

from ._cache import cache
from ._derivation import Derivation, Step
from ._gaussian import normal_expectation

FeatureActivation = Literal["identity", "tanh", "relu", "gelu"]
FEATURE_ACTIVATIONS: tuple[FeatureActivation, ...] = get_args(FeatureActivation)

preactivation = sp.Symbol("x", real=True)
feature_overlap_symbol = sp.Symbol("rho", nonnegative=True)
FEATURE_SOURCE = "docs/theory/first_step.md#feature-step"


@cache
def activation_function(activation: FeatureActivation) -> sp.Expr:
    """phi(x) in the symbol `preactivation`."""
    x = preactivation
    return {
        "identity": x,
        "tanh": sp.tanh(x),
        "relu": (x + sp.Abs(x)) / 2,
        "gelu": x * (1 + sp.erf(x / sp.sqrt(2))) / 2,
    }[activation]


@cache
def activation_slope(activation: FeatureActivation) -> sp.Expr:
    """phi'(x), which multiplies what is backpropagated to a neuron."""
    return sp.diff(activation_function(activation), preactivation)


@cache
def first_feature_overlap(activation: FeatureActivation) -> Derivation:
    """rho = E[z]^2 / E[z^2] of the features behind the first hidden matrix: 1/pi for ReLU.

    Two tokens' pre-activations are independent there, so that E[z_i z_j] = E[z]^2. An odd
    activation has rho = 0. Raises `ValueError` for gelu, whose rho is left to quadrature.
    """
    phi, x = activation_function(activation), preactivation
    odd = sp.simplify(phi + phi.subs(x, -x)) == 0
    if activation == "gelu":
        raise ValueError("the overlap of GELU features is found by quadrature")
    mean = sp.Integer(0) if odd else normal_expectation(phi)
    steps = [Step("The mean of a feature over the neurons.", "E[z]", r"\mathbb{E}[z]", mean)]
    value = sp.Integer(0)
    if not odd:
        square = normal_expectation(sp.expand(phi**2))
        steps.append(Step("Its mean square.", "E[z^2]", r"\mathbb{E}[z^2]", square))
        value = sp.simplify(mean**2 / square)
    steps.append(
        Step(
            "E[z_i z_j] = E[z]^2 for two tokens, in units of the mean square:",
            "rho",
            r"\rho",
            value,
        )
    )
    return Derivation(
        name=f"Overlap of two tokens' {activation} features",
        left="rho",
        latex_left=r"\rho",
        expression=value,
        assumptions=(
            "pre-activations are standard normal over neurons and independent between tokens: the "
            "layer reads independent embeddings at large width",
        ),
        steps=tuple(steps),
        source=FEATURE_SOURCE,
    )
