"""Studies of one-hot bigram tasks: steps to a relative loss, and loss curves beside the flow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dynsim import Setup, token_law, train
from dynsim._optimizers import constants, direction
from dynsim.theory import one_hot_steps
from dynsim.theory._one_hot import REACHES, Descent, steps_below
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

BEYOND = 100  # times the trained vocabulary, at which theory is asked too
MARGIN = 1.3  # times the steps of theory, for which gradient descent is trained
OUTPUTS = 16  # of networks under gradient descent, all of which learn alike
RANDOM_START = 0.2


@dataclass(frozen=True)
class Task:
    """An optimizer on a task of Zipf exponent alpha; the rest as in `one_hot_steps`."""

    optimizer: Descent
    zipf_exponent: float
    start: float = 0.0
    even_steps: bool = False


TASKS = {
    "gradient 1": Task("sgd", 1.0),
    "gradient 1/2": Task("sgd", 0.5),
    "gradient 2": Task("sgd", 2.0),
    "sign 1": Task("sign", 1.0, RANDOM_START),
    "sign 1/4": Task("sign", 0.25, RANDOM_START),
    "sign 2": Task("sign", 2.0, RANDOM_START),
    "sign 1, even steps": Task("sign", 1.0, 1e-3, even_steps=True),
}


def _loss(weights: Any, frequencies: Any, wanted: Any) -> Any:
    """sum_i p_i |w_i - y_i|^2 / 2: the network's output for the one-hot token i is its row."""
    return jnp.sum(frequencies * jnp.sum((weights - wanted) ** 2, axis=-1)) / 2


@cache
def _descent(optimizer: Descent) -> Any:
    """One step of the optimizer on the loss, of rows (R, n) with learning rates (R,)."""
    phi = direction(optimizer, constants(Setup(width=1, vocab_size=1)))

    def descend(weights: Any, frequencies: Any, wanted: Any, rates: Any) -> Any:
        gradient = jax.grad(_loss)(weights, frequencies, wanted)
        update, _ = phi.update(gradient, phi.init(weights))
        return optax.apply_updates(weights, -rates[:, None] * update)

    return descend


@jax.jit
def _two_phases(start: Any, frequency: Any, wanted: Any, rates: Any, steps: Any) -> Any:
    """Squared distance of every row from its targets after `steps` of sign descent, and one more.

    Every row is the same token's, at a learning rate of its own.
    """
    descend = partial(_descent("sign"), frequencies=frequency, wanted=wanted, rates=rates)
    last = jax.lax.fori_loop(0, steps, lambda _, weights: descend(weights), start)
    return tuple(jnp.sum((one - wanted) ** 2, axis=-1) for one in (last, descend(last)))


@partial(jax.jit, static_argnames="steps")
def _gradient_losses(start: Any, frequencies: Any, wanted: Any, rates: Any, steps: int) -> Any:
    """The loss after 1, 2, ... steps of gradient descent, shape (steps,)."""

    def step(weights: Any, _: Any) -> Any:
        weights = _descent("sgd")(weights, frequencies, wanted, rates)
        return weights, _loss(weights, frequencies, wanted)

    return jax.lax.scan(step, start, length=steps)[1]


def _sign_steps(task: Task, vocab_size: int, relative_loss: float, seed: int) -> float:
    """Steps that the row of a token takes, drawn by frequency, at the best learning rate."""
    p = token_law(f"zipf:{task.zipf_exponent}", vocab_size).frequencies
    random = np.random.default_rng(seed)
    frequency = float(random.choice(p, p=p))
    wanted = random.permutation(p)
    start = task.start * np.sqrt(np.mean(wanted**2)) * random.standard_normal(vocab_size)
    initial = float(np.sum((start - wanted) ** 2))
    shape = (REACHES.size, vocab_size)
    starts, goals = jnp.broadcast_to(start, shape), jnp.broadcast_to(wanted, shape)

    def loss_after(steps: int) -> float:
        after, later = _two_phases(starts, frequency, goals, REACHES * p[0] / steps, steps)
        return float(jnp.min(after if task.even_steps else (after + later) / 2)) / initial

    return steps_below(relative_loss, loss_after)


def _gradient_steps(task: Task, vocab_size: int, relative_loss: float, seed: int) -> float:
    """Steps that a network takes from small random weights to targets 1 or -1, all tokens."""
    p = token_law(f"zipf:{task.zipf_exponent}", vocab_size).frequencies
    random = np.random.default_rng(seed)
    wanted = random.choice([-1.0, 1.0], (vocab_size, OUTPUTS))
    start = RANDOM_START * random.standard_normal(wanted.shape)
    expected = one_hot_steps(vocab_size, task.zipf_exponent, "sgd", relative_loss)
    last = int(MARGIN * expected) + 5
    losses = np.asarray(_gradient_losses(start, p, wanted, np.full(vocab_size, 1 / p[0]), last))
    initial = float(_loss(start, p, wanted))
    log_steps = np.log(np.arange(1, last + 1))
    return float(np.exp(np.interp(-np.log(relative_loss), -np.log(losses / initial), log_steps)))


def _cell(descent: str, vocab_size: int, seeds: int, relative_loss: float, seed: int = 0) -> Any:
    """Steps of networks, and of theory at the same vocabulary and at a hundred times it."""
    task = TASKS[descent]
    measure = _sign_steps if task.optimizer == "sign" else _gradient_steps
    steps = [
        measure(task, vocab_size, relative_loss, run_seed(seed, number)) for number in range(seeds)
    ]
    theory, beyond = (
        one_hot_steps(
            size,
            task.zipf_exponent,
            task.optimizer,
            relative_loss,
            start=task.start,
            even_steps=task.even_steps,
        )
        for size in (vocab_size, BEYOND * vocab_size)
    )
    return {"steps": (("seed",), np.array(steps)), "theory": ((), theory), "beyond": ((), beyond)}


STEPS = Study(
    "bigram_steps",
    cells=lambda full: (
        grid(descent=tuple(TASKS), vocab_size=(100, 316, 1000, 3162, 10_000)) if full else []
    ),
    measure=_cell,
    config=lambda full: {"seeds": 8, "relative_loss": 0.1},
)

FLOW_STEP = 0.1  # learning rate times the largest rate of the kernel


def flow_setup(vocab_size: int, width: int, steps: int, seed: int = 0) -> Setup:
    """A wide linear model whose embedding alone learns: the one-hot model in another gauge."""
    law = token_law("zipf:1", vocab_size)
    setup = Setup(width=width, vocab_size=vocab_size)
    kernel = width * setup.projection_std**2 * law.frequencies[0]
    return Setup(
        width=width,
        vocab_size=vocab_size,
        tokens="zipf:1",
        targets="sign",
        optimizer="sgd",
        embedding_lr=FLOW_STEP / kernel,
        projection_lr=0.0,
        steps=steps,
        seed=run_seed(seed),
    )


def _flow_cell(vocab_size: int, seeds: int, width: int, steps: int, seed: int = 0) -> Any:
    setup = flow_setup(vocab_size, width, steps, seed)
    loss = train(setup, seeds, record_updates=False).loss[0]
    return {"loss": (("seed", "step"), loss)}


FLOW = Study(
    "bigram_flow",
    cells=lambda full: grid(vocab_size=(64, 256) if full else (64,)),
    measure=_flow_cell,
    config=lambda full: {
        "seeds": 16 if full else 8,
        "width": 2048 if full else 1024,
        "steps": 200 if full else 100,
    },
)

STUDIES = (STEPS, FLOW)
