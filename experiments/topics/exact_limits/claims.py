"""Claims about the exact limits: gradient flow and linearised networks."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import Claim

from .estimators import flow_loss, lazy_exponent

DISTANCE = "largest distance of the mean loss from the flow's, over the initial loss"

CLAIMS = (
    Claim(
        name="flow-infinite-width",
        statement="The loss of a wide linear network (width 1024, 8 token types) under gradient "
        "descent in small steps follows the gradient flow of infinite width at fixed vocabulary.",
        quantity=DISTANCE,
        prediction="0: aligned modes of Y, G_E(0) = sigma_E^2 d I",
        study="gradient_descent",
        evidence=partial(flow_loss, limit="infinite"),
        tolerance=0.03,
        citation="Saxe et al. 2014, arXiv 1312.6120; docs/theory/gradient_flow.md#aligned-modes",
    ),
    Claim(
        name="flow-proportional",
        statement="The loss of a linear network with twice as many token types as neurons (m = "
        "2d) under gradient descent in small steps follows the gradient flow whose initial Gram "
        "matrix has the Marchenko-Pastur spectrum.",
        quantity=DISTANCE,
        prediction="0: Gram flow from the Marchenko-Pastur law",
        study="gradient_descent",
        evidence=partial(flow_loss, limit="proportional"),
        tolerance=0.03,
        citation="docs/theory/gradient_flow.md#flow-limits",
    ),
    Claim(
        name="lazy-keeps-lv",
        statement="In a linearised network under sign descent (m = 4096 >> d) the projection's "
        "update after several steps still grows like sqrt(d), as at its first step: a linearised "
        "network stays in the large-vocabulary (LV) regime.",
        quantity="exponent of projection_update_rms in d",
        prediction="1/2",
        study="lazy",
        evidence=partial(lazy_exponent, predicted=0.5),
        tolerance=0.05,
        citation="docs/theory/linearized.md#linearised-lv",
    ),
    Claim(
        name="control-flow-of-fixed-vocabulary",
        statement="Wrong on purpose: the loss of a linear network with m = 2d under gradient "
        "descent in small steps follows the flow of infinite width at fixed vocabulary.",
        quantity=DISTANCE,
        prediction="0",
        study="gradient_descent",
        evidence=partial(flow_loss, limit="proportional", of="infinite"),
        tolerance=0.03,
        citation="contradicts flow-proportional; docs/theory/gradient_flow.md#flow-limits",
        expected="fails",
    ),
)
