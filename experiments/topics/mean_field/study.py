"""Studies of the mean-field solver: its predictions beside finite networks, width by width.

Cells hold the predictions with their numerical errors, the infinite-width limit, the negative
control without responses, and every seed of the networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dynsim import Setup, predict, train
from dynsim._targets import targets
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

from .networks import losses

UPDATES = ["projection_update_rms", "embedding_update_rms", "projection_step_rms"]
BASE_WIDTH = 256  # at which the learning rates are stated
# (tokens over width, what differs from sign descent on uniform tokens)
CASES: Mapping[str, tuple[float, Mapping[str, Any]]] = {
    "uniform, oscillating": (4, {"embedding_lr": 0.06, "projection_lr": 0.03}),
    "uniform, few tokens, SP": (
        1 / 16,
        {"embedding_lr": 0.01, "projection_lr": 0.003, "init": "sp"},
    ),
    "Zipf 1, embedding alone": (
        4,
        {"tokens": "zipf:1", "embedding_lr": 0.03, "projection_lr": 0.0},
    ),
    "uniform, lazy": (16, {"embedding_lr": 0.004, "projection_lr": 0.002}),
    "Zipf 0.8, projection alone": (
        4,
        {"tokens": "zipf:0.8", "embedding_lr": 0.0, "projection_lr": 0.02},
    ),
    "Zipf 1.2, cross-entropy": (
        4,
        {
            "tokens": "zipf:1.2",
            "loss": "ce",
            "targets": "onehot",
            "outputs": 8,
            "embedding_lr": 0.03,
            "projection_lr": 0.01,
        },
    ),
    "corpus, cross-entropy": (
        4,
        {
            "tokens": "corpus",
            "loss": "ce",
            "targets": "bigram",
            "outputs": 8,
            "embedding_lr": 0.03,
            "projection_lr": 0.01,
        },
    ),
    "Zipf 0.8, Adam, mini-batch": (
        8,
        {
            "tokens": "zipf:0.8",
            "optimizer": "adam",
            "batch_size": 512,
            "embedding_lr": 0.03,
            "projection_lr": 0.01,
        },
    ),
}
PARTICLE_CASES = ("uniform, lazy", "Zipf 0.8, projection alone", "Zipf 1, embedding alone")
REFERENCE_PARTICLES = 8192


def case_setup(case: str, width: int, steps: int, seed: int = 0) -> Setup:
    """The case at a width, in the same regime: along m ~ d a projection LR ~ 1/sqrt(d)."""
    ratio, fields = CASES[case]
    fields = {"optimizer": "sign", "epsilon": 1e-8, "seed": run_seed(seed), **fields}
    setup = Setup(width=width, vocab_size=round(ratio * width), steps=steps, **fields)
    return replace(setup, projection_lr=setup.projection_lr * (BASE_WIDTH / width) ** 0.5)


def _mean_field_cell(
    case: str, width: int, steps: int, particles: int, replicas: int, seeds: int, seed: int = 0
) -> Mapping[str, tuple[Sequence[str], Any]]:
    """Prediction, limit, control and every network's curve."""
    setup = case_setup(case, width, steps, seed)
    solver: dict[str, Any] = {"particles": particles, "replicas": replicas}
    found = predict(setup, **solver)
    control = predict(setup, responses=False, finite_width=False, error_estimate=False, **solver)
    # In float32 a learned token's residual rounds to 0, and with it the sign of its gradient.
    networks = train(setup, seeds, dtype="float64")
    squares = np.stack([getattr(networks, name)[0] ** 2 for name in UPDATES])
    return {
        "predicted": (("step",), found.loss[0]),
        "predicted_error": (("step",), found.loss_error[0]),
        "correction": (("step",), found.finite_width_correction[0]),
        "without_responses": (("step",), control.loss[0]),
        "predicted_rms": (("update", "step"), np.stack([getattr(found, n)[0] for n in UPDATES])),
        "predicted_rms_error": (
            ("update", "step"),
            np.stack([getattr(found, f"{name}_error")[0] for name in UPDATES]),
        ),
        "loss": (("step", "seed"), networks.loss[0].T.astype(np.float32)),
        "mean_square": (("update", "step", "seed"), squares.swapaxes(1, 2).astype(np.float32)),
    }


MEAN_FIELD = Study(
    "mean_field",
    cells=lambda full: grid(case=CASES, width=(256, 512, 1024)) if full else [],
    measure=_mean_field_cell,
    config=lambda full: {"steps": 10, "particles": 1024, "replicas": 16, "seeds": 32},
    labels={"update": UPDATES},
)


def _width_cell(
    width: int, steps: int, particles: int, replicas: int, seeds: int, seed: int = 0
) -> Any:
    """Loss of networks of few neurons and of the limit, summed over steps."""
    rate = 0.3 / width**0.5
    setup = Setup(
        width=width,
        vocab_size=4 * width,
        steps=steps,
        optimizer="sign",
        init="sp",
        embedding_lr=rate,
        projection_lr=rate,
        seed=run_seed(seed),
    )
    found = predict(setup, particles=particles, replicas=replicas, error_estimate=False)
    limit = found.loss[0] - found.finite_width_correction[0]
    losses = train(setup, seeds, record_updates=False).loss[0]
    return {
        "excess": (("seed",), (losses - limit).sum(axis=-1).astype(np.float32)),
        "correction": ((), found.finite_width_correction[0].sum()),
    }


WIDTHS = Study(
    "mean_field_widths",
    cells=lambda full: grid(width=(8, 16, 32)) if full else [],
    measure=_width_cell,
    config=lambda full: {"steps": 8, "particles": 512, "replicas": 160, "seeds": 12_000},
)


def _particle_cell(
    case: str, particles: int, width: int, steps: int, replicas: int, seed: int = 0
) -> Any:
    """The limit's loss with its stated error."""
    setup = case_setup(case, width, steps, seed)
    found = predict(setup, particles=particles, replicas=replicas, finite_width=False)
    return {"loss": (("step",), found.loss[0]), "loss_error": (("step",), found.loss_error[0])}


PARTICLES = Study(
    "mean_field_particles",
    cells=lambda full: (
        grid(case=PARTICLE_CASES, particles=(128, 256, 512, 1024, 2048, 4096, REFERENCE_PARTICLES))
        if full
        else []
    ),
    measure=_particle_cell,
    config=lambda full: {"width": 4096, "steps": 10, "replicas": 16},
)

# Networks with many outputs: (neurons and tokens over outputs, what differs from sign descent at
# muP's start). Rates are stated for targets on all outputs as (embedding, projection sqrt(d)), for
# one-hot targets as (embedding, projection d).
MANY_OUTPUT_CASES: Mapping[str, tuple[int, int, float, float, Mapping[str, Any]]] = {
    "gaussian, sign": (1, 2, 0.08, 0.2, {}),
    "gaussian, more neurons, sign, SP": (2, 4, 0.03, 0.2, {"init": "sp"}),
    "sign, Adam": (1, 4, 0.1, 0.25, {"targets": "sign", "optimizer": "adam"}),
    "one-hot, cross-entropy, Adam": (
        1,
        2,
        0.05,
        1.5,
        {"targets": "onehot", "loss": "ce", "optimizer": "adam", "epsilon": 1e-14},
    ),
}


def many_outputs_setup(case: str, outputs: int, steps: int, seed: int) -> Setup:
    """The case with so many outputs."""
    neurons, tokens, embedding_lr, projection_lr, fields = MANY_OUTPUT_CASES[case]
    power = 1.0 if fields.get("targets") == "onehot" else 0.5
    given: dict[str, Any] = {"optimizer": "sign", **fields}
    return Setup(
        width=neurons * outputs,
        vocab_size=tokens * outputs,
        outputs=outputs,
        embedding_lr=embedding_lr,
        projection_lr=projection_lr / (neurons * outputs) ** power,
        steps=steps,
        seed=run_seed(seed, 4000),
        **given,
    )


def _many_outputs_cell(
    case: str, width: int, steps: int, sample: int, replicas: int, seeds: int, seed: int = 0
) -> Any:
    """Networks with `width` outputs, the prediction by a sample of them, and networks with as many
    outputs as the sample at the rates of the large ones."""
    setup = many_outputs_setup(case, width, steps, seed)
    found = predict(setup, output_sample=sample, replicas=replicas)
    small = many_outputs_setup(case, sample, steps, seed)
    small = replace(small, projection_lr=setup.projection_lr)
    networks, unscaled = (
        np.stack([losses(one, targets(one), number) for number in range(seeds)])
        for one in (setup, small)
    )
    per_output = width / sample if setup.loss_name == "mse" else 1.0
    return {
        "predicted": (("step",), found.loss[0]),
        "predicted_error": (("step",), found.loss_error[0]),
        "unscaled": (("step",), per_output * unscaled.mean(axis=0)),
        "loss": (("step", "seed"), networks.T.astype(np.float32)),
    }


MANY_OUTPUTS = Study(
    "many_outputs",
    cells=lambda full: grid(case=MANY_OUTPUT_CASES, width=(256,)) if full else [],
    measure=_many_outputs_cell,
    config=lambda full: {"steps": 12, "sample": 64, "replicas": 16, "seeds": 4},
)

STUDIES = (MEAN_FIELD, WIDTHS, PARTICLES, MANY_OUTPUTS)
