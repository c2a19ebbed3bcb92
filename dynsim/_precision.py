"""Precision: theory and random batches need 64-bit types, which JAX leaves off by default."""

from __future__ import annotations

import jax


def require_x64() -> None:
    """Raises `RuntimeError` unless JAX's 64-bit types are on."""
    if not jax.config.read("jax_enable_x64"):
        raise RuntimeError(
            "dynsim needs 64-bit types: call jax.config.update('jax_enable_x64', True) before "
            "the first computation, or set JAX_ENABLE_X64=1 (the dynsim command does it itself)"
        )
