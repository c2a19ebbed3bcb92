"""Learning rates of several matrices that are trained together above a frozen embedding.

A plain linear network of one output, f_i = w . A_L ... A_1 e_i, under muP initialisation and sign
descent (or Adam); K of its matrices are trained, all with the rate eta.
"""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import GAUSSIAN_WEIGHTS
from ._learning_rates import optimal_learning_rate

trained_matrices = sp.Symbol("K", positive=True)
single_rate = sp.Symbol("eta_1", positive=True)
SOURCE = "docs/theory/learning_rates.md#matrices-together"
ASSUMPTIONS = (
    GAUSSIAN_WEIGHTS,
    "plain linear network, one output, muP initialisation, sign descent or Adam, full batch",
    "the embedding is frozen",
    "from the second step on (K = 1: at any step), a number of steps that does not grow",
    "factors of order one are left out where K > 1",
)


@cache
def rate_together() -> Derivation:
    """The rate eta at which K matrices together move the outputs as one alone does at eta_1."""
    k, d, one = trained_matrices, s.width, single_rate
    rate = sp.Symbol("eta", positive=True)
    together = ((1 + d * one) ** (1 / k) - 1) / d
    return Derivation(
        name="learning rate of K matrices trained together",
        left="eta",
        latex_left=r"\eta",
        expression=together,
        assumptions=ASSUMPTIONS,
        steps=(
            Step(
                "The gradient of A_l is B_l M_(l-1)', so a sign step adds -eta sign(B_l) "
                "sign(M_(l-1))' to it. One matrix alone moves B_0 = A_1' ... A_L' w by this times "
                "sign(M_0), up to a factor of order one.",
                "P",
                "P",
                rate,
            ),
            Step(
                "This step carries M_(l-1) to -eta sign(B_l) times the sum of |M_(l-1)| over d "
                "neurons, against its initial image, which is the root of the sum of squares over "
                "root d: it is a factor d eta larger. From the second step on the residuals carried"
                " up are aligned with the readout pulled down, at every level.",
                "x",
                "x",
                d * rate,
            ),
            Step(
                "So the steps of two neighbouring matrices meet in a coherent sum over d neurons: "
                "every further matrix multiplies the change by 1 + x. The change of B_0 along "
                "sign(M_0), times d:",
                "d P",
                "d\\,P",
                (1 + d * rate) ** k - 1,
            ),
            Step(
                "The loss depends on the change P alone, through -P sign(M_0) . e_i. It is best "
                "where P is the rate eta_1 that is best for one matrix alone.",
                "d P",
                "d\\,P",
                d * one,
            ),
            Step("Solve for eta.", "eta", r"\eta", together),
        ),
        source=SOURCE,
    )


@cache
def ratio_power_together() -> Derivation:
    """The power of d in eta_E*/eta along m = d^mu, mu <= 2, K matrices trained together."""
    k, mu = trained_matrices, s.vocab_exponent
    surplus = sp.Min(mu / 2, 1 - mu / 2)
    alone = optimal_learning_rate("projection")
    power = 1 - surplus / k
    return Derivation(
        name="power of the width in eta_E*/eta, K matrices trained together",
        left="x",
        latex_left="x",
        expression=power,
        assumptions=(*ASSUMPTIONS, "uniform tokens, m = d^mu with mu from 0 to 2"),
        steps=(
            Step(
                "One matrix alone, above a frozen embedding, is best trained at the rate",
                "eta_1",
                r"\eta_1",
                alone.expression,
            ),
            Step(
                "With uniform tokens eta_1 is of order 1/(root m + d/root m): its power of d is "
                "-1 plus what large vocabularies allow it beyond 1/d.",
                "power of d eta_1",
                r"\text{power of }d\,\eta_1",
                surplus,
            ),
            Step(
                "K matrices share it: d eta is of order (d eta_1)^(1/K).",
                "power of d eta",
                r"\text{power of }d\,\eta",
                surplus / k,
            ),
            Step(
                "The embedding's own optimum, sqrt(pi/2)/(d sigma_W) under muP, does not depend on "
                "d.",
                "x",
                "x",
                power,
            ),
        ),
        source=SOURCE,
    )
