"""Studies of the first step, on finite networks (or sampled Gaussians).

Nothing that is measured uses a theory formula. Claims and figures are functions of the stored
datasets. The studies `heads`, `head_rules`, `head_muon` and `head_batches` store what theory
derives beside their measurements, since the bigrams that this needs are too many to store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dynsim import Setup, TokenLaw, first_step, token_law
from dynsim._draws import normal
from dynsim._programs import program
from dynsim.laboratory import token_updates
from dynsim.theory import head_step
from dynsim.tokens import Bigrams, bigrams_of, counted_bigrams
from experiments.topics._seeds import run_seed
from experiments.topics._study import Cell, Study, grid

from .head_rules import HEAD_BATCHES, HEAD_MUON, HEAD_RULES
from .networks import LAYERS, HeadNetwork


def _unit_rates(seed: int, **fields: Any) -> Setup:
    """A setup with learning rate 1 and residuals of size 1 (targets are signs)."""
    shared = {"targets": "sign", "embedding_lr": 1.0, "projection_lr": 1.0, "seed": run_seed(seed)}
    return Setup(**{"optimizer": "sign", "epsilon": 1e-8, **shared, **fields})


def _weighted(setup: Setup, seeds: int) -> dict[str, tuple[Sequence[str], Any]]:
    """Frequency-weighted mean square of the three first updates, seed by seed."""
    updates = token_updates(setup, seeds)
    frequencies = setup.law().frequencies
    values = np.stack([getattr(updates, name) @ frequencies for name in UPDATES_OF["layer"]])
    return {"mean_square": (("layer", "seed"), values)}


UPDATES_OF = {"layer": ["projection", "embedding", "cross"]}


@partial(program, static_argnames=("samples", "neurons"))
def _sums(key: Array, correlation: float | Array, samples: int, neurons: int) -> Array:
    """Means of sum u sign(v), its square and sign(u) sign(v), from sampled Gaussian pairs."""
    x, y = normal(key, (2, samples, neurons), "float64")
    u = correlation * x + jnp.sqrt(1 - correlation**2) * y
    total = jnp.sum(u * jnp.sign(x), axis=-1)
    return jnp.stack([total.mean(), (total**2).mean(), (jnp.sign(u) * jnp.sign(x)).mean()])


def _kernel(correlation: float, seeds: int, samples: int, neurons: int, seed: int = 0) -> Any:
    """Sums of u sign(v) over neurons and of sign(u) sign(v), from sampled Gaussian pairs."""
    keys = jax.random.split(jax.random.key(run_seed(seed, round(1000 * correlation))), seeds)
    measure = partial(_sums, correlation=correlation, samples=samples, neurons=neurons)
    values = np.stack([measure(key) for key in keys], axis=-1)
    return {"moment": (("quantity", "seed"), values)}


KERNEL = Study(
    "kernel",
    cells=lambda full: grid(correlation=(0.05, 0.2, 0.5, 0.8)),
    measure=_kernel,
    config=lambda full: {"seeds": 8, "samples": 320_000 if full else 80_000, "neurons": 8},
    labels={"quantity": ["sum_mean", "sum_square", "sign_agreement"]},
)


def _update_cell(width: int, vocab_size: int, seeds: int, outputs: int, seed: int = 0) -> Any:
    setup = _unit_rates(seed, width=width, vocab_size=vocab_size, outputs=outputs)
    return _weighted(setup, seeds)


def _update_cells(full: bool) -> list[Cell]:
    widths = (32, 64, 128, 256, 512, 1024, *((2048,) if full else ()))
    vocab_sizes = (4, 16, 64, 256, 1024, 4096, 16384) if full else (4, 64, 512, 4096)
    limit = 2**25 if full else 2**20
    square = [cell for cell in grid(width=widths, vocab_size=vocab_sizes)]
    proportional = [{"width": d, "vocab_size": 2 * d} for d in widths if d <= 512]
    unique = {tuple(cell.values()): cell for cell in (*square, *proportional)}
    cells = [c for c in unique.values() if c["width"] * c["vocab_size"] <= limit]
    return cells if full else [c for c in cells if _on_a_path(**c)]


def _on_a_path(width: int, vocab_size: int) -> bool:
    """Whether a cell lies on one of the lines along which the quick version reads exponents."""
    fixed = (vocab_size == 4 and width >= 64) or vocab_size == 4096
    return fixed or vocab_size == 2 * width or width == 256


UPDATES = Study(
    "updates",
    cells=_update_cells,
    measure=_update_cell,
    config=lambda full: {"seeds": 64 if full else 16, "outputs": 8},
    labels=UPDATES_OF,
)


def _rank_cell(
    width: int, tokens: str, vocab_size: int, seeds: int, outputs: int, seed: int = 0
) -> Any:
    """First-step mean square of every token, averaged over outputs, by rank."""
    setup = _unit_rates(seed, width=width, vocab_size=vocab_size, tokens=tokens, outputs=outputs)
    updates = token_updates(setup, seeds)
    return {
        "mean_square": (("seed", "rank"), updates.projection.astype(np.float32)),
        "frequency": (("rank",), setup.law().frequencies),
    }


RANK_VOCAB_SIZE = 2048


RANK_WIDTHS = (128, 256, 512, 1024)
RANKS = Study(
    "ranks",
    cells=lambda full: grid(tokens=("zipf:1", "corpus"), width=RANK_WIDTHS),
    measure=_rank_cell,
    config=lambda full: {"seeds": 24 if full else 16, "outputs": 16, "vocab_size": RANK_VOCAB_SIZE},
    labels={"rank": range(1, RANK_VOCAB_SIZE + 1)},
)


def _batch_cell(
    width: int, batch_size: int, vocab_size: int, seeds: int, outputs: int, seed: int = 0
) -> Any:
    """Mean square of tokens in the batch (weighted by their share) and outside it."""
    setup = _unit_rates(
        seed, width=width, vocab_size=vocab_size, batch_size=batch_size, outputs=outputs
    )
    updates = token_updates(setup, seeds)
    absent = updates.batch_share == 0
    values = np.stack(
        [
            np.sum(updates.projection * updates.batch_share, axis=-1),
            np.sum(updates.projection * absent, axis=-1) / absent.sum(axis=-1),
        ]
    )
    return {"mean_square": (("tokens", "seed"), values)}


BATCHES = Study(
    "batches",
    cells=lambda full: grid(width=(512,), batch_size=(64, 256, 1024)),
    measure=_batch_cell,
    config=lambda full: {"seeds": 16 if full else 6, "outputs": 8, "vocab_size": 4096},
    labels={"tokens": ["in batch", "outside"]},
)


ZIPF_MAP_WIDTH = 256


def _zipf_cell(alpha: float, mu: float, seeds: int, outputs: int, seed: int = 0) -> Any:
    """Mean square at two widths and the same law: the local exponent between them."""
    vocab_size = round(ZIPF_MAP_WIDTH**mu)
    values = [
        _weighted(
            _unit_rates(
                seed, width=width, vocab_size=vocab_size, tokens=f"zipf:{alpha}", outputs=outputs
            ),
            seeds,
        )["mean_square"][1]
        for width in (ZIPF_MAP_WIDTH // 2, ZIPF_MAP_WIDTH * 2)
    ]
    return {"mean_square": (("side", "layer", "seed"), np.stack(values))}


ZIPF_MAP = Study(
    "zipf_map",
    cells=lambda full: grid(
        alpha=(0.0, 0.25, 0.5, 0.75, 1.0, 1.25), mu=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    ),
    measure=_zipf_cell,
    config=lambda full: {"seeds": 16 if full else 4, "outputs": 8},
    labels={**UPDATES_OF, "side": ["narrow", "wide"]},
)

HEAD_CASES = {
    # name: token law, what follows a token, vocabulary size, outputs
    "text 256": ("corpus", "bigram", 256, 256),
    "text 1024": ("corpus", "bigram", 1024, 1024),
    "text 1024, 64 classes": ("corpus", "bigram", 1024, 64),
    "text 4096": ("corpus", "bigram", 4096, 4096),
    "text 16384": ("corpus", "bigram", 16384, 16384),
    "zipf random 512": ("zipf:1", "random:8", 512, 512),
    "zipf one-hot 512": ("zipf:1", "onehot", 512, 512),
    "zipf random 4096": ("zipf:1", "random:8", 4096, 4096),
}
HEAD_CELLS = (
    *(("text 256", 64), ("zipf random 512", 64), ("zipf one-hot 512", 64)),
    *(("text 1024", width) for width in (64, 256)),
    ("text 1024, 64 classes", 256),
    *(("text 4096", width) for width in (64, 256, 1024)),
    *(("text 16384", width) for width in (64, 256)),
    ("zipf random 4096", 256),
)
THEORIES = ("bigrams", "shuffled bigrams", "equal residuals")


def _head_cell(case: str, width: int, blocks: int, work: int, seed: int = 0) -> Any:
    """Mean squares of target and other logits after one sign step, and what theory derives.

    Blocks are means over several networks where these are small. `shuffled bigrams`: theory for
    bigrams whose targets are dealt out anew to the pairs.
    """
    tokens, targets, m, n = HEAD_CASES[case]
    law = token_law(tokens, m)
    bigrams = bigrams_of(targets, law, n)
    count = max(1, work // (m * m * width))
    values = np.array(
        [
            np.mean(
                [
                    HeadNetwork.drawn(
                        bigrams, law.frequencies, width, run_seed(seed, count * block + network)
                    ).mean_squares()
                    for network in range(count)
                ],
                axis=0,
            )
            for block in range(blocks)
        ]
    )
    random = np.random.default_rng(0)
    shuffled = counted_bigrams(
        bigrams.context,
        random.permutation(bigrams.target),
        law.frequencies[bigrams.context] * bigrams.probability,
        m,
        n,
    )
    equal = float(first_step("projection", "sign", width, law).rms) ** 2
    derived = [
        [_derived(layer, width, law, one) for layer in LAYERS]
        for one in (bigrams, replace(shuffled, frequencies=None))
    ]
    derived.append([[equal, equal] if layer == "head" else [np.nan] * 2 for layer in LAYERS])
    if n < m:
        values[:, LAYERS.index("tied")] = np.nan
    return {
        "mean_square": (("seed", "layer", "logits"), values),
        "derived_square": (("theory", "layer", "logits"), np.array(derived)),
    }


def _derived(layer: Any, width: int, law: TokenLaw, bigrams: Bigrams) -> list[float]:
    if layer == "tied" and bigrams.outputs < law.vocab_size:
        return [np.nan, np.nan]
    return (head_step(layer, "sign", width, law, bigrams).rms[:2, 0] ** 2).tolist()


HEADS = Study(
    "heads",
    # In full runs alone: the few networks of a quick one leave one percent open.
    cells=lambda full: [
        {"case": case, "width": width} for case, width in (HEAD_CELLS if full else ())
    ],
    measure=_head_cell,
    config=lambda full: {"blocks": 6, "work": 2**30},
    labels={"layer": list(LAYERS), "logits": ["target", "other"], "theory": list(THEORIES)},
)

STUDIES = (KERNEL, UPDATES, RANKS, BATCHES, ZIPF_MAP, HEADS, HEAD_RULES, HEAD_MUON, HEAD_BATCHES)
