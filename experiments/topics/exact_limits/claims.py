"""Claims about the exact limits: gradient flow and linearised networks."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import LINEAR_MODEL, Claim

from .estimators import flow_loss, lazy_exponent

DISTANCE = "largest distance of the mean loss from the flow's, over the initial loss"

CLAIMS = (
    Claim(
        name="flow-infinite-width",
        statement="The loss of a wide linear network (embedding of width 1024 and projection, 8 "
        "token types) under gradient descent in small steps is that of the gradient flow of "
        "infinite width at fixed vocabulary, to within 3 % of the initial loss.",
        quantity=DISTANCE,
        prediction="0: aligned modes of Y, G_E(0) = sigma_E^2 d I",
        study="gradient_descent",
        evidence=partial(flow_loss, limit="infinite"),
        tolerance=0.03,
        citation="Saxe et al. 2014, arXiv 1312.6120; docs/theory/gradient_flow.md#aligned-modes",
    ),
    Claim(
        name="flow-proportional",
        statement="The loss of a linear network (embedding and projection) with twice as many "
        "token types m as its width d, under gradient descent in small steps, is to within 3 % of "
        "the initial loss that of the gradient flow of large m and d at m = 2d, in which the "
        "initial Gram matrix of the embeddings has the Marchenko-Pastur spectrum.",
        quantity=DISTANCE,
        prediction="0: Gram flow from the Marchenko-Pastur law",
        study="gradient_descent",
        evidence=partial(flow_loss, limit="proportional"),
        tolerance=0.03,
        citation="docs/theory/gradient_flow.md#flow-limits",
    ),
    Claim(
        name="lazy-keeps-lv",
        statement=f"In {LINEAR_MODEL}, linearised about its initial weights, under sign descent "
        "with m = 4096 >> d, all that the projection has learned after several steps changes the "
        "outputs by an RMS that grows like sqrt(d), as its first step does: a linearised network "
        "stays in the large-vocabulary (LV) regime.",
        quantity="exponent of projection_update_rms in d",
        prediction="1/2",
        study="lazy",
        evidence=partial(lazy_exponent, predicted=0.5),
        tolerance=0.05,
        citation="docs/theory/linearized.md#linearised-lv",
        rival=1.0,
    ),
    Claim(
        name="control-flow-of-fixed-vocabulary",
        statement="Wrong on purpose: the loss of a linear network (embedding and projection) with "
        "twice as many token types m as its width d, under gradient descent in small steps, is to "
        "within 3 % of the initial loss that of the gradient flow of infinite width at fixed "
        "vocabulary.",
        quantity=DISTANCE,
        prediction="0",
        study="gradient_descent",
        evidence=partial(flow_loss, limit="proportional", of="infinite"),
        tolerance=0.03,
        citation="contradicts flow-proportional; docs/theory/gradient_flow.md#flow-limits",
        expected="fails",
    ),
)
