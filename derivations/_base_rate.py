"""How the best base learning rate of a linear model drifts with the width under a given rule.

A rule fixes how the learning rates of embedding and projection grow, d^x_E and d^x_W; one base
learning rate multiplies both and is tuned at every width. The largest that stays stable grows as
d^g, and what it brings to order one decides what the network can still do at infinite width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._law_first_step import INITIALISATIONS, Init, initial_std
from ._parametrizations import HALF, NetworkLayer, as_exponent, custom_parametrization
from ._stability_constraints import (
    UNALIGNED,
    NetworkAlignment,
    layer_alignment,
    stability_program,
)
from ._token_laws import leading_order
from ._vocabulary_alignment import vocabulary_alignment

LinearLayer = Literal["embedding", "projection"]
LINEAR_LAYERS: tuple[LinearLayer, ...] = get_args(LinearLayer)
OutputTerm = Literal[
    "initial projection, learned embedding",
    "projection update, initial embedding",
    "projection update, learned embedding",
]
_TERMS: Mapping[str, OutputTerm] = {
    "initial weights on learned inputs": "initial projection, learned embedding",
    "update on initial inputs": "projection update, initial embedding",
    "update on learned inputs": "projection update, learned embedding",
}
_NETWORK_LAYER: Mapping[LinearLayer, NetworkLayer] = {
    "embedding": "embedding",
    "projection": "readout",
}


@dataclass(frozen=True)
class BaseRate:
    """The largest stable base learning rate, d^exponent, and what remains at infinite width.

    **Fields:**

    - `exponent`: g.
    - `decay`: by which power of 1/d each part of the output's change vanishes at that rate; 0:
      it stays of order one. A part whose layer is frozen is not listed.
    """

    exponent: Fraction
    decay: Mapping[OutputTerm, Fraction]

    @property
    def kept(self) -> frozenset[OutputTerm]:
        """The parts of the output's change that stay of order one."""
        return frozenset(term for term, power in self.decay.items() if power == 0)


def base_rate(
    lr_exponents: Mapping[LinearLayer, str | int | Fraction],
    init: Init,
    vocab_exponent: str | int | Fraction,
    trained: Collection[LinearLayer] = ("embedding", "projection"),
) -> BaseRate:
    """g = min over the stability constraints of slack / (number of trained layers in it).

    The constraints are those of `solve_stability` for an embedding and a readout, the projection,
    that reads it directly: s_W >= A, s_W + s_E >= U = 1 and s_E + w >= Omega = 1, with s minus the
    power of d in a layer's learning rate, w minus that of the initial projection's entries, and A
    from the vocabulary m = d^`vocab_exponent` (uniform tokens). U = Omega = 1: beyond its first
    steps the projection is aligned with what the embedding has learned, which is aligned with it.

    Raises `ValueError` unless `lr_exponents` names both layers, `trained` one of them or both and
    `init` a known initialisation, and for an exponent that is not a rational or a vocabulary's that
    is negative.

    Holds for entrywise optimizers (sign, Adam). Source:
    docs/theory/parametrizations.md#tuned-base-rate.
    """
    if set(lr_exponents) != set(LINEAR_LAYERS):
        named = ", ".join(map(str, lr_exponents)) or "none"
        raise ValueError(f"lr_exponents must name embedding and projection, not {named:.60}")
    if not trained or not set(trained) <= set(LINEAR_LAYERS):
        raise ValueError(f"trained must name embedding, projection or both, not {trained!r:.60}")
    if init not in INITIALISATIONS:
        known = ", ".join(INITIALISATIONS)
        raise ValueError(f"unknown initialisation {init!r:.60}: must be one of {known}")
    std = leading_order(initial_std(init)[s.projection_std], {s.width: sp.Integer(1)})
    given = custom_parametrization((0, 0, 0), (0, -HALF, Fraction(str(std))))
    token_law = vocabulary_alignment("sign", vocab_exponent=vocab_exponent).hidden
    projection = layer_alignment(token_law.update_on_initial, 1, 1)
    # The hidden layer is there in name only: not trained, it hands on what the embedding learns.
    program = stability_program(given, "sign", NetworkAlignment(UNALIGNED, projection), "initial")
    slowness = {_NETWORK_LAYER[name]: -as_exponent(x) for name, x in lr_exponents.items()}
    moving = {_NETWORK_LAYER[name] for name in trained}
    slacks: dict[OutputTerm, tuple[Fraction, Fraction]] = {}
    for constraint in program.constraints:
        layers = {layer for layer in slowness if constraint.involves(layer)}
        if constraint.layer == "readout" and layers <= moving and not constraint.involves("hidden"):
            weight = sum(constraint.coefficients, Fraction(0))
            slacks[_TERMS[constraint.kind]] = constraint.slack(slowness), weight
    exponent = min(slack / weight for slack, weight in slacks.values())
    decay = {term: slack - weight * exponent for term, (slack, weight) in slacks.items()}
    return BaseRate(exponent, decay)


@cache
def frozen_embedding_floor() -> Derivation:
    """Squared error that no projection of a frozen random embedding goes below, max(0, 1 - d/m)."""
    rank = sp.Min(s.width, s.vocab_size)
    share = sp.Max(0, 1 - s.width / s.vocab_size)
    return Derivation(
        name="Least-squares floor of a frozen embedding",
        left="L_min / L(0)",
        latex_left="L_{\\min} / L(0)",
        expression=share,
        assumptions=(
            "the embedding is frozen at independent Gaussian entries",
            "targets are independent of it and of each other, of mean zero and equal variance",
            "uniform token frequencies, squared error",
        ),
        steps=(
            Step(
                "The outputs of all tokens lie in the column space of the m x d embedding, which "
                "has full rank with probability one.",
                "rank E",
                "\\operatorname{rank} E",
                rank,
            ),
            Step(
                "With P the projector onto it, the best fit leaves (1 - P) y of the targets y, on "
                "average the share tr(1 - P)/m of their square.",
                "L_min / L(0)",
                "L_{\\min} / L(0)",
                1 - rank / s.vocab_size,
            ),
            Step("For m < d nothing is left.", "L_min / L(0)", "L_{\\min} / L(0)", share),
        ),
        source="docs/theory/parametrizations.md#tuned-base-rate",
    )
