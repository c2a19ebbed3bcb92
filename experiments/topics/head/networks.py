"""Networks with a language-model head, and what single steps of them do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from dynsim import LayerValues, token_law
from dynsim._targets import sparse_targets
from dynsim.laboratory import NetworkSetup, NetworkTraining, train_networks
from dynsim.laboratory._columns import run_columns
from dynsim.laboratory._head import mean_square_outputs
from dynsim.laboratory._networks import ResidualMLP
from dynsim.laboratory._training import Reached, trained_networks
from dynsim.theory import head_step
from dynsim.tokens import bigrams_of

Floats = NDArray[np.float64]
PATHS: Mapping[str, Callable[[int], int]] = {
    "fixed": lambda _: 1024,
    "proportional": lambda width: 8 * width,
    "m 4096": lambda _: 4096,
    "m 16384": lambda _: 16384,
}
FEW_OUTPUTS = 16
LAYERS = ("embedding", "hidden", "head")
WIDTHS = (32, 64, 128, 256)  # at one vocabulary of 1024 types
# Rates of embedding, hidden matrix (times d; of Muon as it is) and head (times d).
TRAINED: Mapping[str, tuple[float, float, float]] = {
    "adam": (0.03, 0.3, 0.3),
    "muon": (0.03, 0.1, 0.3),
}
COMMON: Mapping[tuple[str, str], tuple[float, float, float]] = {
    # Rates at muP's scale that all widths share, near the best of pilot runs at d = 64.
    ("adam", "untied"): (0.6, 1.5, 3.0),
    ("adam", "tied"): (1.8, 4.0, 0.0),
    ("muon", "untied"): (0.6, 0.25, 3.0),
    ("muon", "tied"): (1.8, 3.0, 0.0),
}
BASE = NetworkSetup(
    network="mlp",
    depth=1,
    activation="tanh",
    parametrization="sp",
    init_exponents="0,-1/2,-1",
    lr_exponents="0,0,0",
    base_width=1,
    vector_ratio=0.0,
)


def network(
    path: str, width: int, optimizer: str, head: str, rates: tuple[float, float, float], **fields
) -> NetworkSetup:
    """The network of a cell at muP's rates."""
    embedding, hidden, readout = rates
    vocab_size = PATHS[path](width)
    tied = head == "tied"
    return replace(
        BASE,
        width=width,
        vocab_size=vocab_size,
        outputs=FEW_OUTPUTS if head == "few" else vocab_size,
        tied=tied,
        optimizer=optimizer,
        embedding_lr=embedding,
        hidden_lr=hidden if optimizer == "muon" else hidden / width,
        readout_lr=None if tied else readout / width,
        **fields,
    )


@jax.jit
def step_sizes(
    tokens: Array,
    weights: Array,
    pairs: tuple[Array, Array, Array],
    multiplier: LayerValues,
    before: ResidualMLP,
    after: ResidualMLP,
) -> Array:
    """Mean squares of what one step does: of the hidden matrix to its outputs, of the head to the
    logits of the next tokens and to all logits, of the embedding to both kinds of logits."""
    inputs = before(tokens, multiplier).inputs
    hidden = inputs["hidden.0"][:, 0] @ (after.hidden[0] - before.hidden[0]).T
    head_before, head_after = (
        x.embedding if x.readout is None else x.readout for x in (before, after)
    )
    features = multiplier.readout * inputs["readout"][:, 0]
    context, target, weight = pairs

    def of_logits(z: Array, matrix: Array) -> tuple[Array, Array]:
        at_targets = jnp.sum(z[context] * matrix[target], axis=-1)
        return weight @ jnp.square(at_targets), weights @ mean_square_outputs(z, matrix)

    moved = _with_embedding(before, after)
    change = multiplier.readout * moved(tokens, multiplier).inputs["readout"][:, 0] - features
    return jnp.stack(
        [
            weights @ jnp.mean(jnp.square(hidden), axis=-1),
            *of_logits(features, head_after - head_before),
            *of_logits(change, head_before),
        ]
    )


def _with_embedding(before: ResidualMLP, after: ResidualMLP) -> ResidualMLP:
    """The network before the step but for its embedding, which a tied head keeps reading before."""
    return eqx.tree_at(lambda one: one.embedding, before, after.embedding)


SIZES = ("hidden", "head_target", "head_all", "embedding_target", "embedding_all")


def ends_of(moments: Sequence[int]) -> list[int]:
    """Steps after which networks are looked at, before and after each of the `moments`."""
    return sorted({step for moment in moments for step in (moment, moment + 1)})


def single_steps(
    setup: NetworkSetup, moments: Sequence[int], seeds: int, runs: Iterable[Reached]
) -> Mapping[str, Any]:
    """Mean squares of single steps, by moment and seed, over squared rates at muP's scale.

    `runs` are the setup's networks after each of `ends_of(moments)`.
    """
    bigrams, frequencies = sparse_targets(setup), setup.law().frequencies
    pair_weights = frequencies[bigrams.context] * bigrams.probability
    pairs = tuple(
        jnp.asarray(x, kind)
        for x, kind in (
            (bigrams.context, "int32"),
            (bigrams.target, "int32"),
            (pair_weights, "float32"),
        )
    )
    tokens = jnp.arange(setup.vocab_size)[:, None]
    weights = jnp.asarray(frequencies, "float32")
    found = np.full((seeds, len(moments), len(SIZES)), np.nan)
    loss = np.full((seeds, setup.steps), np.nan)
    before: Any = None
    for reached in runs:
        now = jax.tree.map(jnp.copy, reached.state.network)
        if reached.step - 1 in moments:
            for place, number in enumerate(range(reached.runs.start, reached.runs.stop)):
                pair = (jax.tree.map(lambda x: x[place], one) for one in (before, now))  # noqa: B023
                sizes = step_sizes(tokens, weights, pairs, reached.shared.multiplier, *pair)
                found[number, moments.index(reached.step - 1)] = np.asarray(sizes)
        before = now
        if reached.step == moments[-1] + 1:
            loss[reached.runs] = reached.kept(reached.state.train_loss)
    rates = (setup.hidden_lr, setup.embedding_lr if setup.tied else setup.readout_lr)
    hidden, readout = (float(rate or 0) for rate in rates)
    # Of the embedding, over the head's initial entries, which are of order 1/d; so is a tied
    # head's multiplier.
    by = np.array([hidden, readout, readout, *[setup.embedding_lr / setup.width] * 2])
    if setup.tied:
        by[1:3] /= setup.width
    return {
        "size": (("seed", "moment", "update"), found / by**2),
        "train_loss": (("seed", "step"), loss),
        "vocab_size": ((), float(setup.vocab_size)),
    }


def step_cell(
    path: str,
    optimizer: str,
    head: str,
    width: int,
    rates: tuple[float, float, float],
    moments: Sequence[int],
    seeds: int,
    seed: int,
) -> Mapping[str, Any]:
    """Single full-batch steps of a network of this kind."""
    setup = network(
        path, width, optimizer, head, rates, targets="bigram", steps=moments[-1] + 1, seed=seed
    )
    runs = trained_networks(setup, run_columns(setup, seeds=seeds), ends_of(moments))
    return single_steps(setup, moments, seeds, runs)


def with_derived_step(found: Mapping[str, Any], width: int) -> Mapping[str, Any]:
    """The same, and what is derived for the first step of a head below embeddings."""
    law = token_law("corpus", int(found["vocab_size"][1]))
    bigrams = bigrams_of("bigram", law, law.vocab_size)
    derived = head_step("head", "sign", width, law, bigrams).rms[:, 0]
    return {**found, "derived_rms": (("logits",), derived)}


def relative_losses(found: NetworkTraining) -> Floats:
    """Losses over initial ones, by run: at most 1, also of lost runs."""
    loss = np.where(found.diverged, np.inf, found.loss[:, -1]) / found.initial_loss
    return np.nan_to_num(loss, nan=1.0).clip(max=1.0)


def text_losses(
    path: str,
    width: int,
    optimizer: str,
    head: str,
    rates: Sequence[float],
    steps: int,
    seeds: int,
    seed: int,
) -> Floats:
    """Losses on text not trained on over initial ones, by seed: at most 1, also of lost runs."""
    setup = network(
        path,
        width,
        optimizer,
        head,
        (rates[0], rates[1], rates[2]),
        targets="next-token",
        batch_size=512,
        steps=steps,
        schedule="linear",
        seed=seed,
    )
    return relative_losses(train_networks(setup, seeds=seeds))


def searched_together(
    path: str,
    optimizer: str,
    head: str,
    width: int,
    start: Sequence[float],
    octaves: Sequence[int],
    steps: int,
    seeds: int,
    seed: int,
) -> Mapping[str, Any]:
    """Losses on text not trained on, by turn, layer, octave and seed, and the rates searched.

    Each layer's rate is searched alone, all others at their start (turn 0); then again, all
    others at the best of turn 0 (turn 1), which is one turn of coordinate descent.
    """
    layers = LAYERS[: 2 if head == "tied" else 3]
    shape = (2, len(LAYERS), len(octaves))
    losses, rates = np.full((*shape, seeds), np.nan), np.full(shape, np.nan)
    centre = list(start)
    for turn in range(2):
        best = list(centre)
        for place in range(len(layers)):
            for number, octave in enumerate(octaves):
                tried = list(centre)
                tried[place] *= 2.0**octave
                rates[turn, place, number] = tried[place]
                losses[turn, place, number] = text_losses(
                    path, width, optimizer, head, tried, steps, seeds, seed
                )
            best[place] = rates[turn, place, int(np.argmin(losses[turn, place].mean(axis=-1)))]
        centre = best
    return {
        "loss": (("turn", "layer", "octave", "seed"), losses),
        "rate": (("turn", "layer", "octave"), rates),
        "vocab_size": ((), float(PATHS[path](width))),
    }
