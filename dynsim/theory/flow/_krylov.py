"""Effective tokens: few that flow as a whole vocabulary does.

With F' = P^(1/2) F and likewise Y', E' the flow reads dE'/dt = -eta_E P (F' - Y') W,
dW/dt = -eta_W (F' - Y')^T E', and loss and update RMS are plain norms. An orthogonal rotation of
the tokens turns P into another symmetric matrix and changes nothing else. So everything happens in
the Krylov space of P that Y' and E'(0) span, and at infinite width, where E'(0) E'(0)^T ~ P and
F(0) = 0, in that of Y' alone. A law of g distinct frequencies needs g blocks (a uniform law: one);
a smaller number of blocks is a block Gauss rule in p, which converges exponentially.
Source: docs/theory/gradient_flow.md#token-reduction.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dynsim._errors import InputError

NEW_DIRECTION = 1e-13  # smallest new part of a Krylov block, relative to the largest frequency
SMALLEST_FREQUENCY = 1e-15  # relative; what is rarer is rounding
MAX_BASIS = 2**27  # numbers in a Krylov basis: 1 GiB

Columns = tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m D"]]
EffectiveColumns = tuple[Float[np.ndarray, "M n"], Float[np.ndarray, "M D"]]


def krylov_size(p: Float[np.ndarray, " m"], columns: int, blocks: int) -> int:
    """The most directions that `blocks` blocks of `columns` columns can have."""
    return columns * min(blocks, len(np.unique(p)))


def krylov_tokens(
    p: Float[np.ndarray, " m"], columns: Columns, blocks: int
) -> tuple[Float[np.ndarray, " M"], EffectiveColumns, bool]:
    """Frequencies and columns (of targets, of embedding) of effective tokens; and whether exact.

    Rayleigh-Ritz in the Krylov space of P = diag p that the columns of P^(1/2) [Y, E] span, with
    `blocks` blocks. Tokens are left alone where that would not reduce their number.
    """
    widths = [part.shape[1] for part in columns]
    root = np.sqrt(p)[:, None]
    wanted = root * np.concatenate(columns, axis=1)
    most = krylov_size(p, wanted.shape[1], blocks)
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
