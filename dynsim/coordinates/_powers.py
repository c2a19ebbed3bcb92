"""What a parametrization says about every recorded term: powers of the width.

Gauge-free: a weight counts with its multiplier, so its entries start as d^w and a step of Adam
moves them by d^u, u = multiplier + learning rate. With z the inputs and v the power of what they
learn, the terms are

    W0 z0: w + 1/2,   dW z0: u + A,   W0 dz: w + v + Omega,   dW dz: u + v + U,

A between what the vocabulary leaves and 1, U between 1/2 and 1, Omega 1/2 and at the readout up to
1. Nothing may grow: an upper end above 0 is 0. Source:
docs/theory/parametrizations.md#stability-program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

import derivations
from dynsim._errors import InputError
from dynsim._layers import Label
from dynsim.statistics._exponents import log_slope
from dynsim.tokens._laws import token_law

DIVIDED_BY_HEAD_WIDTH = ("mup", "mfp", "umup", "lv")
OWN = "exponents:"
WRITTEN = "exponents:E,H,R:E,H,R, powers of the initial weights and of one update"


@dataclass(frozen=True)
class Band:
    """Powers of the width, from `low` to `high`."""

    low: float
    high: float

    def shifted(self, by: float) -> Band:
        """The band moved by a power."""
        return Band(self.low + by, self.high + by)


@dataclass(frozen=True)
class Powers:
    """Powers of the width by label: `weight` of the entries of W0, `update` of a step's entries.

    Multipliers are included; None where nothing is said. `scores`: of the head's width, in
    attention scores at the start: -1/2 where queries times keys are divided by the head's width,
    0 where they are divided by its root.
    """

    name: str
    weight: Mapping[Label, float | None]
    update: Mapping[Label, float]
    scores: float = 0.0


def parametrization_powers(name: str) -> Powers:
    """Powers of `sp`, `ntk`, `mup`, `mfp`, `umup`, `lv` with their largest stable rates under Adam,
    or those written as `exponents:0,-1/2,-1:0,-1,-1`: of the initial weights of embedding, hidden
    and readout, then of one update, each with the multiplier.

    Raises `InputError` for another name.

    **Example:**

    >>> from dynsim.coordinates import parametrization_powers
    >>> parametrization_powers("mup").update
    {'embedding': 0.0, 'hidden': -1.0, 'readout': -1.0, 'vector': 0.0}
    """
    if name.startswith(OWN):
        return _written(name)
    if name not in derivations.PARAMETRIZATIONS:
        known = ", ".join(derivations.PARAMETRIZATIONS)
        raise InputError("parametrization", name, f"must be one of {known}, or {WRITTEN}")
    solved = derivations.solve_stability(derivations.parametrization(name), "adam").parametrization
    weight: dict[Label, float | None] = {"vector": None}
    update: dict[Label, float] = {}
    for label, layer in solved.layers.items():
        weight[label] = float(layer.weight_std)
        update[label] = float(layer.multiplier + (layer.lr or 0))
    update["vector"] = float(solved.with_multipliers("adam").embedding.lr or 0)
    return Powers(name, weight, update, -0.5 if name in DIVIDED_BY_HEAD_WIDTH else 0.0)


def _written(name: str) -> Powers:
    triples = [part.split(",") for part in name.removeprefix(OWN).split(":")]
    allowed = f"must be {WRITTEN}, such as exponents:0,-1/2,-1:0,-1,-1"
    if len(triples) != 2 or any(len(triple) != 3 for triple in triples):
        raise InputError("parametrization", name, allowed)
    try:
        weight, update = ([derivations.as_exponent(text) for text in one] for one in triples)
    except ValueError:
        raise InputError("parametrization", name, allowed) from None
    return Powers(
        name,
        {**_by_label(weight), "vector": None},
        {**_by_label(update), "vector": float(update[0])},
    )


def _by_label(values: Sequence[Fraction]) -> dict[Label, float]:
    return {
        label: float(value) for label, value in zip(derivations.NETWORK_LAYERS, values, strict=True)
    }


def vocabulary_alignment(
    widths: Sequence[int], vocab_sizes: Sequence[int], tokens: str = "uniform"
) -> float:
    """The power A that the vocabulary leaves to a first update on initial embeddings.

    The least-squares power of the width in sqrt(d [1 + (2/pi)(d - 1) C]) over these widths, C the
    squared alignment of the token law at the vocabulary of each width, in full batch: the least
    that a batch of such tokens can give. From 1/2 to 1.
    """
    squares = {m: token_law(tokens, m).mean_alignment_square for m in set(vocab_sizes)}
    sizes = [
        d * derivations.hidden_update_growth(int(d), 1, squares[m], "adam")
        for d, m in zip(widths, vocab_sizes, strict=True)
    ]
    found = log_slope(np.log(np.asarray(widths, float)), np.log(np.asarray(sizes, float)))
    return float(np.clip(found, 0.5, 1.0))


def term_bands(
    powers: Powers,
    label: str,
    least: float,
    *,
    reads_embedding: bool = False,
    tied: bool = False,
    head_growth: float = 0.0,
) -> dict[str, Band]:
    """The powers that each term of a module of this label may have.

    `least` is what the vocabulary leaves of A to a matrix that reads the embedding alone. Matrices
    further up read contexts, of which a batch holds as many as tokens: for them A may be 1/2.
    `head_growth` the power of the width in the width of
    an attention head. A tied readout reads features that hold its own
    rows, so that W0 z0 may add up coherently.
    """
    if label == "scores":
        start = powers.scores * head_growth
        return {"initial": Band(-np.inf, start), "update": Band(-np.inf, 0.0)}
    if label == "outputs":
        start = powers.weight["readout"] or 0.0
        return {"initial": Band(-np.inf, max(start + 0.5, 0.0)), "update": Band(-np.inf, 0.0)}
    kind: Label = next(one for one in powers.update if one == label)
    w, u = powers.weight[kind], powers.update[kind]
    bands: dict[str, Band] = {"weight_update": Band(u, u)}
    if w is None:
        return bands
    bands["weight"] = Band(w, w)
    if label == "embedding":
        return bands
    moved = powers.update["embedding"]
    inner = powers.update["hidden"]
    slowest = moved if reads_embedding else min(moved, inner + 0.5)
    fastest = moved if reads_embedding else max(moved, inner + 1)
    follows = 1.0 if label == "readout" else 0.5
    own = least if reads_embedding else 0.5
    bands |= {
        "initial": Band(w + 0.5, w + (1.0 if tied else 0.5)),
        "update_on_initial": Band(u + own, u + 1),
        "initial_on_learned": Band(slowest + w + 0.5, fastest + w + follows),
        "update_on_learned": Band(slowest + u + 0.5, fastest + u + 1),
    }
    stable = {term: Band(min(b.low, 0.0), min(b.high, 0.0)) for term, b in bands.items()}
    return stable | {"weight": bands["weight"], "weight_update": bands["weight_update"]}


def gain_bands(
    powers: Powers, label: str, least: float, *, tied: bool = False
) -> dict[str, tuple[str, Band]]:
    """What a matrix makes of its inputs: for each term the inputs, and the powers of their ratio.

    A term that leaves its band while its gain does not has been handed the excess from below.
    """
    if label not in ("hidden", "readout"):
        return {}
    kind: Label = "hidden" if label == "hidden" else "readout"
    w, u = powers.weight[kind] or 0.0, powers.update[kind]
    follows = 1.0 if label == "readout" else 0.5
    return {
        "initial": ("input", Band(w + 0.5, w + (1.0 if tied else 0.5))),
        "update_on_initial": ("input", Band(u + least, u + 1)),
        "initial_on_learned": ("learned_input", Band(w + 0.5, w + follows)),
        "update_on_learned": ("learned_input", Band(u + 0.5, u + 1)),
    }
