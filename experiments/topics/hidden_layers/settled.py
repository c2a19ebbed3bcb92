"""The one setup beyond what is allowed whatever the networks: everything again, and its own law.

Other networks; the usual prediction with other random numbers; and the equations with all tokens
and as many independent neurons as the network has, which sample the law of the network itself
without a limit. Where networks have this law and the prediction does not, a correction is missing;
where all three agree, the distance was noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim.laboratory import NetworkSetup
from dynsim.theory.mean_field._averages import combined, standard_error
from dynsim.theory.mean_field._model import model_of
from dynsim.theory.mean_field._particles import token_particles
from dynsim.theory.mean_field._replicas import Rates, Sampling, solutions
from dynsim.theory.mean_field._result import rms_and_error
from dynsim.theory.mean_field._solver import Plan
from experiments.topics._seeds import run_seed

from .cases import CASES, case_setup
from .networks import drawn, trained

Floats = NDArray[np.float64]

SETTLED = "4 plain layers, Adam, Zipf 1, batch of 256"
OTHER_NETWORKS = 1  # beside the case and the run, names random numbers that no other study has
FIRST_REPLICA = 2000  # of the other random numbers; the study of all setups has 64 from 0 on


def measured(
    case: str, networks: int, tokens: int, neurons: int, replicas: int, seed: int = 0
) -> Mapping[str, tuple[Sequence[str], Any]]:
    """Curves of every network; prediction and law with their standard errors."""
    setup = case_setup(case, seed)
    random = np.random.default_rng([list(CASES).index(case), run_seed(seed), OTHER_NETWORKS])
    found = [trained(setup, drawn(setup, random), random) for _ in range(networks)]
    limit = _records(setup, tokens, neurons, True, replicas)
    companions = [
        _records(setup, tokens // 2, neurons // 2, even, replicas) for even in (True, False)
    ]
    law = _records(setup, setup.vocab_size, setup.width, False, replicas)
    share = min(setup.width, neurons // 2) / setup.width
    mean, spread, bias, _ = combined([limit, *companions], share, 1, 1.0)
    return {
        "loss": (("step", "seed"), _numbers([one.loss for one in found])),
        "mean_square": (
            ("update", "step", "seed"),
            _numbers([one.mean_square for one in found]),
        ),
        **_curves("predicted", mean[0], np.hypot(spread, bias)[0]),
        **_curves("law", law.mean(axis=1)[0], standard_error(law, 1)[0]),
    }


def _records(
    setup: NetworkSetup, tokens: int, neurons: int, evenly_spread: bool, replicas: int
) -> Floats:
    model = model_of(setup)
    plan = Plan(
        *(tokens, neurons, setup.output_count, setup.loss_name, model.optimizer, setup.steps, True),
        *(model.depth, model.residual, model.muon, model.activation, model.normalisation),
    )
    rates = Rates(
        np.array([setup.embedding_lr]),
        np.full((1, setup.depth), setup.hidden_lr),
        np.array([setup.readout_rate(setup.hidden_lr)]),
    )
    sampling = Sampling(replicas, 1, rates, evenly_spread, None, FIRST_REPLICA)
    tokens_of = token_particles(setup, tokens)
    return solutions(setup, model, plan, tokens_of, sampling, lambda part: None)[0]


def _numbers(networks: Sequence[Floats]) -> NDArray[np.float32]:
    """The networks last."""
    return np.stack(networks, axis=-1).astype(np.float32)


def _curves(name: str, mean: Floats, error: Floats) -> dict[str, tuple[Sequence[str], Any]]:
    """Of loss and updates, from columns that hold the loss and the updates' mean squares."""
    rms, rms_error = rms_and_error(mean[:, 1:], error[:, 1:])
    return {
        name: (("step",), mean[:, 0]),
        f"{name}_error": (("step",), error[:, 0]),
        f"{name}_rms": (("update", "step"), rms.T),
        f"{name}_rms_error": (("update", "step"), rms_error.T),
    }
