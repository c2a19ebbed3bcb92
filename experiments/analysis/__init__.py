"""What commands read from stored runs: optima, transfer across width, coordinate checks."""
