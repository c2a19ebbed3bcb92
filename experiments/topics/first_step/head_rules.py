"""First updates of a head, of the embedding below it and of both tied, by other rules than sign.

SGD, an orthogonalised gradient, and sign descent on a batch of drawn pairs. Networks use no
formula; what theory derives from the same bigrams stands beside them, since these are too many to
store. `head_muon` has orthogonalised gradients alone, on other networks and with more tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim import InputError, TokenLaw, token_law
from dynsim.theory import LOGITS, head_step
from dynsim.tokens import Bigrams, bigrams_of, counted_bigrams
from experiments.topics._seeds import run_seed
from experiments.topics._study import Study

from .networks import LAYERS, Array, HeadNetwork, mean_over_all

RULES = ("sgd", "muon", "batch 256", "batch 4096")
"""Full batch by SGD or by an orthogonalised gradient; sign descent on so many drawn pairs."""
SOURCES = {
    # case: token law, what follows a token, types and outputs
    "text 1024": ("corpus", "bigram", 1024),
    "zipf random 512": ("zipf:1", "random:8", 512),
    "text 4096": ("corpus", "bigram", 4096),
}
SIZES = (
    *(("text 1024", width) for width in (64, 256)),
    *(("zipf random 512", width) for width in (64, 256)),
)
MUON_SIZES = (*SIZES, ("text 4096", 256))
MUON_SEEDS = 5000  # the first of the networks' seeds, since the others' are below
THEORIES = ("derived", "wrong")
"""Wrong on purpose: SGD with targets dealt out anew to the pairs; an orthogonalised gradient taken
as sign descent with entries of its RMS, or as it is with the RMS that it has over all logits; a
batch taken as the full batch."""


def _as_it_is(gradient: Array) -> Array:
    return gradient


def orthogonalised(gradient: Array) -> Array:
    """U V^T of a gradient U S V^T with more rows than columns."""
    exact = gradient.astype(np.float64)
    values, vectors = np.linalg.eigh(exact.T @ exact)
    kept = values > values[-1] * np.finfo(np.float64).eps * len(values)
    scale = np.where(kept, np.maximum(values, values[-1] * 1e-300) ** -0.5, 0.0)
    return ((exact @ vectors) * scale @ vectors.T).astype(np.float32)


def batch_size_of(rule: str) -> int:
    """Pairs in a batch; 0 for the full batch."""
    kind, _, number = rule.partition(" ")
    return int(number) if kind == "batch" else 0


def drawn_batch(
    bigrams: Bigrams, law: TokenLaw, batch_size: int, random: np.random.Generator
) -> tuple[Bigrams, NDArray[np.float64]]:
    """What a batch of independent pairs holds: its own bigrams, and its shares of the contexts."""
    chance = law.frequencies[bigrams.context] * bigrams.probability
    counts = random.multinomial(batch_size, chance / chance.sum())
    held = counts > 0
    sizes = law.vocab_size, bigrams.outputs
    pairs = bigrams.context[held], bigrams.target[held], counts[held].astype(np.float64)
    batch = counted_bigrams(*pairs, *sizes)
    assert batch.frequencies is not None
    return batch, batch.frequencies


def _moved(rule: str, bigrams: Bigrams, law: TokenLaw, width: int, seed: int) -> NDArray[Any]:
    """Mean squares of one network, shape (layers, LOGITS)."""
    batch_size, frequencies = batch_size_of(rule), law.frequencies
    if batch_size:
        random = np.random.default_rng([seed, batch_size, width])
        bigrams, frequencies = drawn_batch(bigrams, law, batch_size, random)
    network = HeadNetwork.drawn(bigrams, frequencies, width, seed)
    direction = {"sgd": _as_it_is, "muon": orthogonalised}.get(rule, np.sign)
    squares = network.mean_squares(direction)
    return np.column_stack([squares, mean_over_all(squares, bigrams.outputs)])


def _derived(
    layer: Any, rule: str, width: int, law: TokenLaw, bigrams: Bigrams, batch_size: int
) -> NDArray[np.float64]:
    """Mean squares of `LOGITS`; NaN where they are not derived."""
    optimizer = rule if rule in ("sgd", "muon") else "sign"
    try:
        step = head_step(layer, optimizer, width, law, bigrams, batch_size=batch_size)
    except InputError:
        return np.full(len(LOGITS), np.nan)
    return step.rms[:, 0] ** 2


def _wrong(
    layer: Any, rule: str, width: int, law: TokenLaw, bigrams: Bigrams
) -> NDArray[np.float64]:
    if rule == "muon":  # n d entries whose squares sum to d
        return _derived(layer, "sign", width, law, bigrams, 0) / bigrams.outputs
    if rule == "sgd":
        dealt = np.random.default_rng(0).permutation(bigrams.target)
        weight = law.frequencies[bigrams.context] * bigrams.probability
        sizes = law.vocab_size, bigrams.outputs
        bigrams = replace(counted_bigrams(bigrams.context, dealt, weight, *sizes), frequencies=None)
    return _derived(layer, rule, width, law, bigrams, 0)


def _as_sgd(
    layer: Any, width: int, law: TokenLaw, bigrams: Bigrams, derived: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean squares of a step along the gradient with the mean square over all logits derived."""
    along = _derived(layer, "sgd", width, law, bigrams, 0)
    every = LOGITS.index("all")
    return along * (derived[every] / along[every])


def _measured(
    case: tuple[Bigrams, TokenLaw, int], rule: str, blocks: int, work: int, seed: int, first: int
) -> NDArray[np.float64]:
    """Mean squares of networks after one step at LR 1, shape (blocks, layers, LOGITS)."""
    bigrams, law, width = case
    count = max(2, work // (law.vocab_size**2 * width))
    return np.array(
        [
            np.mean(
                [
                    _moved(
                        rule, bigrams, law, width, run_seed(seed, first + count * block + network)
                    )
                    for network in range(count)
                ],
                axis=0,
            )
            for block in range(blocks)
        ]
    )


def _task(case: str) -> tuple[TokenLaw, Bigrams]:
    tokens, targets, m = SOURCES[case]
    law = token_law(tokens, m)
    return law, bigrams_of(targets, law, m)


def _cell(case: str, width: int, rule: str, blocks: int, work: int, seed: int = 0) -> Any:
    """Mean squares after one step at LR 1, and what theory derives; blocks are means over
    networks."""
    law, bigrams = _task(case)
    values = _measured((bigrams, law, width), rule, blocks, work, seed, 0)
    batch_size = batch_size_of(rule)
    derived = [
        [_derived(layer, rule, width, law, bigrams, batch_size) for layer in LAYERS],
        [_wrong(layer, rule, width, law, bigrams) for layer in LAYERS],
    ]
    return {
        "mean_square": (("seed", "layer", "logits"), values),
        "derived_square": (("theory", "layer", "logits"), np.array(derived)),
    }


HEAD_RULES = Study(
    "head_rules",
    cells=lambda full: [
        {"case": case, "width": width, "rule": rule}
        for case, width in (SIZES if full else ())
        for rule in RULES
    ],
    measure=_cell,
    config=lambda full: {"blocks": 8, "work": 2**27},
    labels={"layer": list(LAYERS), "logits": list(LOGITS), "theory": list(THEORIES)},
)


def _muon_cell(case: str, width: int, blocks: int, work: int, seed: int = 0) -> Any:
    """The same of orthogonalised gradients, on networks that no other study has."""
    law, bigrams = _task(case)
    values = _measured((bigrams, law, width), "muon", blocks, work, seed, MUON_SEEDS)
    derived = [_derived(layer, "muon", width, law, bigrams, 0) for layer in LAYERS]
    wrong = [
        _as_sgd(layer, width, law, bigrams, one) for layer, one in zip(LAYERS, derived, strict=True)
    ]
    return {
        "mean_square": (("seed", "layer", "logits"), values),
        "derived_square": (("theory", "layer", "logits"), np.array([derived, wrong])),
    }


HEAD_MUON = Study(
    "head_muon",
    cells=lambda full: [
        {"case": case, "width": width} for case, width in (MUON_SIZES if full else ())
    ],
    measure=_muon_cell,
    config=lambda full: {"blocks": 8, "work": 2**27},
    labels={"layer": list(LAYERS), "logits": list(LOGITS), "theory": list(THEORIES)},
)
