"""The quantities whose exponents can be asked for, by name."""
