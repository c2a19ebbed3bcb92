"""Turns on JAX's 64-bit types: the command line does it, a library must not."""


def enable_x64() -> None:
    """Float64 for theory and random batches; training asks for float32 by name."""
    import jax

    jax.config.update("jax_enable_x64", True)
