"""One door to the two trainers: the description says which one trains."""

from __future__ import annotations

from typing import Any, overload

from numpy.typing import ArrayLike

from dynsim._errors import InputError
from dynsim._network_setup import NetworkSetup
from dynsim._setup import Setup

from ._linear_training import Training, train_linear
from ._training import NetworkTraining, train_networks


@overload
def train(setup: Setup, seeds: int | ArrayLike = 4, **options: Any) -> Training: ...


@overload
def train(setup: NetworkSetup, seeds: int | ArrayLike = 4, **options: Any) -> NetworkTraining: ...


def train(
    setup: Setup | NetworkSetup, seeds: int | ArrayLike = 4, **options: Any
) -> Training | NetworkTraining:
    """Trains the networks of a description, one for each seed.

    A `Setup` (the linear model) is trained by `train_linear`, which records loss and updates at
    every step; a `NetworkSetup` by `train_networks`, which records losses. `options` are theirs.
    A number of seeds K means those labelled 0, ..., K - 1; a sequence gives the labels.

    Raises `InputError` for another description, and as they do.

    **Example:**

    >>> from dynsim import Setup, train
    >>> setup = Setup(width=16, vocab_size=32, optimizer="sign", steps=3)
    >>> train(setup, seeds=2).loss.shape  # pairs of learning rates, seeds, steps and the start
    (1, 2, 3)
    """
    if isinstance(setup, Setup):
        return train_linear(setup, seeds, **options)
    if not isinstance(setup, NetworkSetup):
        raise InputError(
            "setup", type(setup).__name__, "must be a dynsim.Setup or dynsim.NetworkSetup"
        )
    return train_networks(setup, seeds=seeds, **options)
