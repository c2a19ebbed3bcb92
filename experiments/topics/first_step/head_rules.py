"""First updates of a head, of the embedding below it and of both tied, by other rules than sign.

SGD, an orthogonalised gradient, and sign descent on a batch of drawn pairs. Networks use no
formula; what theory derives from the same bigrams stands beside them, since these are too many to
store. `head_muon` has orthogonalised gradients alone, on other networks and with more tokens,
`head_batches` what is averaged over drawn batches for want of a closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim import InputError, TokenLaw, token_law
from dynsim.theory import LOGITS, head_step
from dynsim.tokens import Bigrams, batch_bigrams, bigrams_of, counted_bigrams
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
MUON_SEEDS, BATCH_SEEDS = 5000, 8000  # the first of the networks' seeds: the others' are below
BATCH_RULES = ("sign 256", "sign 4096", "sgd 256", "sgd 4096")
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


DIRECTIONS: Mapping[str, Callable[[Array], Array]] = {"sgd": _as_it_is, "muon": orthogonalised}
Case = tuple[Bigrams, TokenLaw, int]


def batch_size_of(rule: str) -> int:
    """Pairs in a batch; 0 for the full batch."""
    kind, _, number = rule.partition(" ")
    return int(number) if kind == "batch" else 0


def _step(
    direction: Callable[[Array], Array],
    case: Case,
    batch_size: int,
    seed: int,
) -> NDArray[np.float64]:
    """Mean squares of one network, shape (layers, LOGITS)."""
    bigrams, law, width = case
    frequencies = law.frequencies
    if batch_size:
        random = np.random.default_rng([seed, batch_size, width])
        bigrams = batch_bigrams(bigrams, frequencies, batch_size, random)
        assert bigrams.frequencies is not None
        frequencies = bigrams.frequencies
    network = HeadNetwork.drawn(bigrams, frequencies, width, seed)
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
    case: Case,
    direction: Callable[[Array], Array],
    batch_size: int,
    sizes: tuple[int, int],
    seeds: tuple[int, int],
) -> NDArray[np.float64]:
    """Mean squares of networks after one step at LR 1, shape (blocks, layers, LOGITS).

    `sizes`: blocks, and entries of the logits times width in a block. `seeds`: run and first seed.
    """
    _, law, width = case
    blocks, work = sizes
    run, first = seeds
    count = max(2, work // (law.vocab_size**2 * width))

    def network(place: int) -> NDArray[np.float64]:
        return _step(direction, case, batch_size, run_seed(run, first + place))

    return np.array(
        [
            np.mean([network(count * block + one) for one in range(count)], axis=0)
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
    batch_size = batch_size_of(rule)
    direction = DIRECTIONS.get(rule, np.sign)
    values = _measured((bigrams, law, width), direction, batch_size, (blocks, work), (seed, 0))
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
    seeds = seed, MUON_SEEDS
    values = _measured((bigrams, law, width), orthogonalised, 0, (blocks, work), seeds)
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


def _batch_cell(case: str, width: int, rule: str, blocks: int, work: int, seed: int = 0) -> Any:
    """The same of batches of drawn pairs by sign or SGD; wrong on purpose: as the full batch."""
    law, bigrams = _task(case)
    optimizer, _, number = rule.partition(" ")
    direction, size = DIRECTIONS.get(optimizer, np.sign), int(number)
    seeds = seed, BATCH_SEEDS
    values = _measured((bigrams, law, width), direction, size, (blocks, work), seeds)
    derived = [
        [_derived(layer, optimizer, width, law, bigrams, one) for layer in LAYERS]
        for one in (size, 0)
    ]
    return {
        "mean_square": (("seed", "layer", "logits"), values),
        "derived_square": (("theory", "layer", "logits"), np.array(derived)),
    }


HEAD_BATCHES = Study(
    "head_batches",
    cells=lambda full: [
        {"case": case, "width": width, "rule": rule}
        for case, width in (SIZES if full else ())
        for rule in BATCH_RULES
    ],
    measure=_batch_cell,
    config=lambda full: {"blocks": 8, "work": 2**29},
    labels={"layer": list(LAYERS), "logits": list(LOGITS), "theory": list(THEORIES)},
)
