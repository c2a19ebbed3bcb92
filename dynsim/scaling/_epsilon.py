"""Whether Adam's epsilon is small against the first gradients, so that Adam begins as sign does."""

from __future__ import annotations

import math

from dynsim._setup import Setup
from dynsim.theory.mean_field._similar import spread_of

NEGLIGIBLE = 0.01  # of a gradient's size


def first_gradients(setup: Setup) -> dict[str, float]:
    """The size of an entry of each layer's gradient at the start, for residuals of order one.

    With n outputs that all have targets it is sqrt(n) s sigma_W for an embedding and sqrt(s) for
    the projection; with one output of n it is s sigma_W and sqrt(s / n). Here s is the mean
    frequency of a token in full batch, P_2 = sum_i p_i^2, and in a batch of B tokens the mean share
    of a token that is drawn, P_2 + (1 - P_2) / B.
    """
    share, outputs = setup.law().power_sum(2), setup.output_count
    if setup.batch_size:
        share += (1 - share) / setup.batch_size
    dense = spread_of(setup) == "all-outputs"
    return {
        "embedding": setup.projection_std * share * (math.sqrt(outputs) if dense else 1),
        "projection": math.sqrt(share / (1 if dense else outputs)),
    }


def large_against(setup: Setup, layers: tuple[str, ...]) -> dict[str, float]:
    """Of these layers those whose first gradient is not a hundred times Adam's epsilon, with it."""
    if setup.optimizer != "adam":
        return {}
    gradients = first_gradients(setup)
    return {
        layer: gradients[layer] for layer in layers if setup.epsilon > NEGLIGIBLE * gradients[layer]
    }
