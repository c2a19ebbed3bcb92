"""The study of linear hidden layers: mean-field predictions beside finite networks, case by case.

Cells hold the predictions with their numerical errors, every seed of the networks, and for some
cases the negative control without responses. Cases of `AGAIN` are measured with more networks and
replicas than the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from dynsim import predict
from dynsim.laboratory import NetworkSetup, train_networks
from dynsim.theory.mean_field._averages import combined, standard_error
from dynsim.theory.mean_field._model import model_of
from dynsim.theory.mean_field._particles import token_particles
from dynsim.theory.mean_field._replicas import Rates, Sampling, solutions
from dynsim.theory.mean_field._result import rms_and_error
from dynsim.theory.mean_field._solver import Plan
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

from .cases import AGAIN, CASES, CONTROLLED, case_setup
from .networks import drawn, trained

UPDATES = ("projection_update_rms", "embedding_update_rms", "projection_step_rms")
MOST_LAYERS = 8
MOST_STEPS = 30
FEW = 256  # tokens: solutions and networks of so few cost little, and there are more of them
FEW_TOKENS_TIMES = 4
MOST_NETWORKS = 192


def config(full: bool) -> dict[str, int]:
    return {"particles": 2048, "replicas": 8, "seeds": 16}


def _measure(
    case: str, particles: int, replicas: int, seeds: int, seed: int = 0
) -> Mapping[str, tuple[Sequence[str], Any]]:
    """Prediction, control and every network's curve; NaN for layers that a case has not."""
    setup = case_setup(case, seed)
    solver: dict[str, Any] = {"particles": particles, "replicas": replicas}
    if setup.vocab_size <= FEW:
        solver["replicas"] = FEW_TOKENS_TIMES * replicas
        seeds *= FEW_TOKENS_TIMES
    if case in AGAIN:
        seeds, solver["replicas"] = AGAIN[case]
    found = predict(setup, **solver)
    without = np.full(setup.steps, np.nan)
    if case in CONTROLLED:
        solver |= {"responses": False, "finite_width": False, "error_estimate": False}
        without = predict(setup, **solver).loss[0]
    networks = train_networks(
        setup, seeds=seeds, horizons=range(1, setup.steps), record_updates=True
    )
    losses = np.hstack([networks.initial_loss[:, None], networks.loss])
    assert networks.hidden_update_rms is not None
    hidden = np.moveaxis(networks.hidden_update_rms, 2, 0)
    squares = np.stack([*(getattr(networks, name) for name in UPDATES), *_filled(hidden)]) ** 2

    def curves(suffix: str = "") -> NDArray[np.float64]:
        layers = getattr(found, f"hidden_update_rms{suffix}")[0].T
        return np.stack([*(getattr(found, n + suffix)[0] for n in UPDATES), *_filled(layers)])

    return _filled_up(
        {
            "predicted": (("step",), found.loss[0]),
            "predicted_error": (("step",), found.loss_error[0]),
            "correction": (("step",), found.finite_width_correction[0]),
            "without_responses": (("step",), without),
            "predicted_rms": (("update", "step"), curves()),
            "predicted_rms_error": (("update", "step"), curves("_error")),
            "loss": (("step", "seed"), losses.T.astype(np.float32)),
            "mean_square": (("update", "step", "seed"), squares.swapaxes(1, 2).astype(np.float32)),
            "status": ((), str(found.outcome[0])),
        }
    )


def _filled_up(
    measured: Mapping[str, tuple[Sequence[str], Any]],
) -> Mapping[str, tuple[Sequence[str], Any]]:
    """All cases have as many steps and seeds, those that a case has not are NaN."""
    sizes = {"step": MOST_STEPS, "seed": MOST_NETWORKS}
    cell = xr.Dataset(dict(measured))
    missing = {
        str(name): (0, sizes[str(name)] - size)
        for name, size in cell.sizes.items()
        if str(name) in sizes
    }
    cell = cell.pad(missing, constant_values=np.nan)
    return {
        str(name): ([str(dim) for dim in one.dims], one.to_numpy())
        for name, one in cell.variables.items()
    }


def _filled(layers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Layers first, `MOST_LAYERS` of them."""
    missing = [(0, MOST_LAYERS - len(layers))] + [(0, 0)] * (layers.ndim - 1)
    return np.pad(layers, missing, constant_values=np.nan)


HIDDEN_LAYERS = Study(
    "hidden_layers",
    cells=lambda full: grid(case=CASES) if full else [],
    measure=_measure,
    config=config,
    labels={"update": [*UPDATES, *(f"hidden_{layer}" for layer in range(1, MOST_LAYERS + 1))]},
)
# Cases that are farther away than allowed, and how many other networks of them are trained. Targets
# are those of the first study, so that its predictions are about these networks too.
FOLLOWED = {
    "2 plain layers, sign, Zipf 1.2": 120,
    "4 layers, sign, oscillating": 200,
    "4 plain layers, Adam, Zipf 1, batch of 256": 40,
}


def _followed(case: str, seed: int = 0) -> Mapping[str, tuple[Sequence[str], Any]]:
    """Every other network's curves."""
    setup = case_setup(case, seed)
    random = np.random.default_rng([list(CASES).index(case), run_seed(seed)])
    found = [trained(setup, drawn(setup, random), random) for _ in range(FOLLOWED[case])]
    updates = len(UPDATES) + MOST_LAYERS
    squares = np.full((updates, setup.steps, max(FOLLOWED.values())), np.nan, np.float32)
    losses = np.full(squares.shape[1:], np.nan, np.float32)
    for number, network in enumerate(found):
        losses[:, number] = network.loss
        squares[: len(network.mean_square), :, number] = network.mean_square
    return {
        "loss": (("step", "seed"), losses),
        "mean_square": (("update", "step", "seed"), squares),
    }


FOLLOWED_LAYERS = Study(
    "hidden_layers_followed",
    cells=lambda full: grid(case=FOLLOWED) if full else [],
    measure=_followed,
    config=lambda full: {},
    labels=HIDDEN_LAYERS.labels,
)

# The setup that stayed beyond under other networks, with everything measured again: other networks,
# the usual prediction with other random numbers, and the equations with all tokens and as many
# independent neurons as the network has, which sample the network's own law without a limit.
SETTLED = "4 plain layers, Adam, Zipf 1, batch of 256"
OTHER_NETWORKS = 1  # beside the case and the run, names random numbers that no other study has
FIRST_REPLICA = 2000  # of the other random numbers; the study of all setups has 64 from 0 on


def _settled(
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
        **_solved_curves("predicted", mean[0], np.hypot(spread, bias)[0]),
        **_solved_curves("law", law.mean(axis=1)[0], standard_error(law, 1)[0]),
    }


def _records(
    setup: NetworkSetup, tokens: int, neurons: int, evenly_spread: bool, replicas: int
) -> NDArray[np.float64]:
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


def _numbers(networks: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """The networks last."""
    return np.stack(networks, axis=-1).astype(np.float32)


def _solved_curves(
    name: str, mean: NDArray[np.float64], error: NDArray[np.float64]
) -> dict[str, tuple[Sequence[str], Any]]:
    """Of loss and updates, from columns that hold the loss and the updates' mean squares."""
    rms, rms_error = rms_and_error(mean[:, 1:], error[:, 1:])
    return {
        name: (("step",), mean[:, 0]),
        f"{name}_error": (("step",), error[:, 0]),
        f"{name}_rms": (("update", "step"), rms.T),
        f"{name}_rms_error": (("update", "step"), rms_error.T),
    }


SETTLED_LAYERS = Study(
    "hidden_layers_settled",
    cells=lambda full: grid(case=(SETTLED,)) if full else [],
    measure=_settled,
    config=lambda full: {"networks": 240, "tokens": 2048, "neurons": 512, "replicas": 96},
    labels={"update": [*UPDATES, *(f"hidden_{layer}" for layer in range(1, 5))]},
)
STUDIES = (HIDDEN_LAYERS, FOLLOWED_LAYERS, SETTLED_LAYERS)
