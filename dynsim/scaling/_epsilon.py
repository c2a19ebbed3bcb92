"""Whether Adam's epsilon is small against the first gradients, so that Adam begins as sign does."""

from __future__ import annotations

import math

from dynsim._setup import Setup
from dynsim.theory.mean_field._similar import spread_of

from ._quantity import AnySetup, Quantity, Unavailable

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


def large_against(quantity: Quantity, setup: AnySetup) -> dict[str, float]:
    """Of the linear network's layers that a quantity is of: those whose first gradient is not a
    hundred times Adam's epsilon, with it."""
    if not isinstance(setup, Setup) or setup.optimizer != "adam":
        return {}
    found, large = first_gradients(setup), setup.epsilon / NEGLIGIBLE
    return {one: found[one] for one in quantity.moving_layers(setup) if found[one] < large}


def check_small(quantity: Quantity, setup: AnySetup) -> None:
    """Raises `Unavailable` where what is derived, which is for a small epsilon, is another rule."""
    for layer, gradient in large_against(quantity, setup).items():
        raise Unavailable(f"`epsilon` is over 1 % of the {layer}'s gradient ({gradient:.2g})")


def check_small_epsilon(setup: Setup) -> None:
    """Raises `Unavailable` unless Adam's first step is that of sign: epsilon is small against the
    gradient p_i sigma_W of an embedding of mean frequency."""
    gradient = setup.projection_std * setup.law().power_sum(2)
    if setup.optimizer == "adam" and setup.epsilon > NEGLIGIBLE * gradient:
        raise Unavailable(
            f"`epsilon` {setup.epsilon:g} is more than a hundredth of the gradients at `width` "
            f"{setup.width} and `vocab_size` {setup.vocab_size} (about {gradient:.2g})"
        )
