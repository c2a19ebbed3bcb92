"""Linear networks with many outputs, stepped in numpy: a route that shares no code with theory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dynsim import Setup

Floats = NDArray[np.float64]
BETA1, BETA2, TINY = 0.9, 0.999, 1e-14


def losses(setup: Setup, rows: Floats, seed: int) -> Floats:
    """Loss at every step in full batch on uniform tokens, under sign descent or Adam."""
    random = np.random.default_rng([setup.seed, setup.output_count, seed])
    m, n, d = setup.vocab_size, setup.output_count, setup.width
    weights = [
        random.standard_normal((m, d)),
        setup.projection_std * random.standard_normal((n, d)),
    ]
    rates = setup.embedding_lr, setup.projection_lr
    means, squares = ([np.zeros_like(one) for one in weights] for _ in range(2))
    found = []
    for step in range(1, setup.steps + 1):
        outputs = weights[0] @ weights[1].T
        if setup.loss_name == "mse":
            residual = outputs - rows
            found.append(0.5 * np.sum(residual**2) / m)
        else:
            outputs = outputs - outputs.max(axis=1, keepdims=True)
            logs = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
            residual = np.exp(logs) - rows
            found.append(-np.sum(rows * logs) / m)
        gradients = residual @ weights[1] / m, residual.T @ weights[0] / m
        for place, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
            if setup.optimizer == "sign":
                moved = np.sign(gradient)
            else:
                means[place] += (1 - BETA1) * (gradient - means[place])
                squares[place] += (1 - BETA2) * (gradient**2 - squares[place])
                size = np.sqrt(squares[place] / (1 - BETA2**step)) + TINY
                moved = means[place] / (1 - BETA1**step) / size
            weights[place] = weights[place] - rate * moved
    return np.array(found)
