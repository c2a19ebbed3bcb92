"""Studies of the exact limits: gradient descent in small steps, and linearised networks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynsim import Setup, predict_linearized, targets, train
from dynsim._draws import normal_rows
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

# limit of gradient flow -> the sizes at which networks are held against it
DESCENT_SIZES = {"infinite": (1024, 8), "proportional": (256, 512)}


def descent_setup(limit: str, steps: int, seed: int = 0) -> Setup:
    """Gradient descent of two outputs, both layers learning, in steps that resolve the flow."""
    width, vocab_size = DESCENT_SIZES[limit]
    return Setup(
        width=width,
        vocab_size=vocab_size,
        outputs=2,
        optimizer="sgd",
        embedding_lr=0.003 * width * vocab_size,
        projection_lr=0.005 * vocab_size / (width + vocab_size),
        steps=steps,
        seed=run_seed(seed),
    )


def _descent_cell(limit: str, seeds: int, steps: int, seed: int = 0) -> Any:
    loss = train(descent_setup(limit, steps, seed), seeds, record_updates=False).loss[0]
    return {"loss": (("seed", "step"), loss)}


DESCENT = Study(
    "gradient_descent",
    cells=lambda full: grid(limit=tuple(DESCENT_SIZES)),
    measure=_descent_cell,
    config=lambda full: {"seeds": 32 if full else 20, "steps": 61},
)


def _outputs(params: dict[str, Any]) -> Any:
    return params["embedding"] @ params["projection"].T


def _lazy_cell(
    width: int,
    vocab_size: int,
    seeds: int,
    steps: int,
    embedding_lr: float,
    projection_lr: float,
    seed: int = 0,
) -> Any:
    """Linearised embedding + projection under sign: mean square of (W_t - W_0) e_i(0)."""
    setup = Setup(
        width=width,
        vocab_size=vocab_size,
        targets="sign",
        optimizer="sign",
        seed=run_seed(seed),
    )
    rates = {"embedding": embedding_lr, "projection": projection_lr}
    wanted = targets(setup)

    squares = []
    for number in range(seeds):
        key = jax.random.key(run_seed(seed, number))
        keys = jax.random.split(jax.random.fold_in(key, width))
        start = {
            "embedding": normal_rows(keys[:1], 1.0, (vocab_size, width), "float64")[0],
            "projection": normal_rows(keys[1:], setup.projection_std, (1, width), "float64")[0],
        }
        last = predict_linearized(
            _outputs, start, None, wanted, [steps], optimizer="sign", learning_rates=rates
        ).params
        update = start["embedding"] @ (last["projection"] - start["projection"]).T
        squares.append(float(jnp.mean(update**2)))
    return {"mean_square": (("seed",), np.array(squares))}


LAZY = Study(
    "lazy",
    cells=lambda full: grid(width=(32, 64, 128, 256, 512) if full else (64, 128, 256)),
    measure=_lazy_cell,
    config=lambda full: {
        "vocab_size": 4096,
        "seeds": 16 if full else 6,
        "steps": 8,
        "embedding_lr": 0.03,
        "projection_lr": 1e-4,
    },
)

STUDIES = (DESCENT, LAZY)
