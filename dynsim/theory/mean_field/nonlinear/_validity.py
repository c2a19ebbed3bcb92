"""Which nonlinear hidden layers mean-field theory covers, and which way of solving applies."""

from __future__ import annotations

import numpy as np

from dynsim._errors import InputError
from dynsim._setup import Experiment
from dynsim.theory.mean_field._model import Model
from dynsim.tokens._pieces import law_in_pieces

MAX_TOKEN_STEPS = 512  # directions on either side of a matrix, where every token has its own
LEAST_WIDTH = 128  # of Gaussian equivalence
MOST_READOUT = 0.13  # sqrt(d) times the size of the readout's initial entries
MOST_HEADS, HEAD_SHARE = 16, 0.01  # a frequent token has that share of sum p^2 at least


def few_tokens(setup: Experiment) -> bool:
    """Whether every token can be a direction of its own at every step."""
    return setup.vocab_size * setup.steps <= MAX_TOKEN_STEPS


def frequent_tokens(setup: Experiment) -> int:
    """How many leading tokens carry much of the law: what neurons hear of them is alike."""
    law, types = law_in_pieces(setup.law_name, setup.vocab_size)
    return int(np.sum(law[:MOST_HEADS] ** 2 > HEAD_SHARE * np.sum(types * law**2)))


def check_proportional(setup: Experiment, model: Model, neurons: int) -> None:
    """Raises `InputError` for a network that Gaussian equivalence does not cover."""
    fewer = (
        f"; or `vocab_size` ({setup.vocab_size}) times `steps` ({setup.steps}) at most "
        f"{MAX_TOKEN_STEPS}, which theory solves exactly; or train networks"
    )
    many = "with this many tokens in mean-field theory, "
    for field, given, covered, reason in (
        (
            "normalisation",
            model.normalisation,
            "none",
            "since a norm ties all neurons of a token together",
        ),
        ("depth", model.depth, 1, "since a second layer reads features that are not Gaussian"),
        (
            "residual",
            "yes" if model.residual else "no",
            "no",
            "since a skip connection makes a neuron's input a part of its output",
        ),
        (
            "optimizer",
            "muon" if model.muon else model.optimizer,
            model.optimizer,
            "since the gradient of a nonlinear layer has the rank of its tokens",
        ),
    ):
        if given != covered:
            raise InputError(field, given, f"must be {covered} {many}{reason}{fewer}")
    size = model.stds.projection * setup.width**0.5
    if size > MOST_READOUT:
        written = getattr(setup, "init_exponents", "auto") != "auto"
        field = "init_exponents" if written else "parametrization"
        raise InputError(
            field,
            getattr(setup, field),
            f"must give the initial readout entries of at most {MOST_READOUT} / sqrt(`width`) "
            f"{many}since larger initial outputs are not covered (here {size:.2g}){fewer}",
        )
    if setup.width < LEAST_WIDTH:
        allowed = f"must be at least {LEAST_WIDTH} {many}which holds for wide layers{fewer}"
        raise InputError("width", setup.width, allowed)
    directions = (setup.output_count + 2) * setup.steps
    if 6 * directions > neurons:
        raise InputError(
            "steps",
            setup.steps,
            f"times `outputs` + 2 must be at most {neurons // 6} {many}whose {neurons} neurons "
            f"every step takes directions of{fewer}",
        )
