"""Where a gradient flow starts: effective tokens and neurons in place of a whole vocabulary.

Three exact facts make a flow of 10^5 tokens small.

**Tokens.** Gradient flow is invariant under a rotation of the weighted tokens, so that few
effective tokens do (`_krylov`).

**Neurons.** Gradient flow is invariant under a rotation of the neurons. For uniform tokens only
the n + r rows of W and of the r effective target tokens are random within an eigenspace of the
other tokens' Gram matrix, so a share q of all neurons is n + r columns of length sqrt(q d): the
Marchenko-Pastur law at its Gauss nodes gives a finite network whose flow is the limit.

**Particles.** A smoothed sign is not invariant under rotations. At fixed vocabulary its infinite
width is a sum over neuron particles, each standing for d/N neurons.

Source: docs/theory/gradient_flow.md#flow-limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import derivations
from derivations import flow_symbols as x
from dynsim._compiled import evaluate
from dynsim._errors import InputError
from dynsim._initial import check_memory, initial_weights, seed_keys
from dynsim._setup import Experiment, Setup
from dynsim._targets import targets

from ._krylov import krylov_size, krylov_tokens

FlowLimit = Literal["finite", "infinite", "proportional"]

CheckSize = Callable[[int, int], object]  # raises for (tokens, columns) of too large a state


@dataclass(frozen=True, eq=False)
class FlowStart:
    """Effective tokens and the weights that a flow starts from.

    **Fields:**

    - `frequencies`, `targets`: of M effective tokens.
    - `embedding`, `projection`: f = neurons_each W e; without neurons (None, None)
      the Grams are those of infinite width, `embedding_square` 1 and `projection_square` 1.
    - `neurons_each`: how many neurons a column stands for.
    - `embedding_square`, `projection_square`: d sigma_E^2 and d sigma_W^2.
    - `exact`: the reduction has no error.
    - `hidden`: matrices of the hidden layers; None where there are none.
    - `reached`: the last time at which these weights flow as the limit does.
    """

    frequencies: Float[np.ndarray, " M"]
    targets: Float[np.ndarray, "M n"]
    embedding: Float[np.ndarray, "M D"] | None
    projection: Float[np.ndarray, "n D"] | None
    neurons_each: float
    embedding_square: float
    projection_square: float
    exact: bool
    hidden: Float[np.ndarray, "depth D D"] | None = None
    reached: float = math.inf


def finite_start(
    setup: Setup, nodes: int, network: int, check_size: CheckSize, *, reduce: bool
) -> FlowStart:
    """A network that `train` draws (float64), its tokens reduced where that saves any.

    Raises `InputError` for weights or a reduction that do not fit the memory, and what
    `check_size` raises.
    """
    check_memory(setup, "float64")
    law = setup.law().frequencies
    count = int(np.count_nonzero(law))
    if not reduce or krylov_size(law[:count], setup.output_count + setup.width, nodes) >= count:
        check_size(count, setup.width)
    key = seed_keys(setup, [network])[0]
    sizes = setup.vocab_size, setup.output_count, setup.width
    drawn = initial_weights(sizes, jnp.asarray(setup.projection_std), key, "float64")
    p, y, embedding = occurring_tokens(setup, np.asarray(drawn.embedding))
    exact = True
    if reduce:
        p, (y, embedding), exact = krylov_tokens(p, (y, embedding), nodes)
    return _start(setup, p, y, embedding, np.asarray(drawn.projection), 1.0, exact)


def infinite_start(setup: Setup, nodes: int) -> FlowStart:
    """Infinite width at fixed vocabulary: F = 0, G_E = sigma_E^2 d 1, G_W = sigma_W^2 d 1.

    Raises `InputError` for a reduction that does not fit the memory.
    """
    p, y, _ = occurring_tokens(setup, np.zeros((setup.vocab_size, 0)))
    p, (y, _), exact = krylov_tokens(p, (y, np.zeros((len(p), 0))), nodes)
    return _start(setup, p, y, None, None, 1.0, exact)


def proportional_start(setup: Setup, nodes: int, check_size: CheckSize) -> FlowStart:
    """Width and vocabulary large at a fixed ratio: a finite network that flows like the limit.

    Raises `InputError` unless the token law is uniform, and what `check_size`
    raises.
    """
    p_i = check_uniform(setup)
    n, d = setup.output_count, float(setup.width)
    effective = effective_targets(setup)
    r = len(effective)
    columns = n + r
    size = nodes * columns
    check_size(r + size, size)
    values, shares = marchenko_pastur_rule((setup.vocab_size - r) / d, nodes)
    scale = np.repeat(np.sqrt(d * shares), columns)
    which = np.tile(np.eye(columns), nodes)  # (n + r, D): column k of each node
    projection = setup.projection_std * scale * which[:n]
    embedding = np.concatenate(
        [scale * which[n:], np.diag(np.repeat(np.sqrt(d * values), columns))]
    )
    p = np.full(r + size, p_i)
    y = np.concatenate([effective, np.zeros((size, n))])
    return _start(setup, p, y, embedding, projection, 1.0, False)


def particle_start(
    setup: Setup, particles: int, check_size: CheckSize, *, halved: bool
) -> FlowStart:
    """Neuron particles (w_l, z_l) of infinite width: Gaussian, orthonormalised, so that F(0) = 0.

    `halved` takes half as many. Raises `InputError` for less than 2 (vocab_size + outputs), and
    what `check_size` raises.
    """
    p, y, _ = occurring_tokens(setup, np.zeros((setup.vocab_size, 0)))
    rows, count = len(p) + setup.output_count, particles // (2 if halved else 1)
    if particles < 2 * rows:
        raise InputError(
            "particles",
            particles,
            f"must be at least {2 * rows} for {len(p)} tokens and {setup.output_count} outputs",
        )
    check_size(len(p), count)
    random = np.random.default_rng([setup.seed, 0xF10E])
    frame, triangle = np.linalg.qr(random.standard_normal((count, rows)))
    drawn = np.sqrt(count) * (frame * np.sign(np.diag(triangle))).T
    embedding, projection = drawn[: len(p)], setup.projection_std * drawn[len(p) :]
    return _start(setup, p, y, embedding, projection, setup.width / count, False)


def marchenko_pastur_rule(
    aspect_ratio: float, nodes: int
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Gauss nodes and weights of the Marchenko-Pastur law, atom at 0 included.

    Source: `derivations.marchenko_pastur_recurrence`; Golub & Welsch (1969), Math. Comp. 23.
    """
    from scipy.linalg import eigh_tridiagonal

    first, later, square = evaluate(
        derivations.marchenko_pastur_recurrence(), {x.aspect_ratio: aspect_ratio}
    )
    diagonal = np.full(nodes, float(later))
    diagonal[0] = float(first)
    values, vectors = eigh_tridiagonal(diagonal, np.full(nodes - 1, float(square) ** 0.5))
    return np.maximum(values, 0), vectors[0] ** 2


def _start(
    setup: Setup,
    p: Float[np.ndarray, " M"],
    y: Float[np.ndarray, "M n"],
    embedding: Float[np.ndarray, "M D"] | None,
    projection: Float[np.ndarray, "n D"] | None,
    neurons_each: float,
    exact: bool,
) -> FlowStart:
    d = float(setup.width)
    squares = d, d * setup.projection_std**2
    return FlowStart(p, y, embedding, projection, neurons_each, *squares, exact)


def check_uniform(setup: Experiment) -> float:
    """The frequency of every token. Raises `InputError` unless it is one and the same."""
    law = setup.law().frequencies
    if np.ptp(law) > 1e-12 * law[0]:
        raise InputError(
            "tokens",
            setup.law_name,
            "must be uniform with `limit` proportional (other laws: `limit` infinite or finite, "
            "or predict with small learning rates)",
        )
    return float(law[0])


def effective_targets(setup: Experiment) -> Float[np.ndarray, "r n"]:
    """Targets of the r = rank Y rotated uniform tokens that carry all of them."""
    _, sizes, axes = np.linalg.svd(targets(setup), full_matrices=False)
    kept = sizes > 1e-12 * sizes[0]
    return sizes[kept, None] * axes[kept]


def occurring_tokens(
    setup: Experiment, embedding: Float[np.ndarray, "vocabulary D"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m n"], Float[np.ndarray, "m D"]]:
    """Frequencies, targets and embedding of the tokens that occur."""
    law = setup.law().frequencies
    count = int(np.count_nonzero(law))
    return law[:count], targets(setup, count), embedding[:count]
