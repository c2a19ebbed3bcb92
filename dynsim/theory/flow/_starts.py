"""Where a gradient flow starts: effective tokens and neurons in place of a whole vocabulary.

Three exact facts make a flow of 10^5 tokens small.

**Tokens.** With F' = P^(1/2) F and likewise Y', E' the flow reads dE'/dt = -eta_E P (F' - Y') W,
dW/dt = -eta_W (F' - Y')^T E', and loss and update RMS are plain norms. An orthogonal rotation of
the tokens turns P into another symmetric matrix and changes nothing else. So everything happens in
the Krylov space of P that Y' and E'(0) span, and at infinite width, where E'(0) E'(0)^T ~ P and
F(0) = 0, in that of Y' alone. A law of g distinct frequencies needs g blocks (a uniform law: one);
fewer blocks are a block Gauss rule in p, which converges exponentially.

**Neurons.** Gradient flow is invariant under a rotation of the neurons. For uniform tokens only
the n + r rows of W and of the r effective target tokens are random within an eigenspace of the
other tokens' Gram matrix, so a share q of all neurons is n + r columns of length sqrt(q d): the
Marchenko-Pastur law at its Gauss nodes gives a finite network whose flow is the limit.

**Particles.** A smoothed sign is not invariant under rotations. At fixed vocabulary its infinite
width is a sum over neuron particles, each standing for d/N neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import flow_symbols as x
from dynsim._compiled import evaluate
from dynsim._errors import InputError
from dynsim._initial import check_memory, initial_weights, seed_keys
from dynsim._setup import Setup
from dynsim._targets import targets

FlowLimit = Literal["finite", "infinite", "proportional"]

NEW_DIRECTION = 1e-13  # smallest new part of a Krylov block, relative to the largest frequency
SMALLEST_FREQUENCY = 1e-15  # relative; what is rarer is rounding
MAX_BASIS = 2**27  # numbers in a Krylov basis: 1 GiB

Floats = NDArray[np.float64]
Fits = Callable[[int, int], object]  # refuses (tokens, columns) of too large a state


@dataclass(frozen=True, eq=False)
class FlowStart:
    """Effective tokens and the weights that a flow starts from.

    **Fields:**

    - `frequencies` (M,), `targets` (M, n).
    - `embedding` (M, D), `projection` (n, D): f = neurons_each W e; without neurons (None, None)
      the Grams are those of infinite width, `embedding_square` 1 and `projection_square` 1.
    - `neurons_each`: how many neurons a column stands for.
    - `embedding_square`, `projection_square`: d sigma_E^2 and d sigma_W^2.
    - `exact`: the reduction has no error.
    """

    frequencies: Floats
    targets: Floats
    embedding: Floats | None
    projection: Floats | None
    neurons_each: float
    embedding_square: float
    projection_square: float
    exact: bool


def finite_start(setup: Setup, nodes: int, network: int, fits: Fits, *, reduce: bool) -> FlowStart:
    """A network that `train` draws (float64), its tokens reduced where that saves any.

    Raises `InputError` for weights or a reduction that do not fit the memory, and what `fits`
    raises.
    """
    check_memory(setup, "float64")
    law = setup.law().frequencies
    count = int(np.count_nonzero(law))
    if not reduce or _krylov_size(law[:count], setup.output_count + setup.width, nodes) >= count:
        fits(count, setup.width)
    key = seed_keys(setup, [network])[0]
    sizes = setup.vocab_size, setup.output_count, setup.width
    drawn = initial_weights(sizes, jnp.asarray(setup.projection_std), key, "float64")
    p, y, embedding = _heard(setup, np.asarray(drawn.embedding))
    exact = True
    if reduce:
        p, (y, embedding), exact = _krylov_tokens(p, (y, embedding), nodes)
    return _start(setup, p, y, embedding, np.asarray(drawn.projection), 1.0, exact)


def infinite_start(setup: Setup, nodes: int) -> FlowStart:
    """Infinite width at fixed vocabulary: F = 0, G_E = sigma_E^2 d 1, G_W = sigma_W^2 d 1.

    Raises `InputError` for a reduction that does not fit the memory.
    """
    p, y, _ = _heard(setup, np.zeros((setup.vocab_size, 0)))
    p, (y, _), exact = _krylov_tokens(p, (y, np.zeros((len(p), 0))), nodes)
    return _start(setup, p, y, None, None, 1.0, exact)


def proportional_start(setup: Setup, nodes: int, fits: Fits) -> FlowStart:
    """Width and vocabulary large at a fixed ratio: a finite network that flows like the limit.

    Raises `InputError` unless the token law is uniform, and what `fits` raises.
    """
    law = setup.law().frequencies
    if np.ptp(law) > 1e-12 * law[0]:
        raise InputError(
            "tokens",
            setup.law_name,
            "must be uniform with `limit` proportional (other laws: `limit` infinite or finite, "
            "or predict with small learning rates)",
        )
    n, d = setup.output_count, float(setup.width)
    _, sizes, axes = np.linalg.svd(targets(setup), full_matrices=False)
    kept = sizes > 1e-12 * sizes[0]
    effective = sizes[kept, None] * axes[kept]  # (r, n)
    r = len(effective)
    columns = n + r
    size = nodes * columns
    fits(r + size, size)
    values, shares = marchenko_pastur_rule((setup.vocab_size - r) / d, nodes)
    scale = np.repeat(np.sqrt(d * shares), columns)
    which = np.tile(np.eye(columns), nodes)  # (n + r, D): column k of each node
    projection = setup.projection_std * scale * which[:n]
    embedding = np.concatenate(
        [scale * which[n:], np.diag(np.repeat(np.sqrt(d * values), columns))]
    )
    p = np.full(r + size, law[0])
    y = np.concatenate([effective, np.zeros((size, n))])
    return _start(setup, p, y, embedding, projection, 1.0, False)


def particle_start(setup: Setup, particles: int, fits: Fits, *, halved: bool) -> FlowStart:
    """Neuron particles (w_l, z_l) of infinite width: Gaussian, orthonormalised, so that F(0) = 0.

    `halved` takes half as many. Raises `InputError` for fewer than 2 (vocab_size + outputs), and
    what `fits` raises.
    """
    p, y, _ = _heard(setup, np.zeros((setup.vocab_size, 0)))
    rows, count = len(p) + setup.output_count, particles // (2 if halved else 1)
    if particles < 2 * rows:
        raise InputError(
            "particles",
            particles,
            f"must be at least {2 * rows} for {len(p)} tokens and {setup.output_count} outputs",
        )
    fits(len(p), count)
    random = np.random.default_rng([setup.seed, 0xF10E])
    frame, triangle = np.linalg.qr(random.standard_normal((count, rows)))
    drawn = np.sqrt(count) * (frame * np.sign(np.diag(triangle))).T
    embedding, projection = drawn[: len(p)], setup.projection_std * drawn[len(p) :]
    return _start(setup, p, y, embedding, projection, setup.width / count, False)


def marchenko_pastur_rule(aspect_ratio: float, nodes: int) -> tuple[Floats, Floats]:
    """Gauss nodes and weights of the Marchenko-Pastur law, atom at 0 included: shapes (nodes,).

    Source: `derivations.marchenko_pastur_recurrence`; Golub & Welsch 1969.
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
    p: Floats,
    y: Floats,
    embedding: Floats | None,
    projection: Floats | None,
    neurons_each: float,
    exact: bool,
) -> FlowStart:
    d = float(setup.width)
    squares = d, d * setup.projection_std**2
    return FlowStart(p, y, embedding, projection, neurons_each, *squares, exact)


def _heard(setup: Setup, embedding: Floats) -> tuple[Floats, Floats, Floats]:
    """Frequencies, targets and embedding of the tokens that occur."""
    law = setup.law().frequencies
    count = int(np.count_nonzero(law))
    return law[:count], targets(setup, count), embedding[:count]


def _krylov_size(p: Floats, columns: int, blocks: int) -> int:
    """The most directions that `blocks` blocks of `columns` columns can have."""
    return columns * min(blocks, len(np.unique(p)))


def _krylov_tokens(
    p: Floats, columns: tuple[Floats, Floats], blocks: int
) -> tuple[Floats, tuple[Floats, Floats], bool]:
    """Frequencies and columns (of targets, of embedding) of effective tokens; and whether exact.

    Rayleigh-Ritz in the Krylov space of P = diag p that the columns of P^(1/2) [Y, E] span, with
    `blocks` blocks. Tokens are left alone where that would not make them fewer.
    """
    widths = [part.shape[1] for part in columns]
    root = np.sqrt(p)[:, None]
    wanted = root * np.concatenate(columns, axis=1)
    most = _krylov_size(p, wanted.shape[1], blocks)
    if most >= len(p):
        return p, columns, True
    if most * len(p) > MAX_BASIS:
        raise InputError(
            "nodes",
            blocks,
            f"times {wanted.shape[1]} columns of {len(p)} tokens must be at most {MAX_BASIS} "
            "numbers",
        )
    basis, filled = np.zeros((len(p), most)), 0
    block, scale = wanted, float(np.linalg.norm(wanted))
    exact = blocks >= len(np.unique(p))
    for _ in range(blocks):
        for _ in range(2):  # the second time removes what rounding left
            block = block - basis[:, :filled] @ (basis[:, :filled].T @ block)
        vectors, sizes, _ = np.linalg.svd(block, full_matrices=False)
        fresh = vectors[:, sizes > NEW_DIRECTION * scale]
        count = fresh.shape[1]
        if count == 0:
            exact = True
            break
        basis[:, filled : filled + count] = fresh
        filled += count
        block, scale = p[:, None] * fresh, float(p[0])
    basis = basis[:, :filled]
    rotated, axes = np.linalg.eigh(basis.T @ (p[:, None] * basis))
    kept = rotated > SMALLEST_FREQUENCY * rotated[-1]
    effective = (axes.T @ (basis.T @ wanted))[kept] / np.sqrt(rotated[kept])[:, None]
    y, embedding = np.split(effective, widths[:1], axis=1)
    return rotated[kept], (y, embedding), exact
