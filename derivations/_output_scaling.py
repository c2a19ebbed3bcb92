"""Networks with many outputs: how rates must change so that a smaller network trains alike.

Width, vocabulary and outputs of the linear network are all divided by one number, lambda.
"""

from __future__ import annotations

from typing import Literal, get_args

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step

SOURCE = "docs/theory/many_outputs.md#many-outputs-similar"

SpreadOfTargets = Literal["all-outputs", "one-output"]
SPREADS: tuple[SpreadOfTargets, ...] = get_args(SpreadOfTargets)
SimilarRate = Literal["embedding", "projection"]
SizeOfUpdates = Literal["proportional", "sized"]
_WORDS: dict[SpreadOfTargets, str] = {"all-outputs": "all outputs", "one-output": "one output"}

size_ratio = sp.Symbol("lambda", positive=True)  # large network over small one


@cache
def similar_std(spread: SpreadOfTargets) -> Derivation:
    """Size of a projection entry in the large network over that in the small one.

    lambda^(-1/2) where every output has a target of order one at every token, 1/lambda where a
    token has one output.
    """
    lam, d, n = size_ratio, s.width, s.outputs
    if spread == "all-outputs":
        why = (
            "An output of order one is a sum over d neurons of w_kl e_il with random signs, so w "
            "is of order d^(-1/2)."
        )
        value = sp.sqrt(1 / lam)
    else:
        why = (
            "A token has one output of order one, whose row is aligned with the token's: w is of "
            "order 1/d. The n other outputs are of order d^(-1/2) each, and their squares sum to "
            "n/d, of order one."
        )
        value = 1 / lam
    assert sp.simplify((n * lam) / (d * lam) - n / d) == 0
    return Derivation(
        name=f"projection entries of similar networks, targets on {_WORDS[spread]}",
        left="sigma_W/sigma_W'",
        latex_left=r"\sigma_W/\sigma_W'",
        expression=value,
        assumptions=(
            "width, vocabulary and outputs of the large network are lambda times the small one's",
            "uniform tokens; batches, if any, are lambda times as large",
            "outputs are exchangeable: their targets are drawn from one law, independently",
        ),
        steps=(Step(why, "sigma_W/sigma_W'", r"\sigma_W/\sigma_W'", value),),
        source=SOURCE,
    )


@cache
def similar_rate(layer: SimilarRate, spread: SpreadOfTargets, updates: SizeOfUpdates) -> Derivation:
    """Learning rate of the large network over that of a small one that trains alike.

    Updates are proportional to gradients (SGD, momentum) or sized: the same for gradients of any
    size (sign, Adam).
    """
    linear = updates == "proportional"
    lam, std = size_ratio, similar_std(spread)
    dense = spread == "all-outputs"
    wanted = std.expression if layer == "projection" else sp.Integer(1)
    if layer == "embedding":
        gradient = std.expression / lam * (sp.sqrt(lam) if dense else 1)
        sums = "n outputs with random signs" if dense else "one output"
        of = f"p_i sum_k r_ik w_kl, 1/m times w times a sum over {sums}"
    else:
        gradient = 1 / sp.sqrt(lam) if dense else 1 / lam
        tokens = "all m tokens with random signs" if dense else "the m/n tokens of the output"
        of = f"sum_i p_i r_ik e_il, 1/m times a sum over {tokens}"
    value = sp.simplify(wanted / gradient) if linear else wanted
    left, latex_left = ("eta_E/eta_E'", r"\eta_E/\eta_E'")
    if layer == "projection":
        left, latex_left = ("eta_W/eta_W'", r"\eta_W/\eta_W'")
    steps = [
        *std.steps,
        Step(
            "An entry of the embedding has order one in both networks, one of the projection the "
            "order above. An update must have the order of its entry:",
            f"{left} times the update",
            latex_left + r"\cdot\text{update}",
            wanted,
        ),
    ]
    if linear:
        steps.append(
            Step(f"The gradient is {of}:", "G/G'", "G/G'", gradient),
        )
    steps.append(Step("So the rates are as this.", left, latex_left, value))
    kind = "proportional to gradients" if linear else "of one size (sign, Adam)"
    return Derivation(
        name=f"learning rate of the {layer} in similar networks, targets on {_WORDS[spread]}, "
        f"updates {kind}",
        left=left,
        latex_left=latex_left,
        expression=value,
        assumptions=std.assumptions,
        steps=tuple(steps),
        source=SOURCE,
    )


@cache
def neglected_rest() -> Derivation:
    """What outputs without targets do to those that have them, at most: (n - k)/d.

    k outputs have targets, n - k have none, and the embedding is common to both.
    """
    n, k, d, sigma = s.outputs, s.gradient_rank, s.width, s.projection_std
    common = (n - k) * sigma**2
    value = sp.simplify(common / (sigma**2 * d))
    return Derivation(
        name="effect of outputs without targets on the others",
        left="epsilon_rest",
        latex_left=r"\epsilon_{\mathrm{rest}}",
        expression=value,
        assumptions=(
            "squared error, SGD or momentum, so that outputs may be rotated",
            "independent Gaussian initial projection",
            "k is here the rank of the targets",
        ),
        steps=(
            Step(
                "The rest's rows w_q enter the embedding's gradient as p_i sum_q (e_i . w_q) w_q. "
                "On output k this acts by the matrix sum_q w_q w_q^T. Its mean is this times the "
                "identity, and it shrinks as the rest's outputs decay:",
                "<sum_q w_q w_q^T>",
                r"\langle\sum_qw_qw_q^\top\rangle",
                common,
            ),
            Step(
                "So it pulls f_ik to 0 at this rate, where the output's own residual moves it at "
                "the rate |w_k|^2, at least sigma_W^2 d. The quotient is the largest relative "
                "effect:",
                "epsilon_rest",
                r"\epsilon_{\mathrm{rest}}",
                value,
            ),
        ),
        source="docs/theory/many_outputs.md#many-outputs-rotated",
    )
