"""Many outputs in place of few neurons each: a smaller network that trains alike.

Where outputs are exchangeable the linear network has a limit in which width, vocabulary and outputs
grow together. Its curves depend on the ratios of the three, so that a network of n outputs trains
as one of n' < n outputs does whose width and vocabulary are smaller by the same factor, with rates
in the derived ratio, up to terms of order 1/n'. Two sizes n' and n'/2 show these.
Source: docs/theory/many_outputs.md#many-outputs-similar.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import derivations
from dynsim._compiled import evaluate
from dynsim._errors import InputError, check_integer
from dynsim._network_setup import NetworkSetup
from dynsim._setup import Setup, check_covered

LEAST_OUTPUTS, LEAST_WIDTH = 16, 16  # of the larger of the two small networks
LINEAR = ("sgd", "momentum")
NEGLIGIBLE = 1e-3  # of a first gradient: an epsilon that may be scaled or not


class Similar(NamedTuple):
    """A small network, in numbers that its solver reads, and how its results are those asked for.

    Loss and mean squares of updates are multiplied by `loss_factor` and `square_factor`. `others`
    is how many classes each class but the token's own stands for.
    """

    outputs: int
    width: int
    vocab_size: int
    batch_size: int
    projection_std: float
    embedding_factor: float
    projection_factor: float
    loss_factor: float
    square_factor: float
    others: float


def spread_of(setup: Setup) -> derivations.SpreadOfTargets:
    """Whether a token's targets are on all outputs or on one."""
    return "one-output" if setup.targets == "onehot" else "all-outputs"


def check_similar(setup: Setup | NetworkSetup, sample: int) -> Setup:
    """The setup, of the linear model. Raises `InputError` where `sample` outputs do not stand for
    all of them, with the reason."""
    check_covered(setup, "a sample of outputs")
    assert isinstance(setup, Setup)
    n, name = setup.output_count, "output_sample"
    check_integer(name, sample, 2)

    def refuse(field: str, value: object, allowed: str) -> None:
        raise InputError(field, value, f"{allowed} with `{name}`")

    if setup.targets == "bigram":
        refuse(
            "targets",
            setup.targets,
            "must be gaussian, sign or onehot: outputs of a text have laws of their own, so that "
            "few of them do not stand for the others,",
        )
    if setup.target_rank:
        refuse(
            "target_rank",
            setup.target_rank,
            "must be 0: outputs with common factors push an embedding along them with all n at "
            "once, and along the rest with a square root of n, so that no rate fits both,",
        )
    if setup.law_name != "uniform":
        refuse(
            "tokens",
            setup.law_name,
            "must be uniform: what a frequent token adds to the gradients of n outputs grows with "
            "n beside all other tokens, so that no limit of many outputs exists,",
        )
    if setup.targets == "onehot" and setup.init == "sp":
        refuse(
            "init",
            setup.init,
            "must be mup for onehot targets: initial outputs of order one are n against one target",
        )
    least = math.gcd(n, setup.width, setup.vocab_size, setup.batch_size)
    step = 2 * n // least
    smallest = step * math.ceil(max(LEAST_OUTPUTS, LEAST_WIDTH * n / setup.width) / step)
    if sample % step or not smallest <= sample <= n // 2:
        found = (
            f"must be a multiple of {step} from {smallest} to {n // 2}"
            if smallest <= n // 2
            else "has no value that fits: `outputs`, `width`, `vocab_size` and `batch_size` must "
            "have a large common divisor"
        )
        raise InputError(
            name,
            sample,
            f"{found}, since it and half of it divide `width`, `vocab_size` and `batch_size` in "
            "one ratio",
        )
    _check_epsilon(setup)
    return setup


def _check_epsilon(setup: Setup) -> None:
    """Optimizers that divide gradients by their size must have an epsilon far below it."""
    if setup.optimizer in (*LINEAR, "sign"):
        return
    n, m = setup.output_count, setup.vocab_size
    dense = spread_of(setup) == "all-outputs"
    by_embedding = setup.projection_std * (math.sqrt(n) if dense else 1) / m
    by_projection = 1 / math.sqrt(m) if dense else 1 / math.sqrt(n * m)
    most = NEGLIGIBLE * min(by_embedding, by_projection)
    if setup.epsilon > most:
        allowed = f"must be at most {most:.1g}, far below the gradients, with `output_sample`"
        raise InputError("epsilon", setup.epsilon, allowed)


def similar(setup: Setup, outputs: int) -> Similar:
    """The network with so many outputs that trains like the setup's."""
    n, spread = setup.output_count, spread_of(setup)
    updates = "proportional" if setup.optimizer in LINEAR else "sized"
    values = {derivations.size_ratio: n / outputs}
    by_embedding, by_projection, by_std = (
        float(evaluate(one, values))
        for one in (
            derivations.similar_rate("embedding", spread, updates),
            derivations.similar_rate("projection", spread, updates),
            derivations.similar_std(spread),
        )
    )
    dense = spread == "all-outputs"
    return Similar(
        outputs,
        setup.width * outputs // n,
        setup.vocab_size * outputs // n,
        setup.batch_size * outputs // n,
        setup.projection_std / by_std,
        1 / by_embedding,
        1 / by_projection,
        n / outputs if dense else 1.0,
        1.0 if dense else outputs / n,
        1.0 if dense or setup.loss_name == "mse" else (n - 1) / (outputs - 1),
    )
