"""Whether Adam's epsilon is small against the gradients, so that its first step is that of sign."""

from __future__ import annotations

from dynsim._setup import Setup

NEGLIGIBLE = 0.01  # of a gradient's size


def gradient_size(setup: Setup) -> float:
    """p sigma_W, the gradient of an embedding, p being the mean frequency of the tokens of the law
    or, where they are drawn, the mean share of a batch that a drawn token has."""
    share = setup.law().power_sum(2)
    if setup.batch_size:
        share += (1 - share) / setup.batch_size
    return setup.projection_std * share


def is_negligible(setup: Setup) -> bool:
    """Whether there is no epsilon, or it is at most a hundredth of a gradient."""
    return setup.optimizer != "adam" or setup.epsilon <= NEGLIGIBLE * gradient_size(setup)
