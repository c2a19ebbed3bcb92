"""Small timing scripts; each prints a table: python -m benchmarks.NAME."""
