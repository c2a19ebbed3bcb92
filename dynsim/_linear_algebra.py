"""Decompositions of matrices, which several programs may compute at the same time.

On a CPU jaxlib (before 0.11.2) hands the matrices of a batch to the pool of threads in which the
program itself runs, and waits for them there. Where as many programs do so at the same time as the
pool has threads, two on two cores, all of them wait for ever. A matrix by itself is not handed to
the pool. So a `vmap` of these functions takes one matrix after the other on a CPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float


def eigh(matrix: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Eigenvalues, in ascending order, and eigenvectors of a symmetric matrix."""
    return (_eigh_one_by_one if _in_turn(matrix) else _eigh)(matrix)


def spectral_norm(matrix: Float[Array, "m n"]) -> Float[Array, ""]:
    """The largest singular value."""
    return (_norms_one_by_one if _in_turn(matrix) else _spectral_norm)(matrix)


def _in_turn(matrix: Array) -> bool:
    return jax.default_backend() == "cpu" and matrix.shape[-1] > 1  # 1 x 1 is not handed over


def _eigh(matrix: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


def _spectral_norm(matrix: Array) -> Array:
    return jnp.linalg.norm(matrix, 2)


_eigh_one_by_one, _norms_one_by_one = sequential_vmap(_eigh), sequential_vmap(_spectral_norm)
