"""Training of any JAX function linearised about its parameters."""
