"""Long runs under AdamW: rows of an embedding by frequency, hidden matrices by width.

Rows are those of an embedding in noise (Gaussian gradients at random visits) and in a network whose
softmax reads normalised rows. Hidden matrices stand before a normalisation. Targets are drawn anew
at every visit, so that gradients stay noisy. Nothing in a cell uses a theory formula.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from dynsim import token_law
from dynsim._draws import normal
from dynsim._linear_algebra import spectral_norm
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study, grid

LAG = 128
"""steps between two looks at a weight"""
DECAYS = {"coupled": 0.1, "independent": 0.002}
"""lambda of a convention"""
SOURCES = ("noise", "network", "network, one moment a row")
"""The last has Adam with one second moment for all entries of a row."""
BETAS, HIDDEN_BETAS = (0.8, 0.995), (0.8, 0.98)
EPSILON = 1e-12


def adamw(
    convention: str, rate: Any, decay: Any, betas: tuple[float, float], by_row: bool = False
) -> Any:
    """Decay by rate * decay in a step (coupled, as optax.adamw) or by decay alone."""
    adam = _adam_by_row(*betas) if by_row else optax.scale_by_adam(*betas, eps=EPSILON)
    if convention == "coupled":
        return optax.chain(
            adam, optax.add_decayed_weights(decay), optax.scale_by_learning_rate(rate)
        )
    return optax.chain(adam, optax.scale_by_learning_rate(rate), optax.add_decayed_weights(-decay))


def _adam_by_row(beta1: float, beta2: float) -> optax.GradientTransformation:
    """Adam without bias correction, its second moment the mean over the entries of a row."""

    def start(params: Any) -> Any:
        return (
            jax.tree.map(jnp.zeros_like, params),
            jax.tree.map(lambda one: jnp.zeros_like(one[..., :1]), params),
        )

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state[0], updates)
        second = jax.tree.map(
            lambda v, g: beta2 * v + (1 - beta2) * jnp.mean(g**2, axis=-1, keepdims=True),
            state[1],
            updates,
        )
        moved = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + EPSILON), first, second)
        return moved, (first, second)

    return optax.GradientTransformation(start, update)


def _normalised(x: Array) -> Array:
    return x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-30)


def _looked_at(rows: Array, before: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
    """Adds squares, and products with the rows of `LAG` steps before."""
    return sums[0] + jnp.mean(rows**2, axis=-1), sums[1] + jnp.mean(rows * before, axis=-1)


@partial(jax.jit, static_argnames=("convention", "steps", "width"))
def _noise(convention: str, steps: int, width: int, chances: Array, rate: float, key: Array) -> Any:
    """Mean squares and lagged products of rows of noise, over the second half of the steps."""
    update = adamw(convention, rate, DECAYS[convention], BETAS)

    def step(carry: Any, number: Array) -> Any:
        rows, state = carry
        for_visits, for_values = jax.random.split(jax.random.fold_in(key, number))
        visited = jax.random.bernoulli(for_visits, chances)
        drawn = normal(for_values, (len(chances), width), jnp.float32)
        moved, state = update.update(drawn * visited[:, None], state, rows)
        return (rows + moved, state), None

    def look(carry: Any, number: Array) -> Any:
        before, state, sums = carry
        (rows, state), _ = jax.lax.scan(step, (before, state), number * LAG + jnp.arange(LAG))
        late = number >= steps // LAG // 2
        added = _looked_at(rows, before, sums)
        sums = jax.tree.map(lambda new, old: jnp.where(late, new, old), added, sums)
        return (rows, state, sums), None

    rows = jnp.zeros((len(chances), width), jnp.float32)
    nothing = jnp.zeros(len(chances), jnp.float32)
    first = (rows, update.init(rows), (nothing, nothing))
    looks = steps // LAG
    (_, _, sums), _ = jax.lax.scan(look, first, jnp.arange(looks))
    return jax.tree.map(lambda total: total / (looks - looks // 2), sums)


@partial(jax.jit, static_argnames=("convention", "steps", "batch_size", "width", "by_row"))
def _network(
    convention: str, steps: int, batch_size: int, law: Array, logits: Array, width: int,
    by_row: bool, rate: float, key: Array,
) -> Any:  # fmt: skip
    """The same of the embedding of a network that is trained on drawn targets."""
    tokens, outputs = logits.shape
    for_rows, for_head, for_batches = jax.random.split(key, 3)
    weights = (
        0.3 * normal(for_rows, (tokens, width), jnp.float32),
        width**-0.5 * normal(for_head, (outputs, width), jnp.float32),
    )
    update = adamw(convention, rate, DECAYS[convention], BETAS, by_row)

    def loss(weights: Any, inputs: Array, wanted: Array) -> Array:
        output = _normalised(weights[0][inputs]) @ weights[1].T
        return optax.softmax_cross_entropy_with_integer_labels(output, wanted).mean()

    def step(carry: Any, number: Array) -> Any:
        weights, state = carry
        for_inputs, for_targets = jax.random.split(jax.random.fold_in(for_batches, number))
        inputs = jax.random.choice(for_inputs, tokens, (batch_size,), p=law)
        wanted = jax.random.categorical(for_targets, logits[inputs])
        gradients = jax.grad(loss)(weights, inputs, wanted)
        moved, state = update.update(gradients, state, weights)
        return (optax.apply_updates(weights, moved), state), None

    def look(carry: Any, number: Array) -> Any:
        before, state, sums = carry
        (weights, state), _ = jax.lax.scan(step, (before, state), number * LAG + jnp.arange(LAG))
        late = number >= steps // LAG // 2
        added = _looked_at(weights[0], before[0], sums)
        sums = jax.tree.map(lambda new, old: jnp.where(late, new, old), added, sums)
        return (weights, state, sums), None

    nothing = jnp.zeros(tokens, jnp.float32)
    looks = steps // LAG
    first = (weights, update.init(weights), (nothing, nothing))
    (_, _, sums), _ = jax.lax.scan(look, first, jnp.arange(looks))
    return jax.tree.map(lambda total: total / (looks - looks // 2), sums)


CHANCES = tuple(2.0**-octave for octave in range(12))
"""of the rows in noise"""
COPIES = 16
"""rows in noise for each chance"""
EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 208, 256)
"""Between these ranks means are taken in networks; as many groups as `CHANCES`."""


def _rows(
    source: str, convention: str, width: int, batch_size: int, outputs: int, rate: float,
    steps: int, seeds: int, seed: int = 0,
) -> Any:  # fmt: skip
    """Mean squares and lagged products by group of rows and seed; the group's mean visits a step
    and, for a mean of sizes, its chances."""
    law = token_law("zipf:1.5", EDGES[-1]).frequencies
    chance = 1 - (1 - law) ** batch_size
    if source == "noise":
        chance = np.array(CHANCES)
    found = np.empty((2, len(CHANCES), seeds))
    for number in range(seeds):
        key = jax.random.key(run_seed(seed, number))
        if source == "noise":
            repeated = jnp.float32(np.repeat(chance, COPIES))
            sums = np.asarray(_noise(convention, steps, width, repeated, rate, key))
            found[:, :, number] = sums.reshape(2, len(chance), COPIES).mean(axis=-1)
            continue
        for_teacher, for_network = jax.random.split(key)
        logits = normal(for_teacher, (len(law), outputs), jnp.float32)
        sums = np.asarray(
            _network(
                convention,
                steps,
                batch_size,
                jnp.float32(law),
                logits,
                width,
                source != "network",
                rate,
                for_network,
            )
        )
        for group, (low, high) in enumerate(itertools.pairwise(EDGES)):
            found[:, group, number] = sums[:, low:high].mean(axis=1)
    if source == "noise":
        mean_chance = chance
    else:
        parts = itertools.pairwise(EDGES)
        mean_chance = np.array([chance[low:high].mean() for low, high in parts])
    dims = ("group", "seed")
    return {
        "mean_square": (dims, found[0]),
        "lagged": (dims, found[1]),
        "chance": (("group",), mean_chance),
    }


DECAY_ROWS = Study(
    "decay_rows",
    cells=lambda full: grid(source=SOURCES, convention=tuple(DECAYS)) if full else [],
    measure=_rows,
    config=lambda full: {
        "width": 32,
        "batch_size": 8,
        "outputs": 16,
        "rate": 0.01,
        "steps": 16_384,
        "seeds": 4,
    },
)

LAYERS = 2
POWERS = (0.0, 0.5, 1.0)
"""of the width in lambda"""


@partial(jax.jit, static_argnames=("steps", "width", "batch_size", "convention"))
def _hidden(
    steps: int, width: int, batch_size: int, logits: Array, rate: float, decay: float, key: Array,
    convention: str = "coupled",
) -> Any:  # fmt: skip
    """Of the hidden matrices, over the second half: mean squares, products after `LAG` steps,
    squares of one step, largest singular values; what a step adds to outputs and what is there."""
    tokens, outputs = logits.shape
    keys = jax.random.split(key, 4)
    weights = {
        "embedding": normal(keys[0], (tokens, width), jnp.float32),
        "hidden": width**-0.5 * normal(keys[1], (LAYERS, width, width), jnp.float32),
        "head": width**-0.5 * normal(keys[2], (outputs, width), jnp.float32),
    }
    hidden = adamw(convention, rate, decay, HIDDEN_BETAS)
    others = adamw("coupled", OTHERS_RATE, OTHERS_DECAY, HIDDEN_BETAS)
    head = adamw("coupled", OTHERS_RATE * 32 / width, OTHERS_DECAY, HIDDEN_BETAS)
    update = optax.partition(
        {"hidden": hidden, "embedding": others, "head": head}, {name: name for name in weights}
    )

    def carried(weights: Any, inputs: Array) -> list[Array]:
        """What the hidden matrices read, and what the head reads."""
        stream = _normalised(weights["embedding"][inputs])
        found = [stream]
        for layer in range(LAYERS):
            branch = jax.nn.relu(_normalised(found[-1] @ weights["hidden"][layer].T))
            stream = stream + branch
            found.append(_normalised(stream))
        return found

    def loss(weights: Any, inputs: Array, wanted: Array) -> Array:
        output = carried(weights, inputs)[-1] @ weights["head"].T
        return optax.softmax_cross_entropy_with_integer_labels(output, wanted).mean()

    def step(carry: Any, number: Array) -> Any:
        weights, state, _ = carry
        for_inputs, for_targets = jax.random.split(jax.random.fold_in(keys[3], number))
        inputs = jax.random.randint(for_inputs, (batch_size,), 0, tokens)
        wanted = jax.random.categorical(for_targets, logits[inputs])
        gradients = jax.grad(loss)(weights, inputs, wanted)
        moved, state = update.update(gradients, state, weights)
        steps_by: Any = moved
        return (optax.apply_updates(weights, moved), state, steps_by["hidden"]), None

    def look(carry: Any, number: Array) -> Any:
        before, state, moved, sums = carry
        start = (before, state, moved)
        (weights, state, moved), _ = jax.lax.scan(step, start, number * LAG + jnp.arange(LAG))
        matrix = weights["hidden"]
        read = jnp.stack(carried(weights, jnp.arange(tokens))[:-1])
        added = jnp.einsum("ltk,lok->lto", read, moved)
        there = jnp.einsum("ltk,lok->lto", read, matrix)
        seen = jnp.stack(
            [
                jnp.mean(matrix**2),
                jnp.mean(matrix * before["hidden"]),
                jnp.mean(moved**2),
                jnp.mean(jnp.square(jax.vmap(spectral_norm)(matrix))),
                jnp.mean(added**2),
                jnp.mean(there**2),
            ]
        )
        late = number >= steps // LAG // 2
        return (weights, state, moved, sums + jnp.where(late, seen, 0.0)), None

    looks = steps // LAG
    nothing = jnp.zeros(len(QUANTITIES), jnp.float32)
    first = (weights, update.init(weights), jnp.zeros_like(weights["hidden"]), nothing)
    (_, _, _, sums), _ = jax.lax.scan(look, first, jnp.arange(looks))
    return sums / (looks - looks // 2)


QUANTITIES = ("square", "lagged", "step", "largest", "added", "there")
OTHERS_RATE, OTHERS_DECAY = 0.01, 0.1


def _widths(
    width: int, power: float, vocab_size: int, outputs: int, batch_size: int, rate: float,
    decay: float, steps: int, seeds: int, seed: int = 0, rate_power: float = -1.0,
    convention: str = "coupled", first_seed: int = 0,
) -> Any:  # fmt: skip
    """Mean squares at eta = rate (d/32)^rate_power and lambda = decay (d/32)^power, by quantity
    and seed."""
    found = np.empty((len(QUANTITIES), seeds))
    size = width / 32
    rates = (rate * size**rate_power, decay * size**power)
    for number in range(seeds):
        key = jax.random.key(run_seed(seed, first_seed + number))
        for_teacher, for_network = jax.random.split(key)
        logits = normal(for_teacher, (vocab_size, outputs), jnp.float32)
        run = (steps, width, batch_size, logits, *rates, for_network, convention)
        found[:, number] = np.asarray(_hidden(*run))
    return {"mean_square": (("quantity", "seed"), found)}


DECAY_WIDTH = Study(
    "decay_width",
    cells=lambda full: grid(width=(16, 32, 64), power=POWERS) if full else [],
    measure=_widths,
    config=lambda full: {
        "vocab_size": 1024,
        "outputs": 64,
        "batch_size": 32,
        "rate": 0.02,
        "decay": 0.1,
        "steps": 8192,
        "seeds": 3,
    },
    labels={"quantity": list(QUANTITIES)},
)

RULES = {"1/d, 1": (-1.0, 0.0), "1, 1": (0.0, 0.0), "1/d, d": (-1.0, 1.0)}
"""Powers of the width in learning rate and independent lambda, by what both grow like. The first is
the coupled decay of `DECAY_WIDTH` at its lambda in proportion to d, on other networks."""


def _independent(rule: str, **options: Any) -> Any:
    rate_power, power = RULES[rule]
    return _widths(rate_power=rate_power, power=power, convention="independent", **options)


DECAY_INDEPENDENT = Study(
    "decay_independent",
    cells=lambda full: grid(width=(16, 32, 64), rule=tuple(RULES)) if full else [],
    measure=_independent,
    config=lambda full: {
        **DECAY_WIDTH.config(full),
        "decay": DECAYS["independent"],
        "seeds": 12,
        "first_seed": 200,
    },
    labels={"quantity": list(QUANTITIES)},
)

STUDIES = (DECAY_ROWS, DECAY_WIDTH, DECAY_INDEPENDENT)
